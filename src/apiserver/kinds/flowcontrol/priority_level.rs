//! PriorityLevelConfigurations.

use apimachinery::field::FieldError;
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, not_negative, spec},
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
        let mut errors = Errors::new();
        let (inner, path) = (&level["spec"], spec());
        let limited = path.child("limited");
        match inner.text("type") {
            "Exempt" if inner.has("limited") => {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            "Limited" if !inner.has("limited") => {
                errors.required(&limited, "must not be empty when type is Limited");
            }
            "Exempt" | "Limited" => {}
            other => errors.unsupported(&path.child("type"), other, &["Exempt", "Limited"]),
        }
        if let Some(inner) = inner.sub("limited") {
            not_negative(inner, "nominalConcurrencyShares", &limited, &mut errors);
            let response = inner["limitResponse"].text("type");
            if !matches!(response, "Queue" | "Reject") {
                let path = limited.child("limitResponse").child("type");
                errors.unsupported(&path, response, &["Queue", "Reject"]);
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        match context.subresource {
            "" => self.validate_create(context, new),
            _ => Vec::new(),
        }
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
