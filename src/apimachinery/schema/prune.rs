//! Custom resources: what their schema does not name is dropped, nulls that it does not allow are
//! dropped, and the metadata of objects, also of embedded ones, is read as that of built-in kinds.
//! Rules and order are those of upstream's `apiextensions-apiserver`.

use serde_json::{Map, Value};

use super::{
    builtin,
    crd::OBJECT_META,
    decode::Conform,
    graph::{BUILTIN, Graph, Kind, NONE, Node, NodeId, flag},
    trail::{Findings, Mismatch, Step, Trail},
};

/// Makes a value an object of a custom kind, as far as that needs no validation.
pub(super) fn custom(graph: &Graph, root: NodeId, value: &mut Value, findings: &mut Findings) {
    let Value::Object(map) = value else {
        // Upstream decodes into a Go map first.
        let text = match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            _ => "null",
        };
        findings.error = Some(format!(
            "json: cannot unmarshal {text} into Go value of type map[string]interface {{}}"
        ));
        return;
    };
    metadata(graph, graph.node(root), map, &Trail::ROOT, findings);
    if findings.error.is_some() {
        return;
    }
    let mut unknown = Vec::new();
    object(graph, graph.node(root), true, map, &Trail::ROOT, &mut unknown);
    report(unknown, findings);
    nulls(graph, root, value);
    embedded(graph, root, value, &Trail::ROOT, findings);
}

/// Drops from a value what the schema at a node does not name.
pub(super) fn below(graph: &Graph, id: NodeId, value: &mut Value) {
    prune(graph, id, value, &Trail::ROOT, &mut Vec::new());
}

fn report(mut unknown: Vec<String>, findings: &mut Findings) {
    unknown.sort();
    findings.strict.extend(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")));
}

/// Reads `metadata` as the built-in type.
fn metadata(
    graph: &Graph,
    node: &Node,
    map: &mut Map<String, Value>,
    trail: &Trail<'_>,
    findings: &mut Findings,
) {
    let Some(value) = map.get_mut("metadata") else { return };
    let meta = graph.field(node, "metadata").map_or(NONE, |field| field.node);
    if meta == NONE || meta & BUILTIN == 0 {
        return;
    }
    let trail = trail.then(Step::Key("metadata"));
    let meta = meta & !BUILTIN;
    let graph = builtin::graph();
    if !value.is_object() && !value.is_null() {
        let kind = match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "array",
        };
        findings.mismatch(graph, meta, &trail, Mismatch::Kind(kind.to_owned()));
        return;
    }
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    Conform { graph, findings }.value(meta, value, &trail, 0);
}

/// Drops the fields of an object that its schema does not name. `whole`: the object is a
/// Kubernetes object, whose own fields need no naming.
fn object(
    graph: &Graph,
    node: &Node,
    whole: bool,
    map: &mut Map<String, Value>,
    trail: &Trail<'_>,
    unknown: &mut Vec<String>,
) {
    let preserve = node.has(flag::PRESERVE_UNKNOWN);
    let values = (node.kind == Kind::Map).then_some(node.child);
    let mut dropped = Vec::new();
    for (key, value) in map.iter_mut() {
        if whole && OBJECT_META.contains(&key.as_str()) {
            continue;
        }
        let below = graph.field(node, key).map(|field| field.node).or(values);
        match below {
            Some(id) => prune(graph, id, value, &trail.then(Step::Key(key)), unknown),
            None if preserve => {}
            None => dropped.push(key.clone()),
        }
    }
    for key in dropped {
        unknown.push(trail.path(&key));
        map.remove(&key);
    }
}

