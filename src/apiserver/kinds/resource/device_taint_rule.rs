//! DeviceTaintRules.

use apimachinery::{
    field::{FieldError, Path},
    time,
};
use serde_json::Value;

use super::{declarations, parts};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name, since},
    declared,
    pod_spec::csi_driver_name,
    validation::{Errors, conditions, dns_label, spec},
    value::{Fields as _, same, set_default},
};

pub(crate) struct DeviceTaintRule;

const MOST_CONDITIONS: usize = 8;

impl Hooks for DeviceTaintRule {
    fn default(&self, rule: &mut Value) {
        if let Some(spec) = rule.get_mut("spec").filter(|spec| spec.is_object()) {
            set_default(&mut spec["taint"], "timeAdded", time::now());
        }
    }

    fn prepare_update(&self, _context: &Context<'_>, old: &Value, new: &mut Value) {
        let (was, is) = (&old["spec"]["taint"], &mut new["spec"]["taint"]);
        // The time tells since when there has been this effect.
        if !same(&was["effect"], &is["effect"]) && same(&was["timeAdded"], &is["timeAdded"]) {
            is["timeAdded"] = time::now().into();
        }
    }

    fn validate_create(&self, _context: &Context<'_>, rule: &Value) -> Vec<FieldError> {
        validate(None, rule)
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource.is_empty() {
            return validate(Some(old), new);
        }
        let (mut errors, path) = (Errors::new(), Path::root("status"));
        conditions(&new["status"], &path, &mut errors);
        let count = new["status"].list("conditions").len();
        if count > MOST_CONDITIONS {
            let path = path.child("conditions");
            errors.push(FieldError::too_many(&path, count, MOST_CONDITIONS));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("resource.k8s.io/devicetaintrules")
    }

    fn cells(&self, rule: &Value) -> Vec<Value> {
        let taint = &rule["spec"]["taint"];
        vec![
            name(rule),
            taint.text("key").into(),
            taint.text("value").into(),
            taint.text("effect").into(),
            taint.opt_text("timeAdded").map_or_else(|| "<unknown>".to_owned(), since).into(),
            age(rule),
        ]
    }
}

fn validate(old: Option<&Value>, rule: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = spec().child("deviceSelector");
    let selector = &rule["spec"]["deviceSelector"];
    if let Some(driver) = selector.opt_text("driver") {
        csi_driver_name(driver, &path.child("driver"), &mut errors);
    }
    if let Some(pool) = selector.opt_text("pool") {
        parts::pool_name(pool, &path.child("pool"), &mut errors);
    }
    if let Some(device) = selector.opt_text("device") {
        dns_label(device, &path.child("device"), &mut errors);
    }
    parts::taint(&rule["spec"]["taint"], &spec().child("taint"), &mut errors);
    declared::check(declarations::TAINT_RULE, old, rule, &Path::empty(), &mut errors);
    errors
}
