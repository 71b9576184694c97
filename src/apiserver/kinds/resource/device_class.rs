//! DeviceClasses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::{declarations, parts, selector::selectors};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    declared,
    validation::{Errors, spec},
    value::{Fields as _, same},
};

pub(crate) struct DeviceClass;

const MOST_CONFIGS: usize = 32;

impl Hooks for DeviceClass {
    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        validate(None, class)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        validate(Some(old), new)
    }

    /// The name itself is declared.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if prefix { names::name_is_dns_subdomain(name, true) } else { Vec::new() }
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("resource.k8s.io/deviceclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        vec![name(class), age(class)]
    }
}

fn validate(old: Option<&Value>, class: &Value) -> Errors {
    let mut errors = Errors::new();
    let inner = &class["spec"];
    let stored = |field: &str| old.is_some_and(|old| same(&old["spec"][field], &inner[field]));
    selectors(inner, stored("selectors"), &spec(), &mut errors);
    let configs = inner.list("config");
    if configs.len() <= MOST_CONFIGS {
        for (at, config) in configs.iter().enumerate() {
            let path = spec().child("config").index(at);
            parts::configuration(config, stored("config"), &path, &mut errors);
        }
    }
    declared::check(declarations::CLASS, old, class, &Path::empty(), &mut errors);
    errors
}
