//! Taking fields out of objects and fitting sets of fields to a schema.

use serde_json::Value;

use super::element::PathElement;
use super::set::Set;
use super::types::{Shape, Type};
use crate::schema::ListType;

/// Removes the fields of a set from an object. A list or map that loses all it has becomes null.
pub(super) fn remove(value: &mut Value, fields: &Set, ty: Type<'_>) {
    match ty.shape(Some(value)) {
        Shape::Scalar(_) => {}
        Shape::List(list) => {
            let Some(items) = value.as_array_mut().filter(|_| list.relation != ListType::Atomic)
            else {
                *value = Value::Null;
                return;
            };
            items.retain_mut(|item| {
                let Ok(element) = list.element(item) else { return true };
                let Some(node) = fields.get(&element) else { return true };
                if !node.member && !node.below.is_empty() {
                    remove(item, &node.below, list.items);
                }
                !node.member
            });
            if items.is_empty() {
                *value = Value::Null;
            }
        }
        Shape::Map(map) => {
            let Some(object) = value.as_object_mut().filter(|_| !map.atomic) else {
                *value = Value::Null;
                return;
            };
            object.retain(|name, value| {
                let Some(node) = fields.field(name) else { return true };
                if !node.member {
                    remove(value, &node.below, map.field(name).unwrap_or(Type::Deduced));
                }
                !node.member
            });
            if object.is_empty() {
                *value = Value::Null;
            }
        }
    }
}

/// Adds to a set the fields of declared objects that have members below them: `.spec` where
/// `.spec.replicas` is a member.
pub(super) fn with_named_parents(mut set: Set, ty: Type<'_>) -> Set {
    name_parents(&mut set, Some(ty));
    set
}

fn name_parents(set: &mut Set, ty: Option<Type<'_>>) {
    for node in set.nodes_mut().iter_mut().filter(|node| !node.below.is_empty()) {
        let shape = ty.map(|ty| ty.shape(None));
        let below = match (&node.element, shape) {
            (PathElement::Field(name), Some(Shape::Map(fields))) => {
                node.member |= fields.declares(name);
                fields.field(name)
            }
            (PathElement::Key(_), Some(Shape::List(list))) => Some(list.items),
            _ => None,
        };
        name_parents(&mut node.below, below);
    }
}

/// Fits a set to a schema that has changed since: what has become atomic is owned as a whole.
/// Returns whether anything changed.
pub(super) fn reconcile(set: &mut Set, ty: Type<'_>) -> bool {
    let shape = ty.shape(None);
    let mut changed = false;
    for node in set.nodes_mut().iter_mut().filter(|node| !node.below.is_empty()) {
        let below = match (&node.element, &shape) {
            (PathElement::Field(name), Shape::Map(fields)) => fields.field(name),
            (_, Shape::Map(_)) | (_, Shape::Scalar(_)) => None,
            (_, Shape::List(list)) => Some(list.items),
        };
        let Some(below) = below else { continue };
        if below.is_atomic() {
            node.member = true;
            node.below = Set::default();
            changed = true;
        } else {
            changed |= reconcile(&mut node.below, below);
        }
    }
    changed
}
