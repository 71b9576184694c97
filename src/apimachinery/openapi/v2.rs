//! OpenAPI v2: one document of everything, as JSON or as gnostic's protobuf.

use serde_json::{Value, json};

use super::{
    Dialect, Kind,
    components::Components,
    gnostic, paths,
    v3::{Writer, definitions},
};

/// The document of all kinds, as JSON text.
pub fn document(kinds: &[Kind<'_>]) -> Vec<u8> {
    let info = info();
    let mut out = Writer::new(format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{"));
    let mut components = Components::new(Dialect::V2, None);
    each_path(&mut components, kinds, |path, item| out.member(path, item));
    out.next("},\"definitions\":{");
    definitions(&mut components, kinds, Dialect::V2, |name, schema| out.member(name, schema));
    let token = token();
    out.next(&format!(
        "}},\"securityDefinitions\":{token},\"security\":[{{\"BearerToken\":[]}}]}}"
    ));
    out.bytes
}

/// The same in protobuf, as clients ask for it by [`V2_PROTOBUF`](super::V2_PROTOBUF).
pub fn protobuf(kinds: &[Kind<'_>]) -> Vec<u8> {
    let mut out = gnostic::start(&info(), &token());
    let mut components = Components::new(Dialect::V2, None);
    each_path(&mut components, kinds, |path, item| gnostic::path(&mut out, path, item));
    definitions(&mut components, kinds, Dialect::V2, |name, schema| {
        gnostic::definition(&mut out, name, schema);
    });
    out
}

fn each_path(components: &mut Components, kinds: &[Kind<'_>], mut write: impl FnMut(&str, &Value)) {
    let mut writer = paths::Paths { components, dialect: Dialect::V2 };
    for kind in kinds {
        for (path, item) in writer.of(kind) {
            write(&path, &item);
        }
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "1.37"})
}

fn token() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication",
        "in": "header",
        "name": "authorization",
        "type": "apiKey",
    }})
}
