//! The schemas inside of a custom resource's schema that may also be something else: `items`,
//! `additionalProperties` and the like read themselves in Go, and name no unknown fields.

use std::sync::OnceLock;

use serde_json::Value;

use super::{
    builtin,
    decode::Conform,
    graph::{Node, NodeId, Wire},
    trail::{Mismatch, Step, Trail},
};

/// The type of a custom resource's schema, which some of its own fields lead to.
pub(crate) fn node() -> NodeId {
    static NODE: OnceLock<NodeId> = OnceLock::new();
    *NODE.get_or_init(|| {
        const NAME: &str =
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        builtin::builtin_type(NAME).expect("the table has the schemas of custom resources").id()
    })
}

/// Whether a value of the node is a schema or something else.
pub(super) fn is_one(node: &Node) -> bool {
    matches!(node.wire, Wire::SchemaOrBool | Wire::SchemaOrArray | Wire::SchemaOrNames)
}

/// Makes canonical what is a schema or something else.
pub(super) fn conform(
    walk: &mut Conform<'_>,
    id: NodeId,
    value: &mut Value,
    trail: &Trail<'_>,
    depth: usize,
) {
    let wire = walk.graph.node(id).wire;
    walk.findings.muted += 1;
    match (wire, &mut *value) {
        (_, Value::Null) | (Wire::SchemaOrBool, Value::Bool(_)) => {}
        (_, Value::Object(_)) => walk.value(node(), value, trail, depth + 1),
        (Wire::SchemaOrArray, Value::Array(list)) => {
            for (at, value) in list.iter_mut().enumerate() {
                walk.value(node(), value, &trail.then(Step::Index(at)), depth + 1);
            }
        }
        (Wire::SchemaOrNames, Value::Array(_)) => {}
        (Wire::SchemaOrBool, _) => {
            let why = Mismatch::Message("boolean or JSON schema expected".to_owned());
            walk.findings.mismatch(walk.graph, id, trail, why);
        }
        _ => *value = Value::Null,
    }
    walk.findings.muted -= 1;
}
