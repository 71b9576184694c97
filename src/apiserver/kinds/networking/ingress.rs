//! Ingresses.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    addresses::{ip, is_ip},
    columns::{self, age, name},
    validation::{Errors, Report as _, dns_label, dns_subdomain, port_number, spec},
    value::Fields as _,
};

pub(crate) struct Ingress;

const CLASS: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

impl Hooks for Ingress {
    fn validate_create(&self, _context: &Context<'_>, ingress: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&ingress["spec"], &spec(), &mut errors);
        let class = ingress["metadata"]["annotations"].opt_text(CLASS);
        let named = ingress["spec"].opt_text("ingressClassName");
        if let (Some(class), Some(named)) = (class, named)
            && class != named
        {
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&Path::root("annotations").child(CLASS), class, detail);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            status(&new["status"]["loadBalancer"], &mut errors);
        } else {
            validate(&new["spec"], &spec(), &mut errors);
        }
        errors
    }

    fn warnings(&self, old: Option<&Value>, ingress: &Value) -> Vec<String> {
        let marked = ingress["metadata"]["annotations"].has(CLASS);
        if old.is_none() && marked && !ingress["spec"].has("ingressClassName") {
            return vec![format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("networking.k8s.io/ingresses")
    }

    fn cells(&self, ingress: &Value) -> Vec<Value> {
        let spec = &ingress["spec"];
        let ports = if spec.list("tls").is_empty() { "80" } else { "80, 443" };
        let mut addresses: Vec<&str> = ingress["status"]["loadBalancer"]
            .list("ingress")
            .iter()
            .map(|point| point.opt_text("ip").unwrap_or_else(|| point.text("hostname")))
            .filter(|address| !address.is_empty())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        vec![
            name(ingress),
            spec.opt_text("ingressClassName").unwrap_or("<none>").into(),
            hosts(spec).into(),
            addresses.join(",").into(),
            ports.into(),
            age(ingress),
        ]
    }
}

/// The first hosts; rules without one count among those that are left out, as upstream has it.
fn hosts(spec: &Value) -> String {
    const MOST: usize = 3;
    let rules = spec.list("rules");
    let named = rules.iter().enumerate().filter(|(_, rule)| !rule.text("host").is_empty());
    let shown: Vec<(usize, &Value)> = named.take(MOST).collect();
    let Some((last, _)) = shown.last() else { return "*".to_owned() };
    let text = shown.iter().map(|(_, rule)| rule.text("host")).collect::<Vec<_>>().join(",");
    match shown.len() == MOST && rules.len() > last + 1 {
        true => format!("{text} + {} more...", rules.len() - MOST),
        false => text,
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = spec.list("rules");
    if rules.is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(path, spec["rules"].clone(), detail);
    }
    if let Some(default) = spec.sub("defaultBackend") {
        backend(default, &path.child("defaultBackend"), errors);
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(at);
        let host = rule.text("host");
        if !host.is_empty() {
            let place = path.child("host");
            if is_ip(host) {
                errors.invalid(&place, host, "must be a DNS name, not an IP address");
            }
            host_name(host, &place, errors);
        }
        let Some(http) = rule.sub("http") else { continue };
        let path = path.child("http").child("paths");
        let paths = http.list("paths");
        if paths.is_empty() {
            errors.required(&path, "");
        }
        for (at, entry) in paths.iter().enumerate() {
            http_path(entry, &path.index(at), errors);
        }
    }
    for (at, tls) in spec.list("tls").iter().enumerate() {
        let path = path.child("tls").index(at);
        for (at, host) in tls.texts("hosts").enumerate() {
            host_name(host, &path.child("hosts").index(at), errors);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() {
            dns_subdomain(secret, &path.child("secretName"), errors);
        }
    }
    if let Some(class) = spec.opt_text("ingressClassName") {
        dns_subdomain(class, &path.child("ingressClassName"), errors);
    }
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    let messages = match host.contains('*') {
        true => names::wildcard_dns1123_subdomain(host),
        false => names::dns1123_subdomain(host),
    };
    errors.messages(path, host, messages);
}

fn http_path(entry: &Value, path: &Path, errors: &mut Errors) {
    let Some(kind) = entry.opt_text("pathType") else {
        return errors.required(&path.child("pathType"), "pathType must be specified");
    };
    let text = entry.text("path");
    let place = path.child("path");
    let absolute = "must be an absolute path";
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&place, text, absolute);
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(*bad)) {
                errors.invalid(&place, text, &format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS.iter().filter(|bad| text.ends_with(*bad)) {
                errors.invalid(&place, text, &format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&place, text, absolute);
            }
        }
        other => errors.unsupported(&path.child("pathType"), other, &PATH_TYPES),
    }
    backend(&entry["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    match (backend.sub("resource"), backend.sub("service")) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => object_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => {
            let place = path.child("service");
            match service.text("name") {
                "" => errors.required(&place.child("name"), ""),
                name => dns_label(name, &place.child("name"), errors),
            }
            let port = &service["port"];
            let (name, number) = (port.text("name"), port.int("number").unwrap_or_default());
            let place = place.child("port");
            match (name, number) {
                ("", 0) => errors.required(path, "port name or number is required"),
                ("", number) => port_number(number, &place.child("number"), errors),
                (name, 0) => {
                    errors.messages(&place.child("name"), name, names::port_name(name));
                }
                _ => errors.invalid(path, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

/// A reference to an object of any kind.
pub(super) fn object_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = reference.opt_text("apiGroup") {
        dns_subdomain(group, &path.child("apiGroup"), errors);
    }
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => errors.required(&path.child(field), ""),
            text => errors.messages(&path.child(field), text, names::path_segment_name(text)),
        }
    }
}

fn status(balancer: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("loadBalancer").child("ingress");
    for (at, point) in balancer.list("ingress").iter().enumerate() {
        let path = path.index(at);
        let address = point.text("ip");
        if !address.is_empty() {
            ip(address, &path.child("ip"), errors);
        }
        let host = point.text("hostname");
        if !host.is_empty() {
            dns_subdomain(host, &path.child("hostname"), errors);
            if is_ip(host) {
                let detail = "must be a DNS name, not an IP address";
                errors.invalid(&path.child("hostname"), host, detail);
            }
        }
    }
}
