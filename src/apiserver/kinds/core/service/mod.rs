//! Services.

mod allocation;
mod families;
mod validation;

use apimachinery::{Status, field::FieldError, names};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, labels, name},
    validation::Errors,
    value::{Fields as _, list_mut, object_at, remove, same, set_default},
};

pub(crate) struct Service;

impl Hooks for Service {
    fn default(&self, service: &mut Value) {
        default_status(service);
        let Some(spec) = service.get_mut("spec") else { return };
        match spec.text("sessionAffinity") {
            "None" => drop(remove(spec, "sessionAffinityConfig")),
            "ClientIP" => {
                let timeout = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds");
                if timeout.is_none_or(Value::is_null) {
                    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
                }
            }
            _ => {}
        }
        for port in list_mut(spec, "ports") {
            set_default(port, "protocol", "TCP");
            let target = &port["targetPort"];
            if target.is_null() || *target == 0 || *target == "" {
                port["targetPort"] = port["port"].clone();
            }
        }
        if externally_accessible(spec) && spec.text("externalTrafficPolicy").is_empty() {
            spec["externalTrafficPolicy"] = "Cluster".into();
        }
        if spec.text("type") != "ExternalName" {
            set_default(spec, "internalTrafficPolicy", "Cluster");
        }
        if spec.text("type") == "LoadBalancer" {
            set_default(spec, "allocateLoadBalancerNodePorts", true);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, service: &mut Value) {
        service["status"] = json!({"loadBalancer": {}});
        drop_internal_policy(service);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            drop_what_the_type_has_not(old, new);
            drop_internal_policy(new);
        }
    }

    fn allocate(
        &self,
        context: &Context<'_>,
        old: Option<&Value>,
        new: &mut Value,
    ) -> Result<(), Status> {
        if !context.subresource.is_empty() {
            return Ok(());
        }
        families::settle(old, new)?;
        allocation::allocate(&context.server.allocators, old, new, context.dry_run)
    }

    fn release(&self, context: &Context<'_>, service: &Value, kept: Option<&Value>) {
        // A dry run takes nothing.
        if !context.dry_run {
            context.server.allocators.release(service, kept);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, service: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validation::service(None, service, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            validation::load_balancer(old, new, &mut errors);
        } else {
            validation::change(old, new, &mut errors);
            validation::service(Some(old), new, &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_dns_label(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/services")
    }

    fn cells(&self, service: &Value) -> Vec<Value> {
        let spec = &service["spec"];
        let internal = spec.texts("clusterIPs").next().unwrap_or("<none>");
        let ports: Vec<String> = spec.list("ports").iter().map(port_text).collect();
        vec![
            name(service),
            spec.text("type").into(),
            internal.into(),
            external(service).into(),
            if ports.is_empty() { "<none>".into() } else { ports.join(",").into() },
            age(service),
            labels(spec, "selector"),
        ]
    }
}

/// `443:30001/TCP`.
fn port_text(port: &Value) -> String {
    let (number, protocol) = (port.int("port").unwrap_or_default(), port.text("protocol"));
    match port.int("nodePort").unwrap_or_default() {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

/// What stands in the column of external addresses.
fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let own: Vec<&str> = spec.texts("externalIPs").collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let mut all: Vec<String> = addresses(&service["status"]["loadBalancer"]);
            all.extend(own.into_iter().map(ToOwned::to_owned));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses of a load balancer's status, sorted.
pub(crate) fn addresses(status: &Value) -> Vec<String> {
    let one = |ingress: &Value| match ingress.text("ip") {
        "" => ingress.text("hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let mut all: Vec<String> = status.list("ingress").iter().map(one).collect();
    all.retain(|address| !address.is_empty());
    all.sort();
    all.dedup();
    all
}

/// Whether others than pods may reach it.
fn externally_accessible(spec: &Value) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether nodes answer health checks of a load balancer on a port of their own.
fn needs_health_check(spec: &Value) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(spec.text("type"), "NodePort" | "LoadBalancer")
}

fn is_headless(spec: &Value) -> bool {
    matches!(spec.list("clusterIPs"), [one] if one == "None")
}

fn default_status(service: &mut Value) {
    if service["spec"].text("type") != "LoadBalancer" {
        return;
    }
    if let Some(balancer) = service.pointer_mut("/status/loadBalancer") {
        for ingress in list_mut(balancer, "ingress") {
            if !ingress.text("ip").is_empty() {
                set_default(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// A name outside has no policy for traffic inside. One that is none is for validation to refuse.
fn drop_internal_policy(service: &mut Value) {
    const POLICY: &str = "internalTrafficPolicy";
    let Some(spec) = service.get_mut("spec") else { return };
    if spec.text("type") == "ExternalName" && matches!(spec.text(POLICY), "Cluster" | "Local") {
        remove(spec, POLICY);
    }
}

/// When the type changes, what only the old type has goes, unless the client has changed it: then
/// validation speaks.
fn drop_what_the_type_has_not(old: &Value, new: &mut Value) {
    let was = &old["spec"];
    let is = new["spec"].clone();
    let Some(spec) = new.get_mut("spec") else { return };
    let unchanged = |field: &str| same(&was[field], &is[field]);
    let kind = is.text("type");
    if was.text("type") != "ExternalName" && kind == "ExternalName" {
        if unchanged("clusterIP") && unchanged("clusterIPs") {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|f| unchanged(f)) {
            remove(spec, field);
        }
    }
    if has_node_ports(was) && !has_node_ports(&is) {
        let known: Vec<i64> = was.list("ports").iter().filter_map(|p| p.int("nodePort")).collect();
        let added =
            is.list("ports").iter().filter_map(|p| p.int("nodePort")).any(|p| !known.contains(&p));
        if !added {
            for port in list_mut(spec, "ports") {
                remove(port, "nodePort");
            }
        }
    }
    if needs_health_check(was) && !needs_health_check(&is) && unchanged("healthCheckNodePort") {
        remove(spec, "healthCheckNodePort");
    }
    if was.text("type") == "LoadBalancer" && kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(field) {
                remove(spec, field);
            }
        }
    }
    let policy = "externalTrafficPolicy";
    if externally_accessible(was) && !externally_accessible(&is) && unchanged(policy) {
        remove(spec, policy);
    }
    if kind != "LoadBalancer"
        && let Some(status) = object_at(new, "status")
    {
        status.insert("loadBalancer".to_owned(), json!({}));
    }
}
