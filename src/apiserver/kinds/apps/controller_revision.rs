//! ControllerRevisions: templates that DaemonSets and StatefulSets have had.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, immutable, not_negative},
    value::Fields as _,
};

pub(crate) struct ControllerRevision;

impl Hooks for ControllerRevision {
    fn validate_create(&self, _context: &Context<'_>, revision: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        not_negative(revision, "revision", &Path::empty(), &mut errors);
        let data = Path::root("data");
        match &revision["data"] {
            Value::Null => errors.required(&data, "data is mandatory"),
            Value::Object(_) => {}
            _ => errors.required(&data, "data must be a valid JSON object"),
        }
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        not_negative(new, "revision", &Path::empty(), &mut errors);
        immutable(old, new, "data", &Path::empty(), &mut errors);
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apps/controllerrevisions")
    }

    fn cells(&self, revision: &Value) -> Vec<Value> {
        let owner =
            revision["metadata"].list("ownerReferences").iter().find(|o| o.on("controller"));
        let controller = owner.map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let kind = owner.text("kind").to_lowercase();
                let group = owner.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
                let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
                format!("{kind}/{}", owner.text("name"))
            },
        );
        vec![
            name(revision),
            controller.into(),
            revision.int("revision").unwrap_or_default().into(),
            age(revision),
        ]
    }
}
