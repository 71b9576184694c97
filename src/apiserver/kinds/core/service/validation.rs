//! What a Service must hold to.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use super::{externally_accessible, is_headless, needs_health_check};
use crate::kinds::{
    addresses,
    validation::{
        Errors, Report as _, dns_label, dns_subdomain, labels, one_of, optional_one_of, port,
        port_number, spec,
    },
    value::{Fields as _, same},
};

pub(super) fn service(old: Option<&Value>, service: &Value, errors: &mut Errors) {
    let path = spec();
    let inner = &service["spec"];
    let kind = inner.text("type");
    annotations(service, errors);
    if inner.list("ports").is_empty() && !is_headless(inner) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(inner) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", &detail);
        }
        "ExternalName" => external_name(inner, &path, errors),
        _ => {}
    }
    ports(inner, &path.child("ports"), errors);
    labels(inner, "selector", &path, errors);
    session_affinity(inner, &path, errors);
    cluster_ips(old, service, errors);
    external_ips(old, inner, &path.child("externalIPs"), errors);
    one_of(
        inner,
        "type",
        &path,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        errors,
    );
    port_conflicts(inner, &path.child("ports"), errors);
    source_ranges(old, service, errors);
    let balancer = kind == "LoadBalancer";
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    match inner.flag("allocateLoadBalancerNodePorts") {
        Some(_) if !balancer => {
            errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY);
        }
        None if balancer => errors.required(&Path::root("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    if let Some(class) = inner.opt_text("loadBalancerClass") {
        let path = path.child("loadBalancerClass");
        if balancer {
            errors.messages(&path, class, names::qualified_name(class));
        } else {
            errors.forbidden(&path, ONLY);
        }
    }
    traffic(inner, &path, errors);
}

fn annotations(service: &Value, errors: &mut Errors) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let annotations = &service["metadata"]["annotations"];
    if let (Some(mode), Some(hints)) = (annotations.opt_text(MODE), annotations.opt_text(HINTS))
        && mode != hints
    {
        let path = Path::root("metadata").child("annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&path, mode, &detail);
    }
}

