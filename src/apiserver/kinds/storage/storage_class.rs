//! StorageClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age},
    declared::{
        self,
        Given::Filled,
        Rule::{self, Field, Immutable, Required},
    },
    validation::{Errors, Report as _, label_name},
    value::Fields as _,
};

pub(crate) struct StorageClass;

const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

impl Hooks for StorageClass {
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
        columns::of("storage.k8s.io/storageclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        let annotations = &class["metadata"]["annotations"];
        let mut shown = class["metadata"].text("name").to_owned();
        if DEFAULT.iter().any(|mark| annotations.text(mark) == "true") {
            shown.push_str(" (default)");
        }
        vec![
            shown.into(),
            class.text("provisioner").into(),
            class.opt_text("reclaimPolicy").unwrap_or("Delete").into(),
            class.opt_text("volumeBindingMode").unwrap_or("Immediate").into(),
            class.on("allowVolumeExpansion").into(),
            age(class),
        ]
    }
}

/// What is declared of classes.
const DECLARED: &[Rule] = &[
    Field("provisioner", &[Required(Filled), Immutable]),
    Field("parameters", &[Immutable]),
    Field("reclaimPolicy", &[Immutable]),
    Field("volumeBindingMode", &[Immutable]),
];

fn validate(old: Option<&Value>, class: &Value) -> Errors {
    let mut errors = Errors::new();
    let name = class.text("provisioner").to_lowercase();
    if !name.is_empty() {
        errors.messages(&Path::root("provisioner"), &name, names::qualified_name(&name));
    }
    parameters(class, true, &mut errors);
    let policy = class.text("reclaimPolicy");
    if !matches!(policy, "" | "Delete" | "Retain") {
        errors.unsupported(&Path::root("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let path = Path::root("volumeBindingMode");
    match class.opt_text("volumeBindingMode") {
        None => errors.required(&path, ""),
        Some("Immediate" | "WaitForFirstConsumer") => {}
        Some(mode) => errors.unsupported(&path, mode, &["Immediate", "WaitForFirstConsumer"]),
    }
    topologies(class, &mut errors);
    declared::check(DECLARED, old, class, &Path::empty(), &mut errors);
    errors
}

/// Parameters for a driver.
pub(super) fn parameters(class: &Value, may_be_empty: bool, errors: &mut Errors) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 << 10;
    let path = Path::root("parameters");
    let all: Vec<(&str, &str)> = class.strings("parameters").collect();
    if all.len() > MOST {
        return errors.push(FieldError::too_long(&path, MOST));
    }
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.invalid(&path, "", "field can not be empty.");
    }
    if all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST {
        errors.push(FieldError::too_long(&path, LARGEST));
    }
    if !may_be_empty && all.is_empty() {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn topologies(class: &Value, errors: &mut Errors) {
    let path = Path::root("allowedTopologies");
    let all = class.list("allowedTopologies");
    for (at, term) in all.iter().enumerate() {
        let path = path.index(at).child("matchLabelExpressions");
        let requirements = term.list("matchLabelExpressions");
        for (at, requirement) in requirements.iter().enumerate() {
            let path = path.index(at);
            let values: Vec<&str> = requirement.texts("values").collect();
            if values.is_empty() {
                errors.required(&path.child("values"), "");
            }
            for (at, value) in values.iter().enumerate() {
                if values[..at].contains(value) {
                    errors.duplicate(&path.child("values").index(at), *value);
                }
            }
            let key = requirement.text("key");
            label_name(key, &path.child("key"), errors);
            if requirements[..at].iter().any(|other| other.text("key") == key) {
                errors.duplicate(&path.child("key"), key);
            }
        }
        // One that says nothing counts as one that is there already.
        if requirements.is_empty() || all[..at].contains(term) {
            errors.duplicate(&path, "");
        }
    }
}
