//! Rules that upstream declares beside the fields of its types (`+k8s:` tags), as data.
//!
//! They are looked at after a kind's own checks, in the order of the fields. On an update, what has
//! not changed is not looked at again. A rule that [`Rule::ends`] a value's checks comes before
//! those that do not; all of the former are looked at.

use apimachinery::{
    field::{FieldError, Path},
    names,
    schema::internal,
};
use serde_json::Value;

use super::{
    validation::{Errors, IMMUTABLE, Report as _},
    value::{Fields as _, same},
};

/// When a field counts as given.
#[derive(Clone, Copy)]
pub(crate) enum Given {
    /// A pointer: whenever it is there.
    There,
    /// A plain value, list or map: when it is not empty.
    Filled,
}

/// One rule of a field or type.
pub(crate) enum Rule {
    /// Without a value, nothing else is looked at.
    Optional(Given),
    /// There must be a value.
    Required(Given),
    /// May not change once it is there.
    Immutable,
    /// Where it has changed, nothing else is looked at: others say that it may not.
    Unchanged,
    /// May be set and unset, but not become another.
    Unmodified,
    /// As many items at most.
    MaxItems(usize),
    MaxBytes(usize),
    MaxLength(usize),
    /// A text of a form.
    Form(fn(&str, &Path, &mut Errors)),
    /// One of these, in order of the alphabet.
    Enum(&'static [&'static str]),
    /// No two items of that type alike in these fields; alike as a whole where there are none.
    Unique(&'static [&'static str], &'static str),
    /// Exactly one of these fields.
    OneOf(&'static [(&'static str, Given)]),
    /// What each item of a list or value of a map must be.
    Each(&'static [Rule]),
    /// The same of items that are told apart by these fields, so that those that have not changed
    /// are not looked at.
    EachBy(&'static [&'static str], &'static [Rule]),
    /// What each key of a map must be.
    EachKey(fn(&str, &Path, &mut Errors)),
    /// Fields of an object.
    Field(&'static str, &'static [Rule]),
}

use Rule::{
    Each, EachBy, EachKey, Enum, Field, Form, Immutable, MaxBytes, MaxItems, MaxLength, OneOf,
    Optional, Required, Unchanged, Unique, Unmodified,
};

impl Rule {
    /// Whether nothing else is looked at where this is not kept.
    fn ends(&self) -> bool {
        matches!(self, Optional(_) | Required(_) | Immutable | Unchanged | Unmodified | MaxItems(_))
    }
}

/// Adds what is found by rules to what a kind's own checks found. Where both say the same of a field,
/// the rules say it.
pub(crate) fn supersede(rules: &[Rule], old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let mut declared = Errors::new();
    check(rules, old, new, &Path::empty(), &mut declared);
    errors.retain(|error| {
        !declared.iter().any(|other| other.path == error.path && other.cause == error.cause)
    });
    errors.append(&mut declared);
}

/// Looks at a value by rules; `old` is what it replaces.
pub(crate) fn check(
    rules: &[Rule],
    old: Option<&Value>,
    new: &Value,
    path: &Path,
    errors: &mut Errors,
) {
    let mut kept = true;
    for rule in rules {
        if rule.ends() {
            kept &= apply(rule, old, new, path, errors);
        } else if kept {
            apply(rule, old, new, path, errors);
        }
    }
}

/// Whether the rule is kept.
fn apply(rule: &Rule, old: Option<&Value>, new: &Value, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    let text = new.as_str().unwrap_or_default();
    match rule {
        Optional(when) => return given(new, *when),
        Required(when) => {
            if !given(new, *when) {
                errors.required(path, "");
            }
        }
        Immutable => {
            if old.is_some_and(|old| !same(old, new)) {
                errors.invalid_nil(path, IMMUTABLE);
            }
        }
        Unchanged => return old.is_none_or(|old| same(old, new)),
        Unmodified => {
            if old.is_some_and(|old| !old.is_null() && !new.is_null() && !same(old, new)) {
                errors.invalid_nil(path, "field cannot be modified once set");
            }
        }
        MaxItems(most) => {
            let count = items(new).len();
            if count > *most {
                errors.push(FieldError::too_many(path, count, *most));
            }
        }
        MaxBytes(most) if text.len() > *most => errors.push(FieldError::too_long(path, *most)),
        MaxLength(most) if text.chars().count() > *most => {
            errors.push(FieldError::too_long_characters(path, *most));
        }
        MaxBytes(_) | MaxLength(_) => {}
        Form(form) => form(text, path, errors),
        Enum(allowed) if !allowed.contains(&text) => errors.unsupported(path, text, allowed),
        Enum(_) => {}
        Unique(keys, of) => unique(keys, of, new, path, errors),
        OneOf(members) => one_of(members, old, new, path, errors),
        Each(rules) => each(rules, old, new, path, errors),
        EachBy(keys, rules) => {
            for (at, item) in items(new).iter().enumerate() {
                let old = old.and_then(|old| items(old).iter().find(|it| alike(keys, it, item)));
                if old.is_none_or(|old| !same(old, item)) {
                    check(rules, old, item, &path.index(at), errors);
                }
            }
        }
        EachKey(form) => {
            for key in new.as_object().into_iter().flat_map(|map| map.keys()) {
                if old.is_none_or(|old| !old.has(key)) {
                    form(key, path, errors);
                }
            }
        }
        Field(name, rules) => {
            let (was, is) = (old.map(|old| &old[*name]), &new[*name]);
            if was.is_none_or(|was| !same(was, is)) {
                check(rules, was, is, &path.child(name), errors);
            }
        }
    }
    errors.len() == before
}

