//! NetworkPolicies.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    addresses::cidr,
    columns::{self, age, name, selector},
    validation::{Errors, Report as _, label_selector, port_number, spec},
    value::{Fields as _, list_mut, set_default},
};

pub(crate) struct NetworkPolicy;

impl Hooks for NetworkPolicy {
    fn default(&self, policy: &mut Value) {
        let Some(spec) = policy.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        for direction in ["ingress", "egress"] {
            for rule in list_mut(spec, direction) {
                list_mut(rule, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
            }
        }
        if spec.list("policyTypes").is_empty() {
            let both = !spec.list("egress").is_empty();
            spec["policyTypes"] =
                if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        }
    }

    fn validate_create(&self, _context: &Context<'_>, policy: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&policy["spec"], &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("networking.k8s.io/networkpolicies")
    }

    fn cells(&self, policy: &Value) -> Vec<Value> {
        vec![name(policy), selector(&policy["spec"]["podSelector"]), age(policy)]
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    label_selector(spec, "podSelector", path, errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in spec.list(direction).iter().enumerate() {
            let path = path.child(direction).index(at);
            for (at, port) in rule.list("ports").iter().enumerate() {
                port_of(port, &path.child("ports").index(at), errors);
            }
            for (at, other) in rule.list(peers).iter().enumerate() {
                peer(other, &path.child(peers).index(at), errors);
            }
        }
    }
    let path = path.child("policyTypes");
    if spec.list("policyTypes").len() > 2 {
        let detail = "may not specify more than two policyTypes";
        return errors.invalid(&path, spec["policyTypes"].clone(), detail);
    }
    for (at, kind) in spec.texts("policyTypes").enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.unsupported(&path.index(at), kind, &["Ingress", "Egress"]);
        }
    }
}

fn port_of(port: &Value, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = port.opt_text("protocol")
        && !matches!(protocol, "TCP" | "UDP" | "SCTP")
    {
        errors.unsupported(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (end, place) = (port.int("endPort"), path.child("endPort"));
    match port.sub("port") {
        None => {
            if let Some(end) = end {
                errors.invalid(&place, end, "may not be specified when `port` is not specified");
            }
        }
        Some(Value::String(name)) => {
            if let Some(end) = end {
                errors.invalid(&place, end, "may not be specified when `port` is non-numeric");
            }
            errors.messages(&path.child("port"), name, names::port_name(name));
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or_default();
            port_number(number, &path.child("port"), errors);
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&place, end, "must be greater than or equal to `port`");
                }
                port_number(end, &place, errors);
            }
        }
    }
}

fn peer(peer: &Value, path: &Path, errors: &mut Errors) {
    label_selector(peer, "podSelector", path, errors);
    label_selector(peer, "namespaceSelector", path, errors);
    let selectors = peer.has("podSelector") || peer.has("namespaceSelector");
    let Some(block) = peer.sub("ipBlock") else {
        if !selectors {
            errors.required(path, "must specify a peer");
        }
        return;
    };
    ip_block(block, &path.child("ipBlock"), errors);
    if selectors {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, path: &Path, errors: &mut Errors) {
    let text = block.text("cidr");
    if text.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let Some(network) = cidr(text, &path.child("cidr"), errors) else { return };
    for (at, text) in block.texts("except").enumerate() {
        let path = path.child("except").index(at);
        let Some(except) = cidr(text, &path, errors) else { continue };
        if !network.contains_part(&except) {
            errors.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}
