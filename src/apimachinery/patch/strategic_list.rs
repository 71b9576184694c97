//! Lists of strategic merge patches: merged by key or as sets of scalars, with the items of the
//! patch in the patch's order and the others between them where the live list has them.
//!
//! Upstream compares every item with every other; here each key is looked up once.

use std::collections::HashMap;

use serde_json::Value;

use super::PatchError;
use super::strategic::{
    DIRECTIVE, FieldFacts, bad_order, merge_map, remove_directives, unknown_directive,
};
use crate::quote::{go_type, go_value};

/// The first place of each key (or scalar) in a list.
type Places = HashMap<Value, usize>;

/// An item with its places in the live list and in the list that orders the patch's items.
struct Placed {
    item: Value,
    live: Option<usize>,
    order: Option<usize>,
}

/// Merges a patch into a list with the merge strategy.
pub(super) fn merge_list(
    live: Vec<Value>,
    patch: Vec<Value>,
    facts: &FieldFacts,
) -> Result<Vec<Value>, PatchError> {
    if live.is_empty() && patch.is_empty() {
        return Ok(live);
    }
    if !holds_objects(&live, &patch)? {
        let (places, order) = (places(&live, None)?, places(&patch, None)?);
        return Ok(arrange(unique(live, patch), None, &places, &order));
    }
    let key = facts.merge_key().ok_or_else(|| {
        PatchError::Internal("cannot merge lists without merge key for struct".to_owned())
    })?;
    let merged = merge_objects(live, patch, key, facts)?;
    Ok(arrange(merged.items, Some(key), &merged.live, &merged.order))
}

/// Merges the patch for a list that has a `$setElementOrder`; none where there is nothing to set.
pub(super) fn order_list(
    live: Option<Vec<Value>>,
    patch: Option<Vec<Value>>,
    order: Vec<Value>,
    facts: &FieldFacts,
) -> Result<Option<Vec<Value>>, PatchError> {
    let key = facts.merge_key();
    check_order(patch.as_deref().unwrap_or_default(), &order, key)?;
    let nothing = Vec::new();
    let objects = match (&live, &patch) {
        (None, None) => return Ok(None),
        (live, patch) => {
            let (live, patch) = (live.as_ref(), patch.as_ref());
            if live.is_none_or(Vec::is_empty) && patch.is_none_or(Vec::is_empty) {
                let why = "no elements in any of the given slices";
                return Err(PatchError::Internal(why.to_owned()));
            }
            holds_objects(live.unwrap_or(&nothing), patch.unwrap_or(&nothing))?
        }
    };
    if objects && key.is_none() {
        let why = "cannot merge lists without merge key for struct";
        return Err(PatchError::Internal(why.to_owned()));
    }
    let key = key.filter(|_| objects);
    let (merged, live_places) = match (live, patch) {
        (None, None) => return Ok(None),
        (Some(live), None) => {
            let places = places(&live, key)?;
            (live, places)
        }
        (None, Some(patch)) => {
            let mut patch = Value::Array(patch);
            remove_directives(&mut patch);
            let Value::Array(patch) = patch else { return Ok(None) };
            (patch, Places::new())
        }
        (Some(live), Some(patch)) if !facts.merges() => (patch, places(&live, key)?),
        (Some(live), Some(patch)) => match key {
            None => {
                let places = places(&live, None)?;
                (merge_list(live, patch, facts)?, places)
            }
            Some(key) => {
                let Merged { items, live, order, seen_live } =
                    merge_objects(live, patch, key, facts)?;
                (arrange(items, Some(key), &live, &order), seen_live)
            }
        },
    };
    let order = places_of_order(&order, key)?;
    check_keys(&merged, key)?;
    Ok(Some(arrange(merged, key, &live_places, &order)))
}

