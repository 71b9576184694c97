//! The status of a claim: what was allocated, for whom, and how the devices are.
//!
//! What is declared of it is in `declarations.rs`; here is the rest.

use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{claim, parts};
use crate::kinds::{
    addresses::Cidr,
    pod_spec::{csi_driver_name, node_selector},
    validation::{Errors, Report as _, conditions, dns_label},
    value::{Fields as _, same},
};

const MOST_RESULTS: usize = 32;
const MOST_CONFIGS: usize = 64;
const MOST_USERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;

/// A changed status.
pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, status, path) = (&old["status"], &new["status"], Path::root("status"));
    let users = status.list("reservedFor");
    if users.len() <= MOST_USERS {
        for (at, user) in users.iter().enumerate() {
            for field in ["resource", "name", "uid"] {
                if user.text(field).is_empty() {
                    errors.required(&path.child("reservedFor").index(at).child(field), "");
                }
            }
        }
    }
    let allocation = status.sub("allocation");
    let results = allocation.map_or(&[][..], |it| it["devices"].list("results"));
    for (at, device) in status.list("devices").iter().enumerate() {
        device_status(device, results, &path.child("devices").index(at), errors);
    }
    if !users.is_empty() {
        let path = path.child("reservedFor");
        if allocation.is_none() {
            let detail = "may not be specified when `allocated` is not set";
            errors.forbidden(&path, detail);
        } else if new["metadata"].has("deletionTimestamp")
            && users.iter().any(|user| !was.list("reservedFor").iter().any(|it| same(it, user)))
        {
            let detail = "new entries may not be added while `deallocationRequested` or \
                          `deletionTimestamp` are set";
            errors.forbidden(&path, detail);
        }
    }
    if let Some(allocation) = allocation
        && !was.has("allocation")
    {
        let requests = new["spec"]["devices"].list("requests");
        allocated(allocation, requests, &path.child("allocation"), errors);
    }
}

fn allocated(allocation: &Value, requests: &[Value], path: &Path, errors: &mut Errors) {
    let (devices, place) = (&allocation["devices"], path.child("devices"));
    let results = devices.list("results");
    if results.len() <= MOST_RESULTS {
        for (at, result) in results.iter().enumerate() {
            let path = place.child("results").index(at);
            claim::reference(result.text("request"), requests, &path.child("request"), errors);
            dns_label(result.text("device"), &path.child("device"), errors);
            parts::binding_conditions(result, &path, errors);
            parts::tolerations(result, &path, errors);
        }
    }
    let configs = devices.list("config");
    if configs.len() <= MOST_CONFIGS {
        for (at, config) in configs.iter().enumerate() {
            let path = place.child("config").index(at);
            claim::references(config, requests, &path, errors);
            parts::configuration(config, false, &path, errors);
        }
    }
    if let Some(selector) = allocation.sub("nodeSelector") {
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

/// What tells devices apart.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| device.text(field))
}

fn shown(device: &Value) -> String {
    let [driver, pool, name, share] = identity(device);
    format!(
        "{{\"Driver\":{},\"Pool\":{},\"Device\":{},\"ShareID\":{}}}",
        Value::from(driver),
        Value::from(pool),
        Value::from(name),
        Value::from(share)
    )
}

fn device_status(device: &Value, results: &[Value], path: &Path, errors: &mut Errors) {
    csi_driver_name(device.text("driver"), &path.child("driver"), errors);
    parts::pool_name(device.text("pool"), &path.child("pool"), errors);
    dns_label(device.text("device"), &path.child("device"), errors);
    if !results.iter().any(|result| identity(result) == identity(device)) {
        let detail = "must be an allocated device in the claim";
        errors.push(FieldError::invalid_shown(path, &shown(device), detail));
    }
    let count = device.list("conditions").len();
    if count > MOST_CONDITIONS {
        errors.push(FieldError::too_many(&path.child("conditions"), count, MOST_CONDITIONS));
    }
    conditions(device, path, errors);
    if device.has("data") {
        parts::raw(device.sub("data"), false, &path.child("data"), errors);
    }
    let network = &device["networkData"];
    let addresses: Vec<&str> = network.texts("ips").collect();
    if addresses.len() <= MOST_ADDRESSES {
        for (at, address) in addresses.iter().enumerate() {
            interface(address, &path.child("networkData").child("ips").index(at), errors);
        }
    }
}

/// The address of an interface, with the length of its network's prefix.
fn interface(text: &str, path: &Path, errors: &mut Errors) {
    let Some(cidr) = Cidr::parse(text) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return errors.invalid(path, text, detail);
    };
    let (address, length) = match cidr.address {
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => (IpAddr::V4(four), cidr.length.saturating_sub(96)),
            None => (cidr.address, cidr.length),
        },
        four => (four, cidr.length),
    };
    let canonical = format!("{address}/{length}");
    if text != canonical {
        errors.invalid(path, text, &format!("must be in canonical form ({canonical:?})"));
    }
}

/// Drops what is told of devices that were allocated and are no more.
pub(super) fn drop_deallocated(old: &Value, new: &mut Value) {
    let results = |of: &Value| of["status"]["allocation"]["devices"].list("results").to_vec();
    let (before, after) = (results(old), results(new));
    let gone = |device: &Value| {
        let same = |result: &Value| identity(result) == identity(device);
        before.iter().any(same) && !after.iter().any(same)
    };
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|device| !gone(device));
    if devices.is_empty() {
        status.remove("devices");
    }
}

/// Drops what belongs to features that are off.
pub(super) fn drop_disabled(new: &mut Value) {
    let devices = new
        .get_mut("status")
        .and_then(|it| it.get_mut("allocation"))
        .and_then(|it| it.get_mut("devices"));
    for result in devices.into_iter().flat_map(|it| crate::kinds::value::list_mut(it, "results")) {
        crate::kinds::value::remove(result, "skipNodeOperations");
    }
}

/// Where an allocation gives administrator access.
pub(super) fn admin_result(object: &Value) -> Option<Path> {
    let results = object["status"]["allocation"]["devices"].list("results");
    let at = results.iter().position(|result| result.on("adminAccess"))?;
    let path = Path::root("status").child("allocation").child("devices").child("results");
    Some(path.index(at).child("adminAccess"))
}
