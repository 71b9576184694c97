//! Taking cluster addresses and node ports for a Service.

use apimachinery::{Status, field::FieldError};
use serde_json::{Value, json};

use super::{families::refuse, has_node_ports, is_headless, needs_health_check};
use crate::{
    allocators::{AllocationError, Allocators, cluster_ips, node_ports},
    kinds::{validation::spec, value::Fields as _},
};

/// Takes what `new` needs and `old` has not. What was taken is given back on failure.
pub(super) fn allocate(
    allocators: &Allocators,
    old: Option<&Value>,
    new: &mut Value,
) -> Result<(), Status> {
    let mut taken = Taken { allocators, addresses: Vec::new(), ports: Vec::new() };
    let result = taken.all(old, new);
    if result.is_err() {
        taken.undo();
    }
    result
}

struct Taken<'a> {
    allocators: &'a Allocators,
    addresses: Vec<String>,
    ports: Vec<u16>,
}

impl Taken<'_> {
    fn all(&mut self, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        self.address(old, new)?;
        let held: Vec<u16> = old.map(|old| node_ports(old).collect()).unwrap_or_default();
        if has_node_ports(&new["spec"]) {
            self.ports(&held, new)?;
        }
        if needs_health_check(&new["spec"]) {
            self.health_check(&held, new)?;
        }
        Ok(())
    }

    fn undo(&self) {
        self.addresses.iter().for_each(|address| self.allocators.addresses.release(address));
        self.ports.iter().for_each(|port| self.allocators.ports.release(*port));
    }

    fn address(&mut self, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
        let service = &new["spec"];
        if service.text("type") == "ExternalName" || is_headless(service) {
            return Ok(());
        }
        let addresses = &self.allocators.addresses;
        let held: Vec<&str> = old.map(|old| cluster_ips(old).collect()).unwrap_or_default();
        // Only the first: there is one family.
        let wanted = service.texts("clusterIPs").next().unwrap_or_default().to_owned();
        let path = spec().child("clusterIPs");
        if !wanted.is_empty() {
            if held.contains(&wanted.as_str()) {
                return Ok(());
            }
            // A change from one address to another is refused by validation.
            if let Err(error) = addresses.take(&wanted) {
                let detail = format!("failed to allocate IP {wanted}: {error}");
                let all = service["clusterIPs"].clone();
                return Err(refuse(new, &[FieldError::invalid(&path, all, &detail)]));
            }
            self.addresses.push(wanted);
            return Ok(());
        }
        let name = new["metadata"].text("name");
        let address = addresses.take_any().map_err(|error| {
            Status::internal(format!(
                "failed to allocate a serviceIP for Service {name:?}: {error}"
            ))
        })?;
        let address = address.to_string();
        new["spec"]["clusterIP"] = json!(address);
        new["spec"]["clusterIPs"] = json!([address]);
        self.addresses.push(address);
        Ok(())
    }

    /// Node ports: those asked for, then any for the rest, the same for equal port numbers.
    fn ports(&mut self, held: &[u16], new: &mut Value) -> Result<(), Status> {
        let service = &new["spec"];
        let automatic =
            service.text("type") == "NodePort" || service.on("allocateLoadBalancerNodePorts");
        let count = service.list("ports").len();
        let mut known: Vec<(i64, u16)> = Vec::new();
        for at in 0..count {
            let port = &new["spec"]["ports"][at];
            let number = port.int("port").unwrap_or_default();
            let asked = port.int("nodePort").unwrap_or_default();
            if asked == 0 && !automatic {
                continue;
            }
            let path = spec().child("ports").index(at).child("nodePort");
            let shared = known.iter().find(|(own, _)| *own == number).map(|(_, node)| *node);
            let node = match (asked, shared) {
                (0, Some(node)) => node,
                (0, None) => match requested(&new["spec"], number) {
                    Some(node) => self.take(node, held, new, &path)?,
                    None => self.any_port()?,
                },
                (asked, shared) if shared.map(i64::from) == Some(asked) => continue,
                (asked, _) => self.take(asked, held, new, &path)?,
            };
            if shared.is_none() {
                known.push((number, node));
            }
            new["spec"]["ports"][at]["nodePort"] = node.into();
        }
        Ok(())
    }

    fn take(
        &mut self,
        wanted: i64,
        held: &[u16],
        new: &Value,
        path: &apimachinery::field::Path,
    ) -> Result<u16, Status> {
        let refused = |error: AllocationError| {
            refuse(new, &[FieldError::invalid(path, wanted, &error.to_string())])
        };
        let Ok(port) = u16::try_from(wanted) else {
            // Out of any range: port 0 is in none, so its words are right.
            return self.allocators.ports.take(0).map(|()| 0).map_err(refused);
        };
        if held.contains(&port) || self.ports.contains(&port) {
            return Ok(port);
        }
        self.allocators.ports.take(port).map_err(refused)?;
        self.ports.push(port);
        Ok(port)
    }

    fn any_port(&mut self) -> Result<u16, Status> {
        let port =
            self.allocators.ports.take_any().map_err(|error| {
                Status::internal(format!("failed to allocate a nodePort: {error}"))
            })?;
        self.ports.push(port);
        Ok(port)
    }

    fn health_check(&mut self, held: &[u16], new: &mut Value) -> Result<(), Status> {
        let wanted = new["spec"].int("healthCheckNodePort").unwrap_or_default();
        let port = match u16::try_from(wanted) {
            Ok(0) => self.any_port()?,
            Ok(port) if held.contains(&port) => port,
            Ok(port) => {
                self.allocators.ports.take(port).map_err(|error| {
                    Status::internal(format!(
                        "failed to allocate requested HealthCheck NodePort {port}: {error}"
                    ))
                })?;
                self.ports.push(port);
                port
            }
            // Validation says what is wrong with it.
            Err(_) => return Ok(()),
        };
        new["spec"]["healthCheckNodePort"] = port.into();
        Ok(())
    }
}

