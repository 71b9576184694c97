//! StorageVersionMigrations.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, name},
    validation::{Errors, Report as _, conditions, immutable, spec},
    value::Fields as _,
};

pub(crate) struct StorageVersionMigration;

impl Hooks for StorageVersionMigration {
    fn validate_create(&self, _context: &Context<'_>, migration: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (resource, path) = (&migration["spec"]["resource"], spec().child("resource"));
        let mut form = |field: &str, messages: Vec<String>| {
            if !messages.is_empty() {
                errors.invalid(&path.child(field), resource.text(field), &messages.join(","));
            }
        };
        let (group, name) = (resource.text("group"), resource.text("resource"));
        if !name.is_empty() {
            form("resource", names::dns1035_label(name));
        }
        if !group.is_empty() {
            form("group", names::dns1123_subdomain(group));
        }
        if name.is_empty() {
            errors.insert(
                0,
                FieldError::required(&path.child("resource"), "resource is required to be set"),
            );
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource.is_empty() {
            errors = self.validate_create(context, new);
            immutable(old, new, "spec", &Path::empty(), &mut errors);
        } else {
            conditions(&new["status"], &Path::root("status"), &mut errors);
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("storagemigration.k8s.io/storageversionmigrations")
    }

    fn cells(&self, migration: &Value) -> Vec<Value> {
        let resource = &migration["spec"]["resource"];
        let shown = match resource.text("group") {
            "" => resource.text("resource").to_owned(),
            group => format!("{}.{group}", resource.text("resource")),
        };
        let conditions = migration["status"].list("conditions").iter().rev();
        let mut holding = conditions.filter(|c| c.text("status") == "True").map(|c| c.text("type"));
        let state = holding.find(|kind| matches!(*kind, "Running" | "Failed" | "Succeeded"));
        vec![name(migration), shown.into(), state.unwrap_or("Unknown").into()]
    }
}
