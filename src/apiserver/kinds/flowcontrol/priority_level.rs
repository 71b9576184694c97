//! PriorityLevelConfigurations.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::conditions;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, spec},
    value::{Fields as _, set_default},
};

pub(crate) struct PriorityLevel;

impl Hooks for PriorityLevel {
    fn default(&self, level: &mut Value) {
        let Some(limited) = level.pointer_mut("/spec/limited").filter(|l| l.is_object()) else {
            return;
        };
        set_default(limited, "nominalConcurrencyShares", 30);
        set_default(limited, "lendablePercent", 0);
        if let Some(queuing) = limited.pointer_mut("/limitResponse/queuing")
            && queuing.is_object()
        {
            for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.int(field).unwrap_or_default() == 0 {
                    queuing[field] = value.into();
                }
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, level: &Value) -> Vec<FieldError> {
        validate(level)
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource.is_empty() {
            return validate(new);
        }
        let mut errors = Errors::new();
        conditions(new, &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("flowcontrol.apiserver.k8s.io/prioritylevelconfigurations")
    }

    fn cells(&self, level: &Value) -> Vec<Value> {
        let (spec, limited) = (&level["spec"], &level["spec"]["limited"]);
        let queuing = &limited["limitResponse"]["queuing"];
        let number = |object: &Value, field: &str| {
            object.int(field).map_or_else(|| Value::from("<none>"), Value::from)
        };
        vec![
            name(level),
            spec.text("type").into(),
            number(limited, "nominalConcurrencyShares"),
            number(queuing, "queues"),
            number(queuing, "handSize"),
            number(queuing, "queueLengthLimit"),
            age(level),
        ]
    }
}

/// Checks a level; what upstream declares beside the types is told last.
fn validate(level: &Value) -> Errors {
    let (mut errors, mut declared) = (Errors::new(), Errors::new());
    let (inner, path) = (&level["spec"], spec());
    let kind = inner.text("type");
    if (level["metadata"].text("name") == "exempt") != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.invalid(&path.child("type"), kind, detail);
    }
    if kind != "Exempt" && inner.has("exempt") {
        declared.forbidden(&path.child("exempt"), "");
    }
    match (kind, inner.sub("limited")) {
        ("Limited", None) => declared.required(&path.child("limited"), ""),
        ("Limited", Some(_)) | (_, None) => {}
        (_, Some(_)) => declared.forbidden(&path.child("limited"), ""),
    }
    match kind {
        "" => declared.required(&path.child("type"), ""),
        "Exempt" => {
            if let Some(exempt) = inner.sub("exempt") {
                shares(exempt, &path.child("exempt"), &mut errors);
                lendable(exempt, &path.child("exempt"), &mut errors);
            }
        }
        "Limited" => {
            if let Some(inner) = inner.sub("limited") {
                limited(inner, &path.child("limited"), &mut errors);
            }
        }
        other => errors.unsupported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
    if let Some(inner) = inner.sub("limited") {
        response_declared(&inner["limitResponse"], &path, &mut declared);
    }
    conditions(level, &mut errors);
    errors.append(&mut declared);
    errors
}

fn response_declared(response: &Value, path: &Path, declared: &mut Errors) {
    let path = path.child("limited").child("limitResponse");
    let (kind, queuing) = (response.text("type"), path.child("queuing"));
    match (kind, response.has("queuing")) {
        ("Queue", false) => declared.required(&queuing, ""),
        ("Queue", true) | (_, false) => {}
        (_, true) => declared.forbidden(&queuing, ""),
    }
    if kind.is_empty() {
        declared.required(&path.child("type"), "");
    }
}

fn shares(level: &Value, path: &Path, errors: &mut Errors) {
    let field = "nominalConcurrencyShares";
    if let Some(shares) = level.int(field).filter(|shares| *shares < 0) {
        errors.invalid(&path.child(field), shares, "must be a non-negative integer");
    }
}

fn lendable(level: &Value, path: &Path, errors: &mut Errors) {
    let field = "lendablePercent";
    if let Some(percent) = level.int(field).filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&path.child(field), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &Value, path: &Path, errors: &mut Errors) {
    shares(limited, path, errors);
    let (response, place) = (&limited["limitResponse"], path.child("limitResponse"));
    match response.text("type") {
        "Queue" => {
            if let Some(inner) = response.sub("queuing") {
                queuing(inner, &place.child("queuing"), errors);
            }
        }
        "" | "Reject" => {}
        other => errors.unsupported(&place.child("type"), other, &["Queue", "Reject"]),
    }
    lendable(limited, path, errors);
    let field = "borrowingLimitPercent";
    if let Some(percent) = limited.int(field).filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child(field), percent, detail);
    }
}

fn queuing(queuing: &Value, path: &Path, errors: &mut Errors) {
    const MOST_QUEUES: i64 = 10_000_000;
    const HASH_BITS: f64 = 60.0;
    let number = |field: &str| queuing.int(field).unwrap_or_default();
    let (queues, hand, length) = (number("queues"), number("handSize"), number("queueLengthLimit"));
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    let place = path.child("queues");
    if queues <= 0 {
        errors.invalid(&place, queues, "must be positive");
    } else if queues > MOST_QUEUES {
        let detail = format!("must not be greater than {MOST_QUEUES}");
        errors.invalid(&place, queues, &detail);
    }
    let place = path.child("handSize");
    if hand <= 0 {
        return errors.invalid(&place, hand, "must be positive");
    }
    if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        return errors.invalid(&place, hand, &detail);
    }
    // How many hands there are must fit into what is hashed.
    let bits: f64 = (0..hand).map(|dealt| ((queues - dealt) as f64).log2()).sum();
    if bits.ceil() > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater \
             than {HASH_BITS}"
        );
        errors.invalid(&place, hand, &detail);
    }
}