/// A node port that the client asks for, for another protocol of the same port number.
fn requested(spec: &Value, number: i64) -> Option<i64> {
    let same = spec.list("ports").iter().filter(|port| port.int("port") == Some(number));
    same.filter_map(|port| port.int("nodePort")).find(|node| *node != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocators() -> Allocators {
        Allocators::empty("10.43.0.0/24", 30_000..=30_010).unwrap()
    }

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": spec})
    }

    #[test]
    fn a_service_gets_an_address_and_ports_once() {
        let all = allocators();
        let mut new = service(json!({"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "nodePort": 30_003},
        ]}));
        allocate(&all, None, &mut new).unwrap();
        let ports = &new["spec"]["ports"];
        assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"], "one number for both protocols");
        assert_eq!(ports[2]["nodePort"], 30_003);
        let address = new["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(address.starts_with("10.43.0."));

        let mut again = new.clone();
        allocate(&all, Some(&new), &mut again).unwrap();
        assert_eq!(again, new, "an update keeps them");

        let mut other =
            service(json!({"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]}));
        let error = allocate(&all, None, &mut other).unwrap_err();
        assert!(error.message.ends_with("provided IP is already allocated"), "{error}");
        all.release(&new, None);
        allocate(&all, None, &mut other).unwrap();
    }

    #[test]
    fn a_failure_gives_back_what_it_took() {
        let all = allocators();
        let mut first =
            service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30_001}]}));
        allocate(&all, None, &mut first).unwrap();
        let mut second =
            service(json!({"type": "NodePort", "clusterIPs": ["10.43.0.9"], "ports": [
                {"port": 1, "nodePort": 30_002}, {"port": 2, "nodePort": 30_001},
            ]}));
        let error = allocate(&all, None, &mut second).unwrap_err();
        assert_eq!(
            error.message,
            r#"Service "s" is invalid: spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated"#
        );
        assert!(all.ports.take(30_002).is_ok());
        assert!(all.addresses.take("10.43.0.9").is_ok());
    }
}
