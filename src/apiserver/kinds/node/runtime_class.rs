//! RuntimeClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    pod_spec::{limits_and_requests, tolerations},
    validation::{Errors, Report as _, immutable, labels},
    value::Fields as _,
};

pub(crate) struct RuntimeClass;

impl Hooks for RuntimeClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::root("handler");
        match class.text("handler") {
            "" => errors.required(&path, ""),
            handler => errors.messages(&path, handler, names::dns1123_label(handler)),
        }
        if let Some(overhead) = class.sub("overhead") {
            let limits = json!({"limits": overhead["podFixed"]});
            limits_and_requests(&limits, &[], &Path::root("overhead"), &mut errors);
        }
        if let Some(scheduling) = class.sub("scheduling") {
            let path = Path::root("scheduling");
            labels(scheduling, "nodeSelector", &path, &mut errors);
            tolerations(scheduling, &path, &mut errors);
            let all = scheduling.list("tolerations");
            let key = |toleration: &Value| {
                ["key", "operator", "value", "effect"]
                    .map(|field| toleration.text(field).to_owned())
            };
            for (at, toleration) in all.iter().enumerate() {
                if all[..at].iter().any(|other| key(other) == key(toleration)) {
                    let path = path.child("tolerations").index(at);
                    errors.duplicate(&path, toleration.clone());
                }
            }
        }
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        immutable(old, new, "handler", &Path::empty(), &mut errors);
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("node.k8s.io/runtimeclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        vec![name(class), class.text("handler").into(), age(class)]
    }
}
