//! What an update adds, changes and removes, as sets of fields.

use serde_json::Value;

use super::element::{PathElement, equal_values};
use super::set::Set;
use super::types::{Fields, List, Shape, Type};
use crate::schema::ListType;

/// The difference between two objects; no field is in more than one of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn push(&mut self, element: PathElement, delta: Delta) {
        let Delta { added, modified, removed, below } = delta;
        // Most often only one of the three is there, and then the element is moved into it.
        let elsewhere =
            modified || removed || !below.modified.is_empty() || !below.removed.is_empty();
        if !elsewhere {
            return self.added.push(element, added, below.added);
        }
        self.added.push(element.clone(), added, below.added);
        self.modified.push(element.clone(), modified, below.modified);
        self.removed.push(element, removed, below.removed);
    }
}

/// What happened to one value and below it.
#[derive(Default)]
struct Delta {
    added: bool,
    modified: bool,
    removed: bool,
    below: Comparison,
}

impl Delta {
    fn union(&mut self, other: Delta) {
        self.added |= other.added;
        self.modified |= other.modified;
        self.removed |= other.removed;
        self.below.added.union(other.below.added);
        self.below.modified.union(other.below.modified);
        self.below.removed.union(other.below.removed);
    }
}

/// Compares two objects of one type.
pub(super) fn compare(old: &Value, new: &Value, ty: Type<'_>) -> Result<Comparison, String> {
    Ok(value(Some(old), Some(new), ty)?.below)
}

fn value(old: Option<&Value>, new: Option<&Value>, ty: Type<'_>) -> Result<Delta, String> {
    let mut delta = Delta::default();
    let leaf = match (old, new) {
        (Some(old), Some(new)) if old == new => return Ok(delta),
        (Some(a), Some(b)) if ty.differ(a, b) => {
            // Something of another shape: both are looked at, each with the other missing.
            let mut other = Delta::default();
            shape(old, new, ty.shape(old), &mut other)?;
            let leaf = shape(old, new, ty.shape(new), &mut delta)?;
            delta.union(other);
            leaf
        }
        (_, Some(_)) => shape(old, new, ty.shape(new), &mut delta)?,
        (_, None) => shape(old, new, ty.shape(old), &mut delta)?,
    };
    if !leaf {
        delta.added |= old.is_none();
        delta.removed |= new.is_none();
    }
    Ok(delta)
}

/// Returns whether the value is a leaf.
fn shape(
    old: Option<&Value>,
    new: Option<&Value>,
    shape: Shape<'_>,
    delta: &mut Delta,
) -> Result<bool, String> {
    let leaf = match shape {
        Shape::Scalar(_) => true,
        Shape::List(list) => {
            let (a, b) = (as_list(old), as_list(new));
            let leaf = list.relation == ListType::Atomic || a.is_empty() && b.is_empty();
            if !leaf {
                items(a, b, &list, &mut delta.below)?;
            }
            leaf
        }
        Shape::Map(fields) => {
            let (a, b) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let empty = |map: Option<&serde_json::Map<_, _>>| map.is_none_or(|map| map.is_empty());
            let leaf = fields.atomic || empty(a) && empty(b);
            if !leaf {
                named(a, b, &fields, &mut delta.below)?;
            }
            leaf
        }
    };
    if leaf {
        match (old, new) {
            (None, _) => delta.added = true,
            (_, None) => delta.removed = true,
            (Some(old), Some(new)) => delta.modified |= !equal_values(old, new),
        }
    }
    Ok(leaf)
}

fn as_list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

type Object = serde_json::Map<String, Value>;

fn named(
    old: Option<&Object>,
    new: Option<&Object>,
    fields: &Fields<'_>,
    out: &mut Comparison,
) -> Result<(), String> {
    let mut olds = old.into_iter().flatten().peekable();
    let mut news = new.into_iter().flatten().peekable();
    loop {
        let (name, mut a, mut b) = match (olds.peek(), news.peek()) {
            (Some((a, _)), Some((b, _))) if a == b => {
                let (name, a) = olds.next().unzip();
                (name, a, news.next().map(|(_, v)| v))
            }
            (Some((a, _)), Some((b, _))) if a > b => {
                let (name, b) = news.next().unzip();
                (name, None, b)
            }
            (None, Some(_)) => {
                let (name, b) = news.next().unzip();
                (name, None, b)
            }
            _ => {
                let (name, a) = olds.next().unzip();
                (name, a, None)
            }
        };
        let Some(name) = name else { return Ok(()) };
        if a.is_none() && old.is_some() {
            a = fields.stand_in(name);
        }
        if b.is_none() && new.is_some() {
            b = fields.stand_in(name);
        }
        let ty = fields.field(name).unwrap_or(Type::Deduced);
        let delta = value(a, b, ty).map_err(|e| below(&format!(".{name}"), e))?;
        out.push(PathElement::Field(name.as_str().into()), delta);
    }
}

fn items(
    old: &[Value],
    new: &[Value],
    list: &List<'_>,
    out: &mut Comparison,
) -> Result<(), String> {
    let (olds, news) = (index(old, list)?, index(new, list)?);
    let (mut olds, mut news) = (olds.as_slice(), news.as_slice());
    while let Some(element) = match (olds.first(), news.first()) {
        (Some((a, _)), Some((b, _))) => Some(a.min(b)),
        (a, b) => a.or(b).map(|(element, _)| element),
    } {
        let element = element.clone();
        let a = take_same(&mut olds, &element);
        let b = take_same(&mut news, &element);
        let compare = |a: Option<&(PathElement, &Value)>, b: Option<&(PathElement, &Value)>| {
            value(a.map(|(_, v)| *v), b.map(|(_, v)| *v), list.items)
                .map_err(|e| below(&element.to_string(), e))
        };
        // Items of the same key are compared as one value without fields.
        let delta = match (a.len(), b.len()) {
            (0..=1, 0..=1) => compare(a.first(), b.first())?,
            (0..=1, _) => {
                let gone = if a.is_empty() { Delta::default() } else { compare(a.first(), None)? };
                Delta { added: true, ..gone }
            }
            (_, 0..=1) => {
                let come = if b.is_empty() { Delta::default() } else { compare(None, b.first())? };
                Delta { removed: true, ..come }
            }
            _ => {
                let mut pairs = a.iter().zip(b);
                let same = a.len() == b.len() && pairs.all(|(a, b)| equal_values(a.1, b.1));
                Delta { modified: !same, ..Delta::default() }
            }
        };
        out.push(element, delta);
    }
    Ok(())
}

/// Takes the items of an element from the front of an index.
fn take_same<'i, 'v>(
    index: &mut &'i [(PathElement, &'v Value)],
    element: &PathElement,
) -> &'i [(PathElement, &'v Value)] {
    let same = index.iter().take_while(|(e, _)| e == element).count();
    let (taken, rest) = index.split_at(same);
    *index = rest;
    taken
}

/// The items by what identifies them, those of the same key in the order of the list.
fn index<'a>(items: &'a [Value], list: &List<'_>) -> Result<Vec<(PathElement, &'a Value)>, String> {
    let mut index = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        index.push((list.element(item).map_err(|e| format!(": element {i}: {e}"))?, item));
    }
    index.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(index)
}

/// An error of a value at the place where it is.
fn below(step: &str, error: String) -> String {
    format!("{step}{error}")
}
