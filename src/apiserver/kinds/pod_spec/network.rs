//! A pod's network: host ports, DNS, host names.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::Spec;
use crate::kinds::{
    addresses,
    validation::{Errors, Report as _, dns_subdomain},
    value::Fields as _,
};

/// On the host's network a container's ports are the host's.
pub(super) fn host_ports(spec: &Spec<'_>, path: &Path, errors: &mut Errors) {
    if !spec.value.on("hostNetwork") {
        return;
    }
    for (at, container) in spec.value.list("containers").iter().enumerate() {
        for (index, port) in container.list("ports").iter().enumerate() {
            let host = port.int("hostPort").unwrap_or_default();
            let own = port.int("containerPort").unwrap_or_default();
            if (spec.options.is_pod || host != 0) && host != own {
                let path = path.index(at).child("ports").index(index).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&path, host, detail);
            }
        }
    }
}

pub(super) fn dns_config(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = spec.sub("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        match config {
            None => {
                return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            }
            Some(config) if config.list("nameservers").is_empty() => {
                let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                return errors.required(&path.child("nameservers"), detail);
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return };
    let (servers, searches) = (path.child("nameservers"), path.child("searches"));
    if config.list("nameservers").len() > 3 {
        let all = config["nameservers"].clone();
        errors.invalid(&servers, all, "must not have more than 3 nameservers");
    }
    for (at, server) in config.texts("nameservers").enumerate() {
        addresses::ip(server, &servers.index(at), errors);
    }
    if config.list("searches").len() > 32 {
        let all = config["searches"].clone();
        errors.invalid(&searches, all, "must not have more than 32 search paths");
    }
    let length = config.texts("searches").map(|search| search.len() + 1).sum::<usize>();
    if length > 2048 + 1 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&searches, config["searches"].clone(), detail);
    }
    for (at, search) in config.texts("searches").enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let messages = names::dns1123_subdomain_with_underscore(search);
        errors.messages(&searches.index(at), search, messages);
    }
    for (at, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&path.child("options").index(at), "must not be empty");
        }
    }
}

pub(super) fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (at, alias) in spec.list("hostAliases").iter().enumerate() {
        let path = path.index(at);
        addresses::ip(alias.text("ip"), &path.child("ip"), errors);
        for (index, name) in alias.texts("hostnames").enumerate() {
            dns_subdomain(name, &path.child("hostnames").index(index), errors);
        }
    }
}

pub(super) fn hostname_override(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(name) = spec.opt_text("hostnameOverride") else { return };
    let path = path.child("hostnameOverride");
    if spec.on("setHostnameAsFQDN") {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.on("hostNetwork") {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&path, 64));
    }
    dns_subdomain(name, &path, errors);
}
