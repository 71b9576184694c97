//! StorageClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age},
    validation::{Errors, Report as _, immutable, label_name, one_of, optional_one_of},
    value::Fields as _,
};

pub(crate) struct StorageClass;

const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

impl Hooks for StorageClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::root("provisioner");
        match class.text("provisioner") {
            "" => errors.required(&path, ""),
            name => {
                let lower = name.to_lowercase();
                errors.messages(&path, &lower, names::qualified_name(&lower));
            }
        }
        parameters(class, true, &mut errors);
        let root = Path::empty();
        let policies = ["Delete", "Retain"];
        optional_one_of(class, "reclaimPolicy", &root, &policies, &mut errors);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        one_of(class, "volumeBindingMode", &root, &modes, &mut errors);
        topologies(class, &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(old, new, field, &Path::empty(), &mut errors);
        }
        errors
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
        if all[..at].contains(term) {
            errors.duplicate(&path, "");
        }
    }
}
