//! The set of fields that an object has: what its applier owns.

use serde_json::Value;

use super::element::PathElement;
use super::set::{Node, Set};
use super::types::{Fields, List, Shape, Type};
use crate::schema::ListType;

/// The fields of an object.
pub(super) fn field_set(value: &Value, ty: Type<'_>) -> Result<Set, String> {
    Ok(visit(value, ty)?.1)
}

/// Whether the value itself is a field, and the fields below it.
fn visit(value: &Value, ty: Type<'_>) -> Result<(bool, Set), String> {
    match ty.shape(Some(value)) {
        Shape::Scalar(_) => Ok((true, Set::default())),
        Shape::List(list) if list.relation == ListType::Atomic => Ok((true, Set::default())),
        Shape::List(list) => Ok((false, items(value, &list)?)),
        Shape::Map(fields) if fields.atomic => Ok((true, Set::default())),
        Shape::Map(fields) => Ok((false, named(value, &fields)?)),
    }
}

fn items(value: &Value, list: &List<'_>) -> Result<Set, String> {
    let Some(items) = value.as_array() else { return Ok(Set::default()) };
    let mut elements = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        elements.push((list.element(item).map_err(|e| format!("element {i}: {e}"))?, item));
    }
    elements.sort_by(|a, b| a.0.cmp(&b.0));
    let mut nodes = Vec::with_capacity(elements.len());
    for same in elements.chunk_by_mut(|a, b| a.0 == b.0) {
        let element = std::mem::replace(&mut same[0].0, PathElement::Index(0));
        // Items of the same key are owned as one, with nothing below.
        let below = match same {
            [(_, item)] => visit(item, list.items)?.1,
            _ => Set::default(),
        };
        nodes.push(Node { element, member: true, below });
    }
    Ok(Set::from_nodes(nodes))
}

fn named(value: &Value, fields: &Fields<'_>) -> Result<Set, String> {
    let mut set = Set::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        let (mut member, below) = visit(value, fields.field(name).unwrap_or(Type::Deduced))?;
        let empty = value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
        member |= empty || !fields.declares(name);
        set.push(PathElement::Field(name.as_str().into()), member, below);
    }
    Ok(set)
}
