//! OpenAPI v3: one document a group version.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Dialect, Kind, components::Components, custom, definition_name, paths};

const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const PATCH_DESCRIPTION: &str =
    "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.";

/// The document of a group version, as JSON text.
pub fn document(group: &str, version: &str, kinds: &[Kind<'_>]) -> Vec<u8> {
    let mut components = Components::new(Dialect::V3, Some((group, version)));
    let own = kinds.iter().any(|kind| kind.custom.is_none());
    let title = if own { "Kubernetes" } else { "Kubernetes CRD Swagger" };
    let release = if own { "1.37" } else { "v0.1.0" };
    let info = json!({"title": title, "version": release});
    let mut out = Writer::new(format!("{{\"openapi\":\"3.0.0\",\"info\":{info},\"paths\":{{"));
    let mut writer = paths::Paths { components: &mut components, dialect: Dialect::V3 };
    if own && let Some(kind) = kinds.first() {
        let root = super::v3_path(group, version);
        out.member(&format!("/{root}/"), &paths::discovery(kind.resource, Dialect::V3));
        writer.components.want("io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList");
    }
    for kind in kinds {
        for (path, item) in writer.of(kind) {
            out.member(&path, &item);
        }
    }
    out.next("},\"components\":{\"schemas\":{");
    definitions(&mut components, kinds, Dialect::V3, |name, schema| out.member(name, schema));
    out.next("}");
    if own {
        let token = json!({"BearerToken": {
            "description": "Bearer Token authentication",
            "in": "header",
            "name": "authorization",
            "type": "apiKey",
        }});
        out.next(&format!(",\"securitySchemes\":{token}"));
    }
    out.next("}}");
    out.bytes
}

/// The definitions of kinds, and of everything that they and their paths refer to.
pub(super) fn definitions(
    components: &mut Components,
    kinds: &[Kind<'_>],
    dialect: Dialect,
    mut write: impl FnMut(&str, &Value),
) {
    for kind in kinds {
        let r = kind.resource;
        let name = definition_name(kind, &r.kind);
        let list = definition_name(kind, &r.list_kind);
        match kind.custom {
            Some(schema) => {
                write(&name, &custom::object(kind, schema, dialect));
                write(&list, &custom::list(kind, &name, dialect));
                components.want("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
                components.want("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
            }
            None => {
                components.want(&name);
                if r.verbs.iter().any(|verb| verb == "watch") {
                    components.want("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent");
                }
            }
        }
    }
    let patched = |kind: &Kind<'_>| {
        let r = kind.resource;
        let verbs = r.subresources.iter().flat_map(|sub| &sub.verbs).chain(&r.verbs);
        verbs.into_iter().any(|verb| verb == "patch")
    };
    if kinds.iter().any(patched) {
        write(PATCH, &json!({"description": PATCH_DESCRIPTION, "type": "object"}));
    }
    // Each type may want others, which come in the next round.
    let mut written = BTreeSet::new();
    loop {
        let next = components.wanted.iter().filter(|(name, _)| !written.contains(*name));
        let next: Vec<_> = next.map(|(name, id)| (name.clone(), *id)).collect();
        if next.is_empty() {
            return;
        }
        for (name, id) in next {
            write(&name, &components.component(id));
            written.insert(name);
        }
    }
}

/// Writes JSON piece by piece.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    first: bool,
}

impl Writer {
    pub(super) fn new(start: String) -> Self {
        Writer { bytes: start.into_bytes(), first: true }
    }

    /// A member of the object that is open.
    pub(super) fn member(&mut self, key: &str, value: &Value) {
        let comma = if self.first { "" } else { "," };
        self.first = false;
        self.bytes.extend_from_slice(comma.as_bytes());
        self.bytes.extend_from_slice(Value::from(key).to_string().as_bytes());
        self.bytes.push(b':');
        self.bytes.extend_from_slice(value.to_string().as_bytes());
    }

    /// Punctuation, behind which the next member is the first.
    pub(super) fn next(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.first = true;
    }
}
