//! Namespaces.

use apimachinery::{
    Object,
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    metadata::label_with_name,
    validation::{Errors, Report as _, qualified_finalizer, spec},
    value::{Fields as _, object_at},
};

pub(crate) struct Namespace;

const FINALIZER: &str = "kubernetes";

/// Whether a stored namespace is on its way out.
pub(crate) fn is_terminating(namespace: &Object) -> bool {
    namespace.fields.first().is_some_and(|phase| **phase == *"Terminating")
}

impl Hooks for Namespace {
    fn default(&self, namespace: &mut Value) {
        label_with_name(namespace);
    }

    fn prepare_create(&self, _context: &Context<'_>, namespace: &mut Value) {
        label_with_name(namespace);
        namespace["status"] = json!({"phase": "Active"});
        if let Some(spec) = object_at(namespace, "spec") {
            match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
                Some(list) if list.iter().any(|finalizer| finalizer == FINALIZER) => {}
                Some(list) => list.push(FINALIZER.into()),
                None => drop(spec.insert("finalizers".to_owned(), json!([FINALIZER]))),
            }
        }
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty()
            && let Some(spec) = object_at(new, "spec")
        {
            match old["spec"].sub("finalizers") {
                Some(finalizers) => drop(spec.insert("finalizers".to_owned(), finalizers.clone())),
                None => drop(spec.remove("finalizers")),
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, namespace: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = spec().child("finalizers");
        for finalizer in namespace["spec"].texts("finalizers") {
            qualified_finalizer(finalizer, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        match context.subresource {
            "status" => {
                let deleting = new["metadata"].has("deletionTimestamp");
                let phase = new["status"].text("phase");
                let path = Path::root("status").child("Phase");
                if !deleting && phase != "Active" {
                    let detail = "may only be 'Active' if `deletionTimestamp` is empty";
                    errors.invalid(&path, phase, detail);
                } else if deleting && phase != "Terminating" {
                    let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                    errors.invalid(&path, phase, detail);
                }
            }
            sub => {
                let path = spec().child("finalizers");
                for (at, finalizer) in new["spec"].texts("finalizers").enumerate() {
                    let path = if sub == "finalize" { path.index(at) } else { path.clone() };
                    qualified_finalizer(finalizer, &path, &mut errors);
                }
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_dns_label(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/namespaces")
    }

    fn cells(&self, namespace: &Value) -> Vec<Value> {
        vec![name(namespace), namespace["status"].text("phase").into(), age(namespace)]
    }
}
