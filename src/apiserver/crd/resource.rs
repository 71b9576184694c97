//! From an established CustomResourceDefinition to a resource.

use std::sync::Arc;

use apimachinery::{GroupResource, GroupVersionKind, Object, schema};
use serde_json::{Value, json};
use storage::Collection;

use super::{Definition, PrinterColumn, VersionFacts, rules, webhook::Conversion};
use crate::{
    kinds::Hooks,
    registry::resource::{Resource, Traits, Version},
    subresources::scale::Paths,
};

/// The rules of all custom resources: what their schema says.
struct Custom;

impl Hooks for Custom {}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(ToOwned::to_owned).collect()
}

/// The group and plural of a definition.
pub fn group_resource(definition: &Value) -> GroupResource {
    let spec = &definition["spec"];
    GroupResource::new(text(spec, "group"), text(&spec["names"], "plural"))
}

/// All verbs of an ordinary resource, sorted.
const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Builds the resource of `definition`, whose objects are in `collection`. Nothing when no version
/// is served, or its schema cannot be read (which validation does not let happen).
pub fn build(object: &Object, definition: &Value, collection: Collection) -> Option<Resource> {
    let spec = &definition["spec"];
    let accepted = &definition["status"]["acceptedNames"];
    let group = text(spec, "group");
    let kind = text(accepted, "kind");
    let list_kind = text(accepted, "listKind");
    let namespaced = text(spec, "scope") != "Cluster";
    let mut storage = None;
    let mut built: Vec<(Version, VersionFacts)> = Vec::new();
    let mut has_defaults = false;
    for version in spec["versions"].as_array().into_iter().flatten() {
        let name = text(version, "name");
        let gvk = GroupVersionKind::new(group, name, kind);
        if version["storage"] == true {
            storage = Some(gvk.clone());
        }
        if version["served"] != true {
            continue;
        }
        let open_api = &version["schema"]["openAPIV3Schema"];
        has_defaults |= mentions_default(open_api, 0);
        let Ok(schema) = schema::from_crd(open_api) else { continue };
        let (subresources, scale) = subresources(&version["subresources"], &gvk);
        let facts = schema::Resource {
            group: group.to_owned(),
            version: name.to_owned(),
            plural: text(accepted, "plural").to_owned(),
            singular: text(accepted, "singular").to_owned(),
            kind: kind.to_owned(),
            list_kind: list_kind.to_owned(),
            namespaced,
            verbs: owned(ALL_VERBS),
            short_names: texts(accepted, "shortNames"),
            categories: texts(accepted, "categories"),
            storage_version_hash: None,
            returns_deleted: false,
            subresources,
        };
        let mut served = Version::new(facts, schema);
        served.deprecation = deprecation(version, group, name, kind);
        let facts = VersionFacts {
            name: name.into(),
            scale,
            columns: columns(version),
            selectable: selectable(version),
            rules: rules::compile(open_api).map(Arc::new),
        };
        built.push((served, facts));
    }
    let storage = storage?;
    if built.is_empty() {
        return None;
    }
    built.sort_by_key(|(version, _)| {
        std::cmp::Reverse(crate::discovery::plain::version_priority(&version.gvk.version))
    });
    let (versions, facts): (Vec<_>, Vec<_>) = built.into_iter().unzip();
    let stored = definition["status"]["storedVersions"].as_array().map_or(0, Vec::len);
    Some(Resource {
        group_resource: group_resource(definition),
        namespaced,
        storage,
        collection: Some(collection),
        versions,
        hooks: &Custom,
        traits: Traits::default(),
        definition: Some(Arc::new(Definition {
            name: (*object.key.name).into(),
            uid: (*object.uid).into(),
            revision: object.revision,
            is_rewritten: has_defaults || stored > 1,
            versions: facts,
            conversion: Conversion::of(definition),
            terminating: super::conditions::is_true(definition, "Terminating"),
        })),
    })
}

/// Whether a schema sets a default anywhere.
fn mentions_default(schema: &Value, depth: usize) -> bool {
    let Some(fields) = schema.as_object().filter(|_| depth < 512) else { return false };
    fields.iter().any(|(name, value)| match name.as_str() {
        "default" => true,
        "properties" => value
            .as_object()
            .is_some_and(|all| all.values().any(|one| mentions_default(one, depth + 1))),
        "items" | "additionalProperties" => mentions_default(value, depth + 1),
        _ => false,
    })
}

fn deprecation(version: &Value, group: &str, name: &str, kind: &str) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    Some(match version["deprecationWarning"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("{group}/{name} {kind} is deprecated"),
    })
}

/// A simple JSONPath of a definition (`.spec.replicas`) as a JSON pointer.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn subresources(
    given: &Value,
    own: &GroupVersionKind,
) -> (Vec<schema::Subresource>, Option<Paths>) {
    let mut all = Vec::new();
    let mut paths = None;
    let mut add = |name: &str, kind: &GroupVersionKind| {
        all.push(schema::Subresource {
            name: name.to_owned(),
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            kind: kind.kind.to_string(),
            verbs: owned(&["get", "patch", "update"]),
        });
    };
    let scale = &given["scale"];
    if scale.is_object() {
        add("scale", &GroupVersionKind::new("autoscaling", "v1", "Scale"));
        paths = Some(Paths {
            spec: pointer(text(scale, "specReplicasPath")),
            status: pointer(text(scale, "statusReplicasPath")),
            selector: scale["labelSelectorPath"].as_str().filter(|p| !p.is_empty()).map(pointer),
        });
    }
    if given["status"].is_object() {
        add("status", own);
    }
    (all, paths)
}

fn columns(version: &Value) -> Vec<PrinterColumn> {
    let given = version["additionalPrinterColumns"].as_array().filter(|list| !list.is_empty());
    let age = [json!({
        "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "CreationTimestamp is a timestamp representing the server time when this \
                        object was created. It is not guaranteed to be set in happens-before order \
                        across separate operations. Clients may not set this value. It is \
                        represented in RFC3339 form and is in UTC.\n\nPopulated by the system. \
                        Read-only. Null for lists. More info: \
                        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
    })];
    let list: &[Value] = given.map_or(&age, Vec::as_slice);
    list.iter()
        .map(|column| {
            let name = text(column, "name");
            let description = match text(column, "description") {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    text(column, "jsonPath")
                ),
                text => text.to_owned(),
            };
            PrinterColumn {
                definition: json!({
                    "name": name, "type": text(column, "type"), "format": text(column, "format"),
                    "description": description,
                    "priority": column["priority"].as_i64().unwrap_or(0),
                }),
                kind: text(column, "type").into(),
                path: text(column, "jsonPath").into(),
            }
        })
        .collect()
}

fn selectable(version: &Value) -> Vec<Box<str>> {
    let list = version["selectableFields"].as_array().into_iter().flatten();
    list.map(|field| text(field, "jsonPath").trim_start_matches('.').into()).collect()
}