fn external_name(spec: &Value, path: &Path, errors: &mut Errors) {
    const NOT: &str = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.list(field).is_empty() {
            errors.forbidden(&path.child(field), NOT);
        }
    }
    if spec.has("ipFamilyPolicy") {
        errors.forbidden(&path.child("ipFamilyPolicy"), NOT);
    }
    let name = spec.text("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&path.child("externalName"), ""),
        name => dns_subdomain(name, &path.child("externalName"), errors),
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = spec.list("ports");
    let mut seen: Vec<&str> = Vec::new();
    for (at, item) in all.iter().enumerate() {
        let path = path.index(at);
        let name = item.text("name");
        if name.is_empty() && all.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            dns_label(name, &path.child("name"), errors);
            if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            seen.push(name);
        }
        port_number(item.int("port").unwrap_or_default(), &path.child("port"), errors);
        one_of(item, "protocol", &path, &["SCTP", "TCP", "UDP"], errors);
        port(&item["targetPort"], &path.child("targetPort"), errors);
        if let Some(protocol) = item.opt_text("appProtocol") {
            errors.messages(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn port_conflicts(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = spec.list("ports");
    let key = |port: &Value, field: &str| {
        (port.text("protocol").to_owned(), port.int(field).unwrap_or(0))
    };
    if spec.text("type") == "ClusterIP" {
        for (at, port) in all.iter().enumerate() {
            if port.int("nodePort").unwrap_or_default() != 0 {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.forbidden(&path.index(at).child("nodePort"), detail);
            }
        }
    }
    for (at, port) in all.iter().enumerate() {
        let node = key(port, "nodePort");
        if node.1 != 0 && all[..at].iter().any(|other| key(other, "nodePort") == node) {
            errors.duplicate(&path.index(at).child("nodePort"), node.1);
        }
    }
    for (at, port) in all.iter().enumerate() {
        let own = key(port, "port");
        if all[..at].iter().any(|other| key(other, "port") == own) {
            // The internal type, as upstream shows it.
            let shown = json!({
                "AppProtocol": null, "Name": "", "NodePort": 0, "Port": own.1, "Protocol": own.0,
                "TargetPort": 0,
            });
            let mut error = FieldError::duplicate(&path.index(at), shown);
            error.message = format!(
                r#"Duplicate value: {{"Name":"","Protocol":{:?},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                own.0, own.1
            );
            errors.push(error);
        }
    }
}

fn session_affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    one_of(spec, "sessionAffinity", path, &["ClientIP", "None"], errors);
    let config = path.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            const WHEN: &str = "when session affinity type is ClientIP";
            let Some(inner) = spec.sub("sessionAffinityConfig") else {
                return errors.required(&config, WHEN);
            };
            let config = config.child("clientIP");
            let Some(inner) = inner.sub("clientIP") else { return errors.required(&config, WHEN) };
            let config = config.child("timeoutSeconds");
            match inner.int("timeoutSeconds") {
                None => errors.required(&config, WHEN),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    let detail = "must be greater than 0 and less than 86400";
                    errors.invalid(&config, seconds, detail);
                }
                Some(_) => {}
            }
        }
        "None" if spec.has("sessionAffinityConfig") => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` among themselves.
pub(super) fn cluster_ips(old: Option<&Value>, service: &Value, errors: &mut Errors) {
    let inner = &service["spec"];
    if inner.text("type") == "ExternalName" {
        return;
    }
    let path = spec();
    let plural = path.child("clusterIPs");
    let all: Vec<&str> = inner.texts("clusterIPs").collect();
    let whole = || inner["clusterIPs"].clone();
    match (inner.text("clusterIP"), all.first()) {
        ("", Some(_)) => {
            errors.invalid(&plural, whole(), "must be empty when `clusterIP` is not specified");
        }
        ("", None) => {}
        (_, None) => errors.required(&plural, ""),
        (single, Some(first)) if single != *first => {
            errors.invalid(&plural, whole(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let families: Vec<&str> = inner.texts("ipFamilies").collect();
    for (at, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies").index(at);
        if !matches!(*family, "IPv4" | "IPv6") {
            errors.unsupported(&path, *family, &["IPv4", "IPv6"]);
        }
        if families[..at].contains(family) {
            errors.duplicate(&path, *family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    optional_one_of(inner, "ipFamilyPolicy", &path, &policies, errors);
    let known: Vec<&str> =
        old.map(|old| old["spec"].texts("clusterIPs").collect()).unwrap_or_default();
    let mut good = true;
    for (at, ip) in all.iter().enumerate() {
        if at == 0 && *ip == "None" {
            if all.len() > 1 {
                good = false;
                errors.invalid(&plural, whole(), "'None' must be the first and only value");
            }
        } else if !known.contains(ip) {
            good &= addresses::ip(ip, &plural.index(at), errors).is_some();
        }
    }
    if all.len() > 2 {
        errors.invalid(&plural, whole(), "may only hold up to 2 values");
    }
    if !good {
        return;
    }
    let v6 = |ip: &str| ip.contains(':');
    if all.len() > 1 && (all.iter().all(|ip| v6(ip)) || all.iter().all(|ip| !v6(ip))) {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(&plural, whole(), detail);
    }
    if is_headless(inner) {
        return;
    }
    for (at, (ip, family)) in all.iter().zip(&families).enumerate() {
        let wrong = match *family {
            "IPv4" => v6(ip),
            "IPv6" => !v6(ip),
            _ => false,
        };
        if wrong {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            errors.invalid(&plural.index(at), *ip, &detail);
        }
    }
}

fn external_ips(old: Option<&Value>, spec: &Value, path: &Path, errors: &mut Errors) {
    let known: Vec<&str> =
        old.map(|old| old["spec"].texts("externalIPs").collect()).unwrap_or_default();
    for (at, ip) in spec.texts("externalIPs").enumerate() {
        let path = path.index(at);
        if known.contains(&ip) || addresses::ip(ip, &path, errors).is_some() {
            crate::kinds::addresses::endpoint_ip(ip, &path, errors);
        }
    }
}

fn source_ranges(old: Option<&Value>, service: &Value, errors: &mut Errors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let inner = &service["spec"];
    let balancer = inner.text("type") == "LoadBalancer";
    if !inner.list("loadBalancerSourceRanges").is_empty() {
        let path = spec().child("LoadBalancerSourceRanges");
        if !balancer {
            errors.forbidden(&path, ONLY);
        }
        let known: Vec<&str> = old
            .map(|old| old["spec"].texts("loadBalancerSourceRanges").map(str::trim).collect())
            .unwrap_or_default();
        for (at, range) in inner.texts("loadBalancerSourceRanges").map(str::trim).enumerate() {
            if !known.contains(&range) {
                addresses::cidr(range, &path.index(at), errors);
            }
        }
    } else if let Some(text) = service["metadata"]["annotations"].opt_text(ANNOTATION) {
        let path = Path::root("metadata").child("annotations").key(ANNOTATION);
        if !balancer {
            errors.forbidden(&path, ONLY);
        }
        let before = old.and_then(|old| old["metadata"]["annotations"].opt_text(ANNOTATION));
        if before != Some(text) && !text.trim().is_empty() {
            for range in text.trim().split(',').map(str::trim) {
                addresses::cidr(range, &path, errors);
            }
        }
    }
}

fn traffic(spec: &Value, path: &Path, errors: &mut Errors) {
    let external = path.child("externalTrafficPolicy");
    let policy = spec.text("externalTrafficPolicy");
    if externally_accessible(spec) {
        one_of(spec, "externalTrafficPolicy", path, &["Cluster", "Local"], errors);
    } else if !policy.is_empty() {
        errors.invalid(&external, policy, "may only be set for externally-accessible services");
    }
    let health = path.child("healthCheckNodePort");
    match spec.int("healthCheckNodePort").unwrap_or_default() {
        0 if needs_health_check(spec) => errors.required(&health, ""),
        0 => {}
        port if needs_health_check(spec) => port_number(port, &health, errors),
        port => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&health, port, detail);
        }
    }
    let known = matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP");
    if !spec.has("internalTrafficPolicy") && known {
        errors.required(&path.child("internalTrafficPolicy"), "");
    }
    optional_one_of(spec, "internalTrafficPolicy", path, &["Cluster", "Local"], errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    optional_one_of(spec, "trafficDistribution", path, &distributions, errors);
}

/// What may not change.
pub(super) fn change(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, is) = (&old["spec"], &new["spec"]);
    let path = spec();
    const SET: &str = "may not change once set";
    let external = |spec: &Value| spec.text("type") == "ExternalName";
    if !external(was) && !external(is) {
        list_change(was, is, "clusterIPs", "primary clusterIP can not be unset", errors);
        if !is_headless(was) && !is_headless(is) {
            list_change(was, is, "ipFamilies", "primary ipFamily can not be unset", errors);
        }
    }
    let balancer = |spec: &Value| spec.text("type") == "LoadBalancer";
    if balancer(was) && balancer(is) && !same(&was["loadBalancerClass"], &is["loadBalancerClass"]) {
        let class = is["loadBalancerClass"].clone();
        errors.invalid(&path.child("loadBalancerClass"), class, SET);
    }
    let health = "healthCheckNodePort";
    if needs_health_check(was) && needs_health_check(is) && !same(&was[health], &is[health]) {
        errors.forbidden(&path.child(health), "field is immutable");
    }
}

/// The first entry stays; the second may come, and go with a policy that says so.
fn list_change(was: &Value, is: &Value, field: &str, unset: &str, errors: &mut Errors) {
    if field == "clusterIPs" && is_headless(was) && is_headless(is) {
        return;
    }
    let path = spec().child(field);
    let (before, after): (Vec<&str>, Vec<&str>) =
        (was.texts(field).collect(), is.texts(field).collect());
    let whole = || is[field].clone();
    const SET: &str = "may not change once set";
    if before.len() == after.len() {
        for (at, (old, new)) in before.iter().zip(&after).enumerate() {
            if old != new {
                let at = if field == "ipFamilies" { 0 } else { at };
                errors.invalid(&path.index(at), whole(), SET);
            }
        }
        return;
    }
    if after.is_empty() {
        errors.invalid(&path.index(0), whole(), unset);
    }
    if !before.is_empty() && !after.is_empty() && before[0] != after[0] {
        errors.invalid(&path.index(0), is["clusterIPs"].clone(), SET);
    }
    if before.len() > after.len() && after.len() == 1 && is.text("ipFamilyPolicy") != "SingleStack"
    {
        let what = if field == "ipFamilies" { "ipFamily" } else { "clusterIP" };
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        let policy = is["ipFamilyPolicy"].clone();
        errors.invalid(&spec().child("ipFamilyPolicy"), policy, &detail);
    }
}

/// The status that a load balancer reports.
pub(super) fn load_balancer(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("loadBalancer").child("ingress");
    let all = new["status"]["loadBalancer"].list("ingress");
    if new["spec"].text("type") != "LoadBalancer" {
        if !all.is_empty() {
            errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        return;
    }
    let known = old["status"]["loadBalancer"].list("ingress");
    for (at, ingress) in all.iter().enumerate() {
        let path = path.index(at);
        let ip = ingress.text("ip");
        if !ip.is_empty() && !known.iter().any(|old| old.text("ip") == ip) {
            addresses::ip(ip, &path.child("ip"), errors);
        }
        let mode = path.child("ipMode");
        match ingress.opt_text("ipMode") {
            None if !ip.is_empty() => errors.required(&mode, "must be specified when `ip` is set"),
            Some(_) if ip.is_empty() => {
                errors.forbidden(&mode, "may not be specified when `ip` is not set");
            }
            Some("VIP" | "Proxy") | None => {}
            Some(other) => errors.unsupported(&mode, other, &["Proxy", "VIP"]),
        }
        let host = ingress.text("hostname");
        if !host.is_empty() {
            let path = path.child("hostname");
            dns_subdomain(host, &path, errors);
            if host.parse::<std::net::IpAddr>().is_ok() {
                errors.invalid(&path, host, "must be a DNS name, not an IP address");
            }
        }
    }
}
