//! Environment variables that lead to services, as Docker links once had them.

use std::collections::BTreeMap;

use apimachinery::Object;
use client::Informer;
use serde::Deserialize;
use tracing::warn;

#[derive(Deserialize)]
struct Service {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "clusterIP")]
    cluster_ip: String,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    name: String,
    #[serde(default)]
    protocol: String,
    port: u16,
}

/// The variables that a pod in `namespace` sees: those of `default/kubernetes` always, those of the
/// services in its namespace with `links`.
pub(crate) fn service_variables(
    services: &Informer,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let master = services.get(&apimachinery::Key::new("default", "kubernetes"));
    let own = if links { services.in_namespace(namespace) } else { Vec::new() };
    // A service called kubernetes in the pod's namespace overrides the one in default.
    for object in master.iter().chain(&own) {
        add(object, &mut variables);
    }
    variables
}

fn add(object: &Object, variables: &mut BTreeMap<String, String>) {
    let service: Service = match object.parse() {
        Ok(service) => service,
        Err(error) => return warn!(service = %object.key, %error, "service cannot be read"),
    };
    let ip = &service.spec.cluster_ip;
    if ip.is_empty() || ip == "None" {
        return;
    }
    let name = variable_name(&object.key.name);
    let Some(first) = service.spec.ports.first() else { return };
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{name}_SERVICE_HOST"), ip.clone());
    set(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for (at, port) in service.spec.ports.iter().enumerate() {
        if !port.name.is_empty() {
            let port_name = variable_name(&port.name);
            set(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
        }
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let lower = protocol.to_ascii_lowercase();
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let url = format!("{lower}://{host}:{}", port.port);
        if at == 0 {
            set(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        set(prefix.clone(), url);
        set(format!("{prefix}_PROTO"), lower);
        set(format!("{prefix}_PORT"), port.port.to_string());
        set(format!("{prefix}_ADDR"), ip.clone());
    }
}

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links() {
        let body = json!({"metadata": {"name": "web-front", "namespace": "d"}, "spec": {
            "clusterIP": "10.43.0.7",
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]}});
        let body = bytes::Bytes::from(body.to_string());
        let object = Object::parse_index(body, &[] as &[&str]).unwrap();
        let mut variables = BTreeMap::new();
        add(&object, &mut variables);
        for (name, value) in [
            ("WEB_FRONT_SERVICE_HOST", "10.43.0.7"),
            ("WEB_FRONT_SERVICE_PORT", "80"),
            ("WEB_FRONT_SERVICE_PORT_DNS", "53"),
            ("WEB_FRONT_PORT", "tcp://10.43.0.7:80"),
            ("WEB_FRONT_PORT_53_UDP", "udp://10.43.0.7:53"),
            ("WEB_FRONT_PORT_53_UDP_PROTO", "udp"),
            ("WEB_FRONT_PORT_80_TCP_ADDR", "10.43.0.7"),
        ] {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
    }
}
