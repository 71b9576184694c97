//! Address families of Services: which there are, and how the single and the plural fields for
//! cluster addresses go together. This cluster has IPv4 Services.

use apimachinery::{GroupVersionKind, Status, field::FieldError};
use serde_json::{Value, json};

use super::{has_node_ports, needs_health_check, validation};
use crate::kinds::{
    validation::{Errors, Report as _, spec},
    value::{Fields as _, list_mut, remove, same, set_default},
};

const FAMILY: &str = "IPv4";

/// The 422 for what is wrong with a Service.
pub(super) fn refuse(service: &Value, errors: &[FieldError]) -> Status {
    let kind = GroupVersionKind::new("", "v1", "Service");
    Status::invalid(&kind, service["metadata"].text("name"), errors)
}

/// Fills in what the client left out: what the Service has already, and the families.
pub(super) fn settle(old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if let Some(old) = old {
        keep_allocated(&old["spec"], &mut new["spec"]);
    }
    normalize(old.map(|old| &old["spec"]), &mut new["spec"]);
    if new["spec"].text("type") == "ExternalName" {
        return Ok(());
    }
    default_policy(old, &mut new["spec"]);
    let mut errors = Errors::new();
    validation::cluster_ips(old, new, &mut errors);
    if errors.is_empty() {
        families(&mut new["spec"], &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(refuse(new, &errors)) }
}

/// A client that does not send what was allocated keeps it.
fn keep_allocated(was: &Value, is: &mut Value) {
    let external = |spec: &Value| spec.text("type") == "ExternalName";
    if !external(was) && !external(is) {
        if is.text("clusterIP").is_empty() && !was.text("clusterIP").is_empty() {
            is["clusterIP"] = was["clusterIP"].clone();
        }
        if is.list("clusterIPs").is_empty() && !was.list("clusterIPs").is_empty() {
            is["clusterIPs"] = was["clusterIPs"].clone();
        }
    }
    let wants_ports = |spec: &Value| {
        has_node_ports(spec)
            && (spec.text("type") == "NodePort"
                || spec.flag("allocateLoadBalancerNodePorts") != Some(false))
    };
    if wants_ports(was) && wants_ports(is) {
        let of = |spec: &Value| -> Vec<i64> {
            spec.list("ports")
                .iter()
                .filter_map(|p| p.int("nodePort"))
                .filter(|p| *p != 0)
                .collect()
        };
        let mine = of(is);
        let used: Vec<i64> = of(was).into_iter().filter(|port| mine.contains(port)).collect();
        for port in list_mut(is, "ports") {
            if port.int("nodePort").unwrap_or_default() != 0 {
                continue;
            }
            let known = was.list("ports").iter().rfind(|old| old.text("name") == port.text("name"));
            let known =
                known.and_then(|old| old.int("nodePort")).filter(|p| *p != 0 && !used.contains(p));
            if let Some(known) = known {
                port["nodePort"] = known.into();
            }
        }
    }
    if needs_health_check(was)
        && needs_health_check(is)
        && is.int("healthCheckNodePort").unwrap_or_default() == 0
    {
        is["healthCheckNodePort"] = was["healthCheckNodePort"].clone();
    }
}

/// `clusterIP` is the first of `clusterIPs`; an old client knows the first field alone.
fn normalize(was: Option<&Value>, is: &mut Value) {
    let single = is.text("clusterIP").to_owned();
    let Some(was) = was else {
        if !single.is_empty() && is.list("clusterIPs").is_empty() {
            is["clusterIPs"] = json!([single]);
        }
        return;
    };
    if was.text("clusterIP") == single {
        if is.list("clusterIPs").is_empty() && !was.list("clusterIPs").is_empty() {
            is["clusterIPs"] = was["clusterIPs"].clone();
        }
    } else if same(&was["clusterIPs"], &is["clusterIPs"]) {
        if single.is_empty() {
            remove(is, "clusterIPs");
        } else {
            is["clusterIPs"] = json!([single]);
        }
    }
}

fn selectorless_headless(spec: &Value) -> bool {
    spec.text("clusterIP") == "None" && spec.entries("selector").next().is_none()
}

fn default_policy(old: Option<&Value>, spec: &mut Value) {
    let before = old.and_then(|old| old["spec"].opt_text("ipFamilyPolicy"));
    let policy = match before {
        Some(policy) => policy,
        None if selectorless_headless(spec) => "RequireDualStack",
        None => "SingleStack",
    };
    set_default(spec, "ipFamilyPolicy", policy);
}

fn families(service: &mut Value, errors: &mut Errors) {
    let policy = service.text("ipFamilyPolicy").to_owned();
    let at = |field: &str| spec().child(field);
    if policy == "SingleStack" {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if service.list(field).len() == 2 {
                let detail = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.invalid(&at("ipFamilyPolicy"), policy.as_str(), &detail);
            }
        }
    }
    let mut known: Vec<String> = service.texts("ipFamilies").map(ToOwned::to_owned).collect();
    for (index, ip) in service.texts("clusterIPs").enumerate().filter(|(_, ip)| *ip != "None") {
        if index < known.len() {
            continue;
        }
        if ip.contains(':') {
            let all = service["clusterIPs"].clone();
            let detail = "IPv6 is not configured on this cluster";
            errors.invalid(&at("clusterIPs").index(index), all, detail);
        } else {
            known.push(FAMILY.to_owned());
        }
    }
    if !errors.is_empty() {
        return;
    }
    if selectorless_headless(service) {
        if known.is_empty() {
            known.push(FAMILY.to_owned());
        }
        // Its endpoints are someone else's, who may use both families.
        if known.len() < 2 && policy != "SingleStack" {
            let other = if known[0] == FAMILY { "IPv6" } else { FAMILY };
            known.push(other.to_owned());
        }
        service["ipFamilies"] = json!(known);
        return;
    }
    if policy == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&at("ipFamilyPolicy"), policy.as_str(), detail);
    }
    for (index, family) in known.iter().enumerate().filter(|(_, family)| *family != FAMILY) {
        let detail = "not configured on this cluster";
        errors.invalid(&at("ipFamilies").index(index), family.as_str(), detail);
    }
    if errors.is_empty() {
        if known.is_empty() {
            known.push(FAMILY.to_owned());
        }
        service["ipFamilies"] = json!(known);
    }
}