/// Whether the items are objects; all items of both lists have to be of one type.
pub(super) fn holds_objects(live: &[Value], patch: &[Value]) -> Result<bool, PatchError> {
    let mut items = live.iter().chain(patch);
    let first = items.next().map(go_type).unwrap_or_default();
    if first == "[]interface {}" {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    // Upstream fails over a null; it has no type.
    if first.starts_with('%') || items.any(|item| go_type(item) != first) {
        let shown = |list: &[Value]| go_value(&Value::Array(list.to_vec()));
        return Err(PatchError::Internal(format!(
            "list element types are not identical: [{} {}]",
            shown(live),
            shown(patch)
        )));
    }
    Ok(first.starts_with("map"))
}

/// Objects merged by key.
struct Merged {
    items: Vec<Value>,
    /// Places of the keys in the live list, after deletions.
    live: Places,
    /// Places of the keys in the patch.
    order: Places,
    /// Places of the keys in the live list as upstream sees it when it orders the result again:
    /// in its memory the first appended items have taken the room of the deleted ones.
    seen_live: Places,
}

/// Deletes, replaces, merges and appends objects by key.
fn merge_objects(
    mut live: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    facts: &FieldFacts,
) -> Result<Merged, PatchError> {
    let (mut kept, mut replace) = (Vec::with_capacity(patch.len()), false);
    let mut deleted = std::collections::HashSet::new();
    for item in patch {
        match item.get(DIRECTIVE).cloned() {
            None => kept.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    deleted.insert(key_of(&item, key)?.clone());
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    let why = "merging lists cannot yet be specified in the patch";
                    return Err(PatchError::Internal(why.to_owned()));
                }
                _ => {
                    let object = item.as_object().cloned().unwrap_or_default();
                    return Err(unknown_directive(&go_value(&directive), object));
                }
            },
        }
    }
    let room = live.len();
    if !deleted.is_empty() {
        live.retain(|item| item.get(key).is_none_or(|k| !deleted.contains(k)));
    }
    let mut live_places = Places::with_capacity(live.len());
    for (i, item) in live.iter().enumerate() {
        if let Some(k) = item.get(key) {
            live_places.entry(k.clone()).or_insert(i);
        }
    }
    let order = places(&kept, Some(key))?;
    if replace {
        let none = Places::new();
        return Ok(Merged { items: kept, live: order, order: none, seen_live: live_places });
    }
    let items = facts.items();
    let mut appended = Places::new();
    for item in kept {
        let k = key_of(&item, key)?.clone();
        let at = live_places.get(&k).or(appended.get(&k)).copied();
        match (at.and_then(|at| live[at].as_object_mut()), item) {
            (Some(object), Value::Object(patch)) => merge_map(object, patch, items.as_ref())?,
            (_, item) => {
                appended.insert(k, live.len());
                live.push(item);
            }
        }
    }
    check_keys(&live, Some(key))?;
    let mut seen_live = live_places.clone();
    seen_live.extend(appended.into_iter().filter(|(_, at)| *at < room));
    Ok(Merged { items: live, live: live_places, order, seen_live })
}

/// The order of a merged list: items that `order` knows are in its order, the others in that of
/// the live list; the two are interleaved so that the others keep their place where possible.
fn arrange(merged: Vec<Value>, key: Option<&str>, live: &Places, order: &Places) -> Vec<Value> {
    let (mut ordered, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let place = |places: &Places| match key {
            Some(key) => item.get(key).and_then(|k| places.get(k)).copied(),
            None => places.get(&item).copied(),
        };
        let (live, order) = (place(live), place(order));
        let list = if order.is_some() { &mut ordered } else { &mut others };
        list.push(Placed { live, order, item });
    }
    ordered.sort_by_key(|placed| placed.order);
    others.sort_by_key(|placed| placed.live.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(ordered.len() + others.len());
    let mut others = others.into_iter().peekable();
    for next in ordered {
        let before =
            |other: &Placed| matches!((other.live, next.live), (Some(a), Some(b)) if a < b);
        while let Some(other) = others.next_if(before) {
            arranged.push(other.item);
        }
        arranged.push(next.item);
    }
    arranged.extend(others.map(|other| other.item));
    arranged
}

/// The scalars of both lists, each once.
fn unique(live: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    live.into_iter().chain(patch).filter(|item| seen.insert(item.clone())).collect()
}

/// The first places of the items, or of their keys, all of which must have one.
fn places(list: &[Value], key: Option<&str>) -> Result<Places, PatchError> {
    let mut places = Places::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let name = match key {
            Some(key) => key_of(item, key)?,
            None => item,
        };
        if !places.contains_key(name) {
            places.insert(name.clone(), i);
        }
    }
    Ok(places)
}

/// As [`places`] for the list of a `$setElementOrder`.
fn places_of_order(order: &[Value], key: Option<&str>) -> Result<Places, PatchError> {
    if let (Some(_), Some(i)) = (key, order.iter().position(|item| !item.is_object())) {
        return Err(PatchError::Internal(format!("value for key {i} is not a map")));
    }
    places(order, key)
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    let Some(fields) = item.as_object() else {
        return Err(PatchError::Internal(format!(
            "expected a map[string]interface {{}}, but received a {}",
            go_type(item)
        )));
    };
    fields.get(key).ok_or_else(|| {
        PatchError::Internal(format!(
            "map: {} does not contain declared merge key: {key}",
            go_value(item)
        ))
    })
}

fn check_keys(list: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let Some(key) = key else { return Ok(()) };
    list.iter().try_for_each(|item| key_of(item, key).map(drop))
}

/// The items of the patch have to come in the order that `$setElementOrder` has them in.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch {
        if item.get(DIRECTIVE).is_some() {
            continue;
        }
        let wanted = match key {
            Some(key) => key_of(item, key)?,
            None => item,
        };
        let mut found = false;
        for next in rest.by_ref() {
            let name = match key {
                Some(key) => key_of(next, key)?,
                None => next,
            };
            if name == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let shown = |list: &[Value]| go_value(&Value::Array(list.to_vec()));
            return Err(match key {
                None if wanted.is_object() => bad_order(),
                _ => PatchError::Internal(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    shown(patch),
                    shown(order)
                )),
            });
        }
    }
    Ok(())
}
