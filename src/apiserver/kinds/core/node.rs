//! Nodes.

use apimachinery::{
    field::{FieldError, Path},
    schema::internal,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    addresses::cidr,
    columns::{self, age, name, or},
    pod_spec::taint_effect,
    resource_names,
    validation::{Errors, Report as _, label_name, spec},
    value::{Fields as _, remove, set_default},
};

pub(crate) struct Node;

impl Hooks for Node {
    fn default(&self, node: &mut Value) {
        if let Some(status) = node.get_mut("status")
            && let Some(capacity) = status.sub("capacity").cloned()
        {
            set_default(status, "allocatable", capacity);
        }
        // The older field holds the first of the newer; if it does not, it is the one that counts.
        let Some(spec) = node.get_mut("spec") else { return };
        match (spec.text("podCIDR"), spec.list("podCIDRs").first()) {
            ("", Some(first)) => spec["podCIDR"] = first.clone(),
            ("", None) => {}
            (one, first) if first.and_then(Value::as_str) != Some(one) => {
                spec["podCIDRs"] = vec![one].into();
            }
            _ => {}
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, node: &mut Value) {
        drop_config(node, None);
    }

    fn prepare_update(&self, _context: &Context<'_>, old: &Value, new: &mut Value) {
        drop_config(new, Some(old));
    }

    fn validate_create(&self, _context: &Context<'_>, node: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        taints(node, &mut errors);
        amounts(node, &mut errors);
        networks(node, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource != "status" {
            errors.extend(self.validate_create(context, new));
        }
        amounts(new, &mut errors);
        let addresses = new["status"].list("addresses");
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].contains(address) {
                let path = Path::root("status").child("addresses").index(at);
                errors.duplicate(&path, address.clone());
            }
        }
        let (was, is) = (&old["spec"], &new["spec"]);
        let before = was.list("podCIDRs");
        let moved = "node updates may not change podCIDR except from \"\" to valid";
        if !before.is_empty() {
            let after = is.list("podCIDRs");
            let path = spec().child("podCIDRs");
            if before.len() != after.len() {
                errors.forbidden(&path, moved);
            } else {
                for _ in before.iter().zip(after).filter(|(was, is)| was != is) {
                    errors.forbidden(&path, moved);
                }
            }
        }
        let provider = (was.text("providerID"), is.text("providerID"));
        if !provider.0.is_empty() && provider.0 != provider.1 {
            let how = if provider.1.is_empty() { "cleared" } else { "modified" };
            let detail = format!("field cannot be {how} once set");
            errors.invalid_nil(&spec().child("providerID"), &detail);
        }
        taints(new, &mut errors);
        if was.text("externalID") != is.text("externalID") {
            errors.forbidden(&spec().child("externalID"), "may not be updated");
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/nodes")
    }

    fn cells(&self, node: &Value) -> Vec<Value> {
        let (status, info) = (&node["status"], &node["status"]["nodeInfo"]);
        let address = |kind: &str| {
            let mut all = status.list("addresses").iter();
            let found = all.find(|address| address.text("type") == kind);
            found.map_or_else(|| "<none>".into(), |address| Value::from(address.text("address")))
        };
        let unknown = |field: &str| or(info.text(field), "<unknown>");
        let mut kernel = unknown("kernelVersion");
        if let Some(arch) = info.opt_text("architecture").filter(|arch| !arch.is_empty()) {
            kernel = format!("{} ({arch})", kernel.as_str().unwrap_or_default()).into();
        }
        vec![
            name(node),
            state(node).into(),
            or(&roles(node).join(","), "<none>"),
            age(node),
            info.text("kubeletVersion").into(),
            address("InternalIP"),
            address("ExternalIP"),
            unknown("osImage"),
            kernel,
            unknown("containerRuntimeVersion"),
        ]
    }
}

/// Kubelets take their configuration from files only, since v1.24.
fn drop_config(node: &mut Value, old: Option<&Value>) {
    for (part, field) in [("spec", "configSource"), ("status", "config")] {
        let kept = old.is_some_and(|old| old[part].has(field));
        if let Some(part) = node.get_mut(part).filter(|_| !kept) {
            remove(part, field);
        }
    }
}

fn state(node: &Value) -> String {
    let mut conditions = node["status"].list("conditions").iter().rev();
    let ready = conditions.find(|condition| condition.text("type") == "Ready");
    let mut state = match ready.map(|ready| ready.text("status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if node["spec"].on("unschedulable") {
        state.push_str(",SchedulingDisabled");
    }
    state
}

fn roles(node: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = node["metadata"]
        .strings("labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn taints(node: &Value, errors: &mut Errors) {
    // Upstream's path, though taints are in the spec.
    let path = Path::root("metadata").child("taints");
    let taints = node["spec"].list("taints");
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        label_name(taint.text("key"), &path.child("key"), errors);
        let value = taint.text("value");
        let messages = apimachinery::names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&path.child("value"), value, &messages.join(";"));
        }
        match taint.text("effect") {
            "" => errors.required(&path.child("effect"), ""),
            effect => taint_effect(effect, &path.child("effect"), errors),
        }
        let pair = |taint: &Value| (taint.text("key").to_owned(), taint.text("effect").to_owned());
        if taints[..at].iter().any(|other| pair(other) == pair(taint)) {
            let detail = "taints must be unique by key and effect pair";
            errors.push(FieldError::duplicate_shown(
                &path,
                &internal::show("core.Taint", taint),
                detail,
            ));
        }
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    for list in ["capacity", "allocatable"] {
        for (resource, amount) in node["status"].entries(list) {
            let path = Path::root("status").child(list).child(resource);
            resource_names::amount(resource, amount, &path, errors);
        }
    }
}

fn networks(node: &Value, errors: &mut Errors) {
    let path = spec().child("podCIDRs");
    let all = node["spec"].list("podCIDRs");
    let mut families = Vec::new();
    let mut unreadable = None;
    for (at, network) in all.iter().enumerate() {
        let text = network.as_str().unwrap_or_default();
        match cidr(text, &path.index(at), errors) {
            Some(network) => families.push(network.address.is_ipv6()),
            None => unreadable = unreadable.or(Some((at, text))),
        }
    }
    if let Some((at, text)) = unreadable.filter(|_| all.len() > 1) {
        let detail = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{at}]: <nil> \
             (invalid CIDR address: {text})"
        );
        errors.push(FieldError::internal(&path, &detail));
    }
    let dual = unreadable.is_none() && families.contains(&true) && families.contains(&false);
    if all.len() > 1 && (!dual || all.len() > 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&path, node["spec"]["podCIDRs"].clone(), detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_and_roles_are_summed_up() {
        let node = json!({
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "a",
                "node-role.kubernetes.io/": "x"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]},
        });
        assert_eq!(state(&node), "NotReady,SchedulingDisabled");
        assert_eq!(roles(&node), ["a", "worker"]);
        assert_eq!(state(&json!({})), "Unknown");
    }
}
