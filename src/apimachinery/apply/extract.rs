//! The set of fields that an object has: what its applier owns.

use serde_json::Value;

use super::element::PathElement;
use super::set::{Node, Set};
use super::types::{Fields, List, Shape, Type};
use crate::schema::ListType;

/// The fields of an object.
pub(super) fn field_set(value: &Value, ty: Type<'_>) -> Set {
    visit(value, ty).1
}

/// Whether the value itself is a field, and the fields below it.
fn visit(value: &Value, ty: Type<'_>) -> (bool, Set) {
    match ty.shape(Some(value)) {
        Shape::Scalar(_) => (true, Set::default()),
        Shape::List(list) if list.relation == ListType::Atomic => (true, Set::default()),
        Shape::List(list) => (false, items(value, &list)),
        Shape::Map(fields) if fields.atomic => (true, Set::default()),
        Shape::Map(fields) => (false, named(value, &fields)),
    }
}

fn items(value: &Value, list: &List<'_>) -> Set {
    let Some(items) = value.as_array() else { return Set::default() };
    let mut elements = Vec::with_capacity(items.len());
    for item in items {
        // Pruning an object can leave nulls in it, which hold the list's place.
        let element = list.element(item).unwrap_or(PathElement::Value(Value::Null));
        elements.push((element, item));
    }
    elements.sort_by(|a, b| a.0.cmp(&b.0));
    let mut nodes = Vec::with_capacity(elements.len());
    for same in elements.chunk_by_mut(|a, b| a.0 == b.0) {
        let element = std::mem::replace(&mut same[0].0, PathElement::Index(0));
        // Items of the same key are owned as one, with nothing below.
        let below = match same {
            [(_, item)] => visit(item, list.items).1,
            _ => Set::default(),
        };
        nodes.push(Node { element, member: true, below });
    }
    Set::from_nodes(nodes)
}

fn named(value: &Value, fields: &Fields<'_>) -> Set {
    let mut set = Set::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        let (mut member, below) = visit(value, fields.field(name).unwrap_or(Type::Deduced));
        let empty = value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
        member |= empty || !fields.declares(name);
        set.push(PathElement::Field(name.as_str().into()), member, below);
    }
    set
}
