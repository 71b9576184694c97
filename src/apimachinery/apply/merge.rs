//! Merging an applied configuration into an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::types::{List, Shape, Type};
use crate::schema::ListType;

/// Merges a configuration, which has been validated, into an object. What the configuration does
/// not mention stays.
pub(super) fn merge(object: &mut Value, config: &Value, ty: Type<'_>) -> Result<(), String> {
    match ty.shape(Some(config)) {
        Shape::Scalar(_) => *object = config.clone(),
        Shape::List(list) => {
            let empty = |v: &Value| v.as_array().is_none_or(Vec::is_empty);
            if list.relation == ListType::Atomic || empty(object) && empty(config) {
                *object = config.clone();
            } else if let Some(config) = config.as_array() {
                let items = match object.take() {
                    Value::Array(items) => items,
                    _ => Vec::new(),
                };
                *object = Value::Array(merge_items(items, config, &list)?);
            }
        }
        Shape::Map(fields) => {
            let empty = |v: &Value| v.as_object().is_none_or(Map::is_empty);
            if fields.atomic || empty(object) && empty(config) {
                *object = config.clone();
                return Ok(());
            }
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            let Value::Object(object) = object else { return Ok(()) };
            for (name, value) in config.as_object().into_iter().flatten() {
                match object.get_mut(name) {
                    Some(field) => {
                        merge(field, value, fields.field(name).unwrap_or(Type::Deduced))?;
                    }
                    None => {
                        object.insert(name.clone(), value.clone());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Where an item of a merged list comes from, by its place there.
enum Source {
    Live(usize),
    Config(usize),
}

/// Merges the items of a list that is a set or a map.
fn merge_items(live: Vec<Value>, config: &[Value], list: &List<'_>) -> Result<Vec<Value>, String> {
    let elements = |items: &[Value]| -> Result<Vec<PathElement>, String> {
        items.iter().map(|item| list.element(item)).collect()
    };
    let (lefts, rights) = (elements(&live)?, elements(config)?);
    let mut places: BTreeMap<&PathElement, Option<usize>> = BTreeMap::new();
    for (i, element) in lefts.iter().enumerate() {
        places.entry(element).and_modify(|place| *place = None).or_insert(Some(i));
    }
    let mut live: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(lefts.len().max(rights.len()));
    for source in arrange(&lefts, &rights, &places) {
        match source {
            Source::Live(left) => merged.extend(live[left].take()),
            Source::Config(right) => merged.push(match places.get(&rights[right]) {
                None => config[right].clone(),
                Some(place) => {
                    // Items of the same key are not merged: the configuration's replaces them.
                    let left = place.and_then(|i| live[i].take());
                    let mut item = left.unwrap_or_default();
                    merge(&mut item, &config[right], list.items)?;
                    item
                }
            }),
        }
    }
    Ok(merged)
}

/// The order of a merged list: the items of the configuration in its order, and the other live
/// items where they were between those that both lists have.
fn arrange(
    lefts: &[PathElement],
    rights: &[PathElement],
    places: &BTreeMap<&PathElement, Option<usize>>,
) -> Vec<Source> {
    let wanted: BTreeMap<&PathElement, usize> =
        rights.iter().enumerate().map(|(i, element)| (element, i)).collect();
    let mut shared = rights.iter().filter(|element| places.contains_key(element)).peekable();
    let mut taken = vec![false; rights.len()];
    let mut order = Vec::with_capacity(lefts.len().max(rights.len()));
    let (mut left, mut right) = (0, 0);
    while left < lefts.len() || right < rights.len() {
        if let (Some(a), Some(b)) = (lefts.get(left), rights.get(right)) {
            if a == b {
                taken[right] = true;
                order.push(Source::Config(right));
                left += 1;
                right += 1;
                shared.next();
                continue;
            }
            if wanted.contains_key(a) && shared.peek().is_some_and(|next| *next != a) {
                // Both lists have it, but the configuration has another one first.
                left += 1;
                continue;
            }
        }
        if let Some(element) = lefts.get(left) {
            match wanted.get(element) {
                None => {
                    order.push(Source::Live(left));
                    left += 1;
                    continue;
                }
                Some(at) if taken[*at] => left += 1,
                Some(_) => {}
            }
        }
        if let Some(element) = rights.get(right) {
            taken[right] = true;
            order.push(Source::Config(right));
            if shared.peek().is_some_and(|next| *next == element) {
                shared.next();
            }
            right += 1;
        }
    }
    order
}
