//! Kinds that differ from others only in the columns and fields they are listed and found by.

use serde_json::Value;

use super::{
    Column, Hooks,
    columns::{self, age, name, since},
    value::Fields as _,
};

/// A kind with columns, fields and generations, and no further rules.
pub(crate) struct Listed {
    /// Its name in the table of columns.
    columns: &'static str,
    fields: &'static [&'static str],
    counted: bool,
    cells: fn(&Value) -> Vec<Value>,
}

impl Hooks for Listed {
    fn counts_generations(&self) -> bool {
        self.counted
    }

    fn fields(&self) -> &'static [&'static str] {
        self.fields
    }

    fn columns(&self) -> &'static [Column] {
        columns::of(self.columns)
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        (self.cells)(object)
    }
}

const UNCOUNTED: Listed = Listed { columns: "", fields: &[], counted: false, cells: name_and_age };
const COUNTED: Listed = Listed { counted: true, ..UNCOUNTED };

pub(crate) static COMPONENT_STATUS: Listed =
    Listed { columns: "/componentstatuses", cells: component, ..UNCOUNTED };
pub(crate) static DEVICE_CLASS: Listed =
    Listed { columns: "resource.k8s.io/deviceclasses", ..COUNTED };
pub(crate) static DEVICE_TAINT_RULE: Listed =
    Listed { columns: "resource.k8s.io/devicetaintrules", cells: device_taint, ..COUNTED };
pub(crate) static RESOURCE_CLAIM: Listed =
    Listed { columns: "resource.k8s.io/resourceclaims", cells: claim, ..UNCOUNTED };
pub(crate) static RESOURCE_CLAIM_TEMPLATE: Listed =
    Listed { columns: "resource.k8s.io/resourceclaimtemplates", ..UNCOUNTED };
pub(crate) static RESOURCE_SLICE: Listed = Listed {
    columns: "resource.k8s.io/resourceslices",
    fields: &["spec.nodeName", "spec.driver"],
    cells: slice,
    ..COUNTED
};
pub(crate) static STORAGE_VERSION_MIGRATION: Listed = Listed {
    columns: "storagemigration.k8s.io/storageversionmigrations",
    cells: migration,
    ..UNCOUNTED
};

fn name_and_age(object: &Value) -> Vec<Value> {
    vec![name(object), age(object)]
}

fn component(component: &Value) -> Vec<Value> {
    let mut conditions = component.list("conditions").iter();
    let health = conditions.find(|condition| condition.text("type") == "Healthy");
    let state = match health.map(|health| health.text("status")) {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    };
    let text = |field: &str| health.map_or("", |health| health.text(field)).into();
    vec![name(component), state.into(), text("message"), text("error")]
}

fn device_taint(rule: &Value) -> Vec<Value> {
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

fn claim(claim: &Value) -> Vec<Value> {
    let deleted = claim["metadata"].has("deletionTimestamp");
    let status = &claim["status"];
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if status.has("allocation") {
        states.push("allocated");
        if !status.list("reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![name(claim), states.join(",").into(), age(claim)]
}

fn slice(slice: &Value) -> Vec<Value> {
    let spec = &slice["spec"];
    vec![
        name(slice),
        spec.text("nodeName").into(),
        spec.text("driver").into(),
        spec["pool"].text("name").into(),
        age(slice),
    ]
}

fn migration(migration: &Value) -> Vec<Value> {
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
