//! CSINodes: which drivers a node has.

use apimachinery::{field::FieldError, schema::internal};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    pod_spec::csi_driver_name,
    validation::{Errors, IMMUTABLE, Report as _, label_name, not_negative, spec},
    value::{Fields as _, same},
};

pub(crate) struct CsiNode;

impl Hooks for CsiNode {
    fn validate_create(&self, _context: &Context<'_>, node: &Value) -> Vec<FieldError> {
        const LONGEST: usize = 256;
        let mut errors = Errors::new();
        let drivers = node["spec"].list("drivers");
        for (at, driver) in drivers.iter().enumerate() {
            let path = spec().child("drivers").index(at);
            let driver_name = driver.text("name");
            csi_driver_name(driver_name, &path.child("name"), &mut errors);
            let id = driver.text("nodeID");
            if id.is_empty() {
                errors.required(&path.child("nodeID"), "");
            }
            if id.len() > LONGEST {
                let detail = format!("must be {LONGEST} characters or less");
                errors.invalid(&path.child("nodeID"), id, &detail);
            }
            if let Some(allocatable) = driver.sub("allocatable") {
                not_negative(allocatable, "count", &path.child("allocatable"), &mut errors);
            }
            if drivers[..at].iter().any(|other| other.text("name") == driver_name) {
                errors.duplicate(&path.child("name"), driver_name);
            }
            let keys: Vec<&str> = driver.texts("topologyKeys").collect();
            for (at, key) in keys.iter().enumerate() {
                if key.is_empty() {
                    errors.required(&path, "");
                }
                if keys[..at].contains(key) {
                    errors.duplicate(&path, *key);
                }
                label_name(key, &path, &mut errors);
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(context, new);
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            driver["allocatable"] = Value::Null;
            driver
        };
        for was in old["spec"].list("drivers") {
            for is in new["spec"].list("drivers") {
                if was["name"] == is["name"] && !same(&fixed(was), &fixed(is)) {
                    let shown = internal::show("storage.CSINodeDriver", &fixed(is));
                    let path = spec().child("drivers");
                    errors.push(FieldError::invalid_shown(&path, &shown, IMMUTABLE));
                }
            }
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("storage.k8s.io/csinodes")
    }

    fn cells(&self, node: &Value) -> Vec<Value> {
        vec![name(node), node["spec"].list("drivers").len().into(), age(node)]
    }
}
