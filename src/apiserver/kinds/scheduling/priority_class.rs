//! PriorityClasses.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, immutable, optional_one_of},
    value::Fields as _,
};

pub(crate) struct PriorityClass;

/// Above this only the system's own classes are.
const HIGHEST: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Hooks for PriorityClass {
    fn prepare_create(&self, _context: &Context<'_>, class: &mut Value) {
        class["metadata"]["generation"] = 1.into();
    }

    /// There is a first generation, and no other.
    fn counts_generations(&self) -> bool {
        false
    }

    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let class_name = class["metadata"].text("name");
        let value = class.int("value").unwrap_or_default();
        if class_name.starts_with("system-") {
            if let Err(why) = is_system(class_name, value, class.on("globalDefault")) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. \
                     error: {why}"
                );
                errors.forbidden(&Path::root("metadata").child("name"), &detail);
            }
        } else if value > HIGHEST {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.forbidden(&Path::root("value"), &detail);
        }
        let policies = ["PreemptLowerPriority", "Never"];
        if class.opt_text("preemptionPolicy") == Some("") {
            errors.required(&Path::root("preemptionPolicy"), "");
            return errors;
        }
        optional_one_of(class, "preemptionPolicy", &Path::empty(), &policies, &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if old.int("value").unwrap_or_default() != new.int("value").unwrap_or_default() {
            errors.forbidden(&Path::root("value"), "may not be changed in an update.");
        }
        immutable(old, new, "preemptionPolicy", &Path::empty(), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("scheduling.k8s.io/priorityclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        vec![
            name(class),
            class.int("value").unwrap_or_default().into(),
            class.on("globalDefault").into(),
            age(class),
            class.text("preemptionPolicy").into(),
        ]
    }
}

fn is_system(name: &str, value: i64, default: bool) -> Result<(), String> {
    let Some((_, known)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *known {
        return Err(format!("value of {name} PriorityClass must be {known}"));
    }
    if default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}