fn prune(
    graph: &Graph,
    id: NodeId,
    value: &mut Value,
    trail: &Trail<'_>,
    unknown: &mut Vec<String>,
) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    match value {
        Value::Object(map) => {
            let whole = node.has(flag::EMBEDDED_RESOURCE);
            object(graph, node, whole, map, trail, unknown);
        }
        Value::Array(list) if node.kind == Kind::Array && node.child != NONE => {
            for (at, value) in list.iter_mut().enumerate() {
                prune(graph, node.child, value, &trail.then(Step::Index(at)), unknown);
            }
        }
        Value::Array(list) if !node.has(flag::PRESERVE_UNKNOWN) => {
            for (at, value) in list.iter_mut().enumerate() {
                prune(graph, id, value, &trail.then(Step::Index(at)), unknown);
            }
        }
        _ => {}
    }
}

/// Drops nulls where the schema allows none and has no default to put in their place.
fn nulls(graph: &Graph, id: NodeId, value: &mut Value) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    match value {
        Value::Object(map) => {
            let values = (node.kind == Kind::Map).then_some(node.child);
            map.retain(|key, value| {
                // Of these it is said what is wrong.
                if node.has(flag::EMBEDDED_RESOURCE) && matches!(&**key, "apiVersion" | "kind") {
                    return true;
                }
                let Some(id) = graph.field(node, key).map(|f| f.node).or(values) else {
                    return true;
                };
                if value.is_null() {
                    return stays_null(graph, id);
                }
                nulls(graph, id, value);
                true
            });
        }
        Value::Array(list) if node.kind == Kind::Array => {
            list.iter_mut().for_each(|value| nulls(graph, node.child, value));
        }
        _ => {}
    }
}

fn stays_null(graph: &Graph, id: NodeId) -> bool {
    if id == NONE || id & BUILTIN != 0 {
        return true;
    }
    let node = graph.node(id);
    node.has(flag::NULLABLE) || graph.facets(node).is_some_and(|f| f.default.is_some())
}

/// Checks and reads what embedded resources have of every Kubernetes object.
fn embedded(
    graph: &Graph,
    root: NodeId,
    value: &mut Value,
    trail: &Trail<'_>,
    findings: &mut Findings,
) {
    fn walk(
        graph: &Graph,
        id: NodeId,
        value: &mut Value,
        trail: &Trail<'_>,
        findings: &mut Findings,
    ) {
        if id == NONE || id & BUILTIN != 0 || findings.error.is_some() {
            return;
        }
        let node = graph.node(id);
        match value {
            Value::Object(map) => {
                if node.has(flag::EMBEDDED_RESOURCE) {
                    for key in ["apiVersion", "kind"] {
                        if let Some(value) = map.get(key).filter(|value| !value.is_string()) {
                            let path = crate::field::Path::root(&trail.path(key));
                            let error = crate::field::FieldError::invalid(
                                &path,
                                value.clone(),
                                "must be a string",
                            );
                            findings.error = Some(error.to_string());
                            return;
                        }
                    }
                    embedded_metadata(graph, node, map, trail, findings);
                }
                let values = (node.kind == Kind::Map).then_some(node.child);
                for (key, value) in map.iter_mut() {
                    if let Some(id) = graph.field(node, key).map(|f| f.node).or(values) {
                        walk(graph, id, value, &trail.then(Step::Key(key)), findings);
                    }
                }
            }
            Value::Array(list) if node.kind == Kind::Array => {
                for (at, value) in list.iter_mut().enumerate() {
                    walk(graph, node.child, value, &trail.then(Step::Index(at)), findings);
                }
            }
            _ => {}
        }
    }
    let before = findings.strict.len();
    walk(graph, root, value, trail, findings);
    findings.strict[before..].sort();
}

fn embedded_metadata(
    graph: &Graph,
    node: &Node,
    map: &mut Map<String, Value>,
    trail: &Trail<'_>,
    findings: &mut Findings,
) {
    let given = map.get("metadata").cloned();
    metadata(graph, node, map, trail, findings);
    if let (Some(error), Some(given)) = (findings.error.take(), given) {
        let path = crate::field::Path::root(&trail.path("metadata"));
        findings.error = Some(crate::field::FieldError::invalid(&path, given, &error).to_string());
    }
}
