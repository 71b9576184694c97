//! VolumeAttributesClasses.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::storage_class::parameters;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    go_struct::immutable,
    pod_spec::csi_driver_name,
    validation::Errors,
    value::Fields as _,
};

pub(crate) struct VolumeAttributesClass;

impl Hooks for VolumeAttributesClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        csi_driver_name(class.text("driverName"), &Path::root("driverName"), &mut errors);
        parameters(class, false, &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for field in ["driverName", "parameters"] {
            let kind = "VolumeAttributesClass";
            immutable("storage.k8s.io/v1", kind, field, old, new, &mut errors);
        }
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
