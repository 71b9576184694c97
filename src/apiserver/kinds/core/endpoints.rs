//! Endpoints: what EndpointSlices have taken the place of.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    addresses::{endpoint_ip, ip},
    columns::{self, age, name},
    validation::{Errors, Report as _, dns_label, dns_subdomain, label_name, one_of, port_number},
    value::{Fields as _, same},
};

pub(crate) struct Endpoints;

/// Protocols of ports.
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

impl Hooks for Endpoints {
    fn validate_create(&self, _context: &Context<'_>, endpoints: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for (at, subset) in endpoints.list("subsets").iter().enumerate() {
            validate(subset, &Path::root("subsets").index(at), &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        // What older versions let in may stay.
        match same(&old["subsets"], &new["subsets"]) {
            true => Vec::new(),
            false => self.validate_create(context, new),
        }
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/endpoints")
    }

    fn cells(&self, endpoints: &Value) -> Vec<Value> {
        vec![name(endpoints), shown(endpoints).into(), age(endpoints)]
    }
}

fn validate(subset: &Value, path: &Path, errors: &mut Errors) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| subset.list(list).is_empty()) {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        for (at, address) in subset.list(list).iter().enumerate() {
            let path = path.child(list).index(at);
            let text = address.text("ip");
            ip(text, &path.child("ip"), errors);
            let host = address.text("hostname");
            if !host.is_empty() {
                dns_label(host, &path.child("hostname"), errors);
            }
            if let Some(node) = address.opt_text("nodeName") {
                dns_subdomain(node, &path.child("nodeName"), errors);
            }
            endpoint_ip(text, &path.child("ip"), errors);
        }
    }
    let ports = subset.list("ports");
    for (at, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(at);
        match port.text("name") {
            "" if ports.len() > 1 => errors.required(&path.child("name"), ""),
            "" => {}
            name => dns_label(name, &path.child("name"), errors),
        }
        port_number(port.int("port").unwrap_or_default(), &path.child("port"), errors);
        one_of(port, "protocol", &path, &PROTOCOLS, errors);
        if let Some(protocol) = port.opt_text("appProtocol") {
            label_name(protocol, &path.child("appProtocol"), errors);
        }
    }
}

/// The first addresses, with their ports.
fn shown(endpoints: &Value) -> String {
    let subsets = endpoints.list("subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.list("addresses").iter().map(|address| address.text("ip"));
        if subset.list("ports").is_empty() {
            all.extend(addresses.clone().map(ToOwned::to_owned));
        }
        for port in subset.list("ports") {
            let port = port.int("port").unwrap_or_default();
            all.extend(addresses.clone().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    columns::few(&all, 3)
}
