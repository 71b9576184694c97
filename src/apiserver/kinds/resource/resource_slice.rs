//! ResourceSlices.

use apimachinery::{
    field::{FieldError, Path},
    time,
};
use serde_json::Value;

use super::{declarations, device, device::true_or_nothing, parts};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    declared,
    pod_spec::{csi_driver_name, node_selector},
    validation::{Errors, Report as _, dns_subdomain, immutable, spec},
    value::{Fields as _, list_mut, remove, same, set_default},
};

pub(crate) struct ResourceSlice;

const MOST_DEVICES: usize = 128;
/// The same where a device has taints or consumes counters.
const MOST_ADVANCED: usize = 64;
const MOST_SETS: usize = 8;

impl Hooks for ResourceSlice {
    fn default(&self, slice: &mut Value) {
        let Some(spec) = slice.get_mut("spec") else { return };
        for device in list_mut(spec, "devices") {
            for taint in list_mut(device, "taints") {
                set_default(taint, "timeAdded", time::now());
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, slice: &mut Value) {
        slice["metadata"]["generation"] = 1.into();
        drop_disabled(slice);
    }

    fn prepare_update(&self, _context: &Context<'_>, old: &Value, new: &mut Value) {
        if !same(&old["spec"], &new["spec"]) {
            let generation = old["metadata"].int("generation").unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
        drop_disabled(new);
    }

    /// What is dropped counts too.
    fn counts_generations(&self) -> bool {
        false
    }

    fn validate_create(&self, _context: &Context<'_>, slice: &Value) -> Vec<FieldError> {
        validate(None, slice)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        validate(Some(old), new)
    }

    fn warnings(&self, _old: Option<&Value>, slice: &Value) -> Vec<String> {
        let driver = slice["spec"].text("driver");
        if !driver.chars().any(char::is_uppercase) {
            return Vec::new();
        }
        vec![format!(
            "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
        )]
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver", "spec.pool.name"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("resource.k8s.io/resourceslices")
    }

    fn cells(&self, slice: &Value) -> Vec<Value> {
        let spec = &slice["spec"];
        vec![
            name(slice),
            spec.text("nodeName").into(),
            spec.text("driver").into(),
            spec["pool"].text("name").into(),
            age(slice),
        ]
    }
}

fn validate(old: Option<&Value>, slice: &Value) -> Errors {
    let mut errors = Errors::new();
    let (inner, path) = (&slice["spec"], spec());
    csi_driver_name(inner.text("driver"), &path.child("driver"), &mut errors);
    pool(&inner["pool"], &path.child("pool"), &mut errors);
    if let Some(old) = old {
        let old = &old["spec"];
        immutable(&old["pool"], &inner["pool"], "name", &path.child("pool"), &mut errors);
        immutable(old, inner, "driver", &path, &mut errors);
        immutable(old, inner, "nodeName", &path, &mut errors);
    }
    place(inner, &path, &mut errors);
    if inner.has("sharedCounters") && inner.has("devices") {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    devices(old, inner, &path.child("devices"), &mut errors);
    let sets = inner.list("sharedCounters");
    if sets.len() <= MOST_SETS {
        for (at, set) in sets.iter().enumerate() {
            let path = path.child("sharedCounters").index(at).child("counters");
            device::counters(set, &path, &mut errors);
        }
    }
    declared::check(declarations::SLICE, old, slice, &Path::empty(), &mut errors);
    errors
}

fn pool(pool: &Value, path: &Path, errors: &mut Errors) {
    parts::pool_name(pool.text("name"), &path.child("name"), errors);
    let count = pool.int("resourceSliceCount").unwrap_or_default();
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if let Some(generation) = pool.int("generation").filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), generation, detail);
    }
}

/// Where the devices are.
fn place(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut set = Vec::new();
    match spec.opt_text("nodeName") {
        None => {}
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.invalid(&path.child("nodeName"), "", detail);
        }
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, &path.child("nodeName"), errors);
        }
    }
    if let Some(selector) = spec.sub("nodeSelector") {
        set.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        node_selector(selector, &path, errors);
        if selector.list("nodeSelectorTerms").len() != 1 {
            let (path, terms) = (path.child("nodeSelectorTerms"), &selector["nodeSelectorTerms"]);
            errors.invalid(&path, terms.clone(), "must have exactly one node selector term");
        }
    }
    true_or_nothing(spec, "allNodes", "`allNodes`", &mut set, path, errors);
    let each = "perDeviceNodeSelection";
    true_or_nothing(spec, each, "`perDeviceNodeSelection`", &mut set, path, errors);
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
               required";
    match set.len() {
        0 => errors.required(path, one),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.invalid(path, shown, &format!("{one}, but multiple fields are set"));
        }
    }
}

fn devices(old: Option<&Value>, spec: &Value, path: &Path, errors: &mut Errors) {
    let devices = spec.list("devices");
    let advanced = devices.iter().any(|device| {
        ["taints", "consumesCounters"].iter().any(|field| !device.list(field).is_empty())
    });
    let most = if advanced { MOST_ADVANCED } else { MOST_DEVICES };
    if devices.len() > most {
        return errors.push(FieldError::too_many(path, devices.len(), most));
    }
    let places = spec.on("perDeviceNodeSelection");
    let before = old.map_or(&[][..], |old| old["spec"].list("devices"));
    for (at, device) in devices.iter().enumerate() {
        let old = before.iter().find(|it| it.text("name") == device.text("name"));
        device::validate(device, old, places, &path.index(at), errors);
    }
    for (at, device) in devices.iter().enumerate() {
        let name = device.text("name");
        if devices[..at].iter().any(|other| other.text("name") == name) {
            errors.duplicate(&path.index(at), name);
        }
    }
}

/// Drops what belongs to features that are off.
fn drop_disabled(slice: &mut Value) {
    let Some(spec) = slice.get_mut("spec") else { return };
    remove(spec, "partitionTypeAttribute");
    remove(spec, "skipNodeOperations");
    for device in list_mut(spec, "devices") {
        remove(device, "nodeAllocatableResources");
        for consumption in list_mut(device, "consumesCounters") {
            remove(consumption, "compatibilityGroups");
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(|map| map.values_mut()) {
            for list in ["bools", "ints", "strings", "versions"] {
                remove(attribute, list);
            }
        }
    }
}
