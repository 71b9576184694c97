//! VolumeAttributesClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::storage_class::parameters;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _},
    value::{Fields as _, same},
};

pub(crate) struct VolumeAttributesClass;

impl Hooks for VolumeAttributesClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (name, path) = (class.text("driverName"), Path::root("driverName"));
        match name.to_lowercase().as_str() {
            "" => errors.required(&path, ""),
            lower => errors.messages(&path, lower, names::qualified_name(lower)),
        }
        parameters(class, false, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for field in ["driverName", "parameters"] {
            if !same(&old[field], &new[field]) {
                let detail = format!("updates to {field} are forbidden.");
                errors.forbidden(&Path::root(field), &detail);
            }
        }
        errors.extend(self.validate_create(context, new));
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("storage.k8s.io/volumeattributesclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        vec![name(class), class.text("driverName").into(), age(class)]
    }
}