fn each(rules: &[Rule], old: Option<&Value>, new: &Value, path: &Path, errors: &mut Errors) {
    let Value::Object(map) = new else {
        for (at, item) in items(new).iter().enumerate() {
            check(rules, None, item, &path.index(at), errors);
        }
        return;
    };
    for (key, value) in map {
        let old = old.and_then(|old| old.get(key));
        if old.is_none_or(|old| !same(old, value)) {
            check(rules, old, value, &path.key(key), errors);
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn given(value: &Value, when: Given) -> bool {
    match (when, value) {
        (_, Value::Null) => false,
        (Given::There, _) => true,
        (Given::Filled, Value::String(text)) => !text.is_empty(),
        (Given::Filled, Value::Array(items)) => !items.is_empty(),
        (Given::Filled, Value::Object(map)) => !map.is_empty(),
        (Given::Filled, Value::Bool(on)) => *on,
        (Given::Filled, Value::Number(number)) => number.as_i64() != Some(0),
    }
}

fn alike(keys: &[&str], one: &Value, other: &Value) -> bool {
    match keys {
        [] => one == other,
        keys => keys.iter().all(|key| one.sub(key) == other.sub(key)),
    }
}

fn unique(keys: &[&str], of: &str, list: &Value, path: &Path, errors: &mut Errors) {
    let items = items(list);
    for (at, item) in items.iter().enumerate() {
        if items[..at].iter().any(|other| alike(keys, other, item)) {
            let shown = internal::show_versioned(of, item);
            errors.push(FieldError::duplicate_shown(&path.index(at), &shown, ""));
        }
    }
}

fn one_of(
    members: &[(&str, Given)],
    old: Option<&Value>,
    new: &Value,
    path: &Path,
    errors: &mut Errors,
) {
    let set = |of: &Value| -> Vec<&str> {
        let set = members.iter().filter(|(name, when)| given(&of[*name], *when));
        set.map(|(name, _)| *name).collect()
    };
    let specified = set(new);
    if specified.len() == 1 || old.is_some_and(|old| set(old) == specified) {
        return;
    }
    let all: Vec<String> = members.iter().map(|(name, _)| format!("`{name}`")).collect();
    let all = all.join(", ");
    if specified.is_empty() {
        return errors.invalid(path, "", &format!("must specify one of: {all}"));
    }
    let shown: Vec<String> = specified.iter().map(|name| format!("`{name}`")).collect();
    let shown = format!("{{{}}}", shown.join(", "));
    errors.invalid(path, shown, &format!("must specify exactly one of: {all}"));
}

/// What is declared counts bytes in its words too.
pub(crate) fn in_bytes(mut messages: Vec<String>) -> Vec<String> {
    for message in messages.iter_mut().filter(|it| it.ends_with(" characters")) {
        *message = message.replace(" characters", " bytes");
    }
    messages
}

/// A DNS label.
pub(crate) fn short_name(text: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, text, in_bytes(names::dns1123_label(text)));
}

/// A DNS subdomain.
pub(crate) fn long_name(text: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, text, in_bytes(names::dns1123_subdomain(text)));
}

/// A DNS subdomain in any case.
pub(crate) fn long_name_caseless(text: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, text, names::dns1123_subdomain_caseless(text));
}

/// A label's key.
pub(crate) fn label_key(text: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, text, names::qualified_name(text));
}

/// A UUID in its usual form.
pub(crate) fn uuid(text: &str, path: &Path, errors: &mut Errors) {
    let good = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !good {
        let detail = "must be a lowercase UUID in 8-4-4-4-12 format";
        errors.invalid(path, text, detail);
    }
}
