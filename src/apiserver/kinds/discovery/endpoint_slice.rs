//! EndpointSlices.

use std::net::IpAddr;

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    addresses::{canonical_ip, endpoint_ip, ip},
    columns::{self, age, name},
    core::endpoints::PROTOCOLS,
    declared::{
        self,
        Given::Filled,
        Rule::{self, Each, Enum, Field, Immutable, MaxItems, Optional, Required},
    },
    validation::{Errors, Report as _, dns_label, dns_subdomain, label_name, labels},
    value::{Fields as _, list_mut, remove, same, set_default},
};

pub(crate) struct EndpointSlice;

const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MOST_ADDRESSES: usize = 100;

/// What is declared of slices.
const DECLARED: &[Rule] = &[
    Field("addressType", &[Required(Filled), Immutable, Enum(TYPES)]),
    Field(
        "endpoints",
        &[
            Optional(Filled),
            Each(&[Field("addresses", &[Required(Filled), MaxItems(MOST_ADDRESSES)])]),
        ],
    ),
];

impl Hooks for EndpointSlice {
    fn default(&self, slice: &mut Value) {
        for port in list_mut(slice, "ports") {
            set_default(port, "name", "");
            set_default(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, slice: &mut Value) {
        drop_topology(slice);
        slice["metadata"]["generation"] = 1.into();
    }

    /// Labels count too.
    fn counts_generations(&self) -> bool {
        false
    }

    fn prepare_update(&self, _context: &Context<'_>, old: &Value, new: &mut Value) {
        let label = |of: &Value| of["metadata"]["labels"].clone();
        let parts = ["addressType", "endpoints", "ports"];
        if !same(&label(old), &label(new)) || parts.iter().any(|it| !same(&old[*it], &new[*it])) {
            let generation = old["metadata"].int("generation").unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
        if !same(&old["endpoints"], &new["endpoints"]) {
            drop_topology(new);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, slice: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        ports(slice, &Path::root("ports"), &mut errors);
        endpoints(slice, &Path::root("endpoints"), &mut errors);
        declared::check(DECLARED, None, slice, &Path::empty(), &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let kind = new.text("addressType");
        if old.text("addressType") != kind && !kind.is_empty() && !TYPES.contains(&kind) {
            errors.unsupported(&Path::root("addressType"), kind, TYPES);
        }
        ports(new, &Path::root("ports"), &mut errors);
        // What older versions let in may stay.
        if !same(&old["endpoints"], &new["endpoints"]) {
            endpoints(new, &Path::root("endpoints"), &mut errors);
        }
        declared::check(DECLARED, Some(old), new, &Path::empty(), &mut errors);
        errors
    }

    fn warnings(&self, old: Option<&Value>, slice: &Value) -> Vec<String> {
        match old.is_none() && slice.text("addressType") == "FQDN" {
            true => vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()],
            false => Vec::new(),
        }
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("discovery.k8s.io/endpointslices")
    }

    fn cells(&self, slice: &Value) -> Vec<Value> {
        let shown = |list: Vec<String>| match list.is_empty() {
            true => Value::from("<unset>"),
            false => columns::few(&list, 3).into(),
        };
        let ports = slice.list("ports").iter().map(|port| match port.int("port") {
            Some(number) => number.to_string(),
            None => port.opt_text("name").unwrap_or("*").to_owned(),
        });
        let addresses = slice.list("endpoints").iter().flat_map(|endpoint| {
            endpoint.texts("addresses").map(ToOwned::to_owned).collect::<Vec<_>>()
        });
        vec![
            name(slice),
            slice.text("addressType").into(),
            shown(ports.collect()),
            shown(addresses.collect()),
            age(slice),
        ]
    }
}

fn drop_topology(slice: &mut Value) {
    for endpoint in list_mut(slice, "endpoints") {
        remove(endpoint, "deprecatedTopology");
    }
}

fn ports(slice: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 20_000;
    let all = slice.list("ports");
    if all.len() > MOST {
        return errors.push(FieldError::too_many(path, all.len(), MOST));
    }
    for (at, port) in all.iter().enumerate() {
        let path = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            dns_label(name, &path.child("name"), errors);
        }
        if all[..at].iter().any(|other| other.text("name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        let protocol = port.text("protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.unsupported(&path.child("protocol"), protocol, &PROTOCOLS);
        }
        if let Some(protocol) = port.opt_text("appProtocol") {
            label_name(protocol, &path.child("appProtocol"), errors);
        }
    }
}

fn endpoints(slice: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 1000;
    let all = slice.list("endpoints");
    if all.len() > MOST {
        return errors.push(FieldError::too_many(path, all.len(), MOST));
    }
    for (at, endpoint) in all.iter().enumerate() {
        let path = path.index(at);
        let place = path.child("addresses");
        for (at, text) in endpoint.texts("addresses").enumerate() {
            address(text, slice.text("addressType"), &place, at, errors);
        }
        if let Some(node) = endpoint.opt_text("nodeName") {
            dns_subdomain(node, &path.child("nodeName"), errors);
        }
        labels(endpoint, "deprecatedTopology", &path, errors);
        if let Some(host) = endpoint.opt_text("hostname") {
            dns_label(host, &path.child("hostname"), errors);
        }
        if let Some(given) = endpoint.sub("hints") {
            hints(given, &path.child("hints"), errors);
        }
    }
}

fn address(text: &str, kind: &str, list: &Path, at: usize, errors: &mut Errors) {
    let path = list.index(at);
    let before = errors.len();
    let address = match kind {
        "IPv4" => ip(text, &path, errors),
        "IPv6" => canonical_ip(text, &path, errors),
        "FQDN" => return full_name(text, &path, errors),
        _ => return,
    };
    let Some(address) = address.filter(|_| errors.len() == before) else { return };
    match (kind, address) {
        ("IPv4", IpAddr::V6(_)) => errors.invalid(list, text, "must be an IPv4 address"),
        ("IPv6", IpAddr::V4(_)) => errors.invalid(list, text, "must be an IPv6 address"),
        _ => {}
    }
    endpoint_ip(text, &path, errors);
}

fn full_name(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let bare = text.strip_suffix('.').unwrap_or(text);
    let messages = names::dns1123_subdomain(bare);
    if !messages.is_empty() {
        return errors.invalid(path, bare, &messages.join(","));
    }
    if bare.split('.').count() < 2 {
        errors.invalid(
            path,
            bare,
            "should be a domain with at least two segments separated by dots",
        );
        return;
    }
    for label in bare.split('.') {
        errors.messages(path, label, names::dns1123_label(label));
    }
}

fn hints(hints: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 8;
    for field in ["forZones", "forNodes"] {
        let (path, all) = (path.child(field), hints.list(field));
        if all.len() > MOST {
            return errors.push(FieldError::too_many(&path, all.len(), MOST));
        }
        for (at, hint) in all.iter().enumerate() {
            let (path, name) = (path.index(at).child("name"), hint.text("name"));
            if all[..at].iter().any(|other| other.text("name") == name) {
                errors.duplicate(&path, name);
            }
            let messages = match field {
                "forZones" => names::label_value(name),
                _ => names::dns1123_subdomain(name),
            };
            errors.messages(&path, name, messages);
        }
    }
}
