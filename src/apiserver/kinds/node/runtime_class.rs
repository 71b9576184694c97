//! RuntimeClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    declared::{
        self,
        Given::Filled,
        Rule::{self, Field, Form, Immutable, Required},
        short_name,
    },
    pod_spec::{limits_and_requests, tolerations},
    validation::{Errors, Report as _, labels},
    value::Fields as _,
};

pub(crate) struct RuntimeClass;

impl Hooks for RuntimeClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        validate(None, class)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        validate(Some(old), new)
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

/// What is declared of the handler.
const HANDLER: Rule = Field("handler", &[Immutable, Required(Filled), Form(short_name)]);

fn validate(old: Option<&Value>, class: &Value) -> Errors {
    let mut errors = Errors::new();
    let (handler, path) = (class.text("handler"), Path::root("handler"));
    if !handler.is_empty() {
        errors.messages(&path, handler, names::dns1123_label(handler));
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
            ["key", "operator", "value", "effect"].map(|field| toleration.text(field).to_owned())
        };
        for (at, toleration) in all.iter().enumerate() {
            if all[..at].iter().any(|other| key(other) == key(toleration)) {
                let path = path.child("tolerations").index(at);
                errors.duplicate(&path, toleration.clone());
            }
        }
    }
    let formed = errors.iter().filter(|error| error.path == path).count();
    let changed = old.is_some_and(|old| old.text("handler") != handler);
    if !changed {
        // The form of a handler is declared, but not looked at where it has changed.
        errors.drain(..formed);
    }
    declared::check(&[HANDLER], old, class, &Path::empty(), &mut errors);
    errors
}
