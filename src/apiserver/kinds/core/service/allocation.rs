//! Taking cluster addresses and node ports for a Service.

use apimachinery::{Status, field::FieldError};
use serde_json::{Value, json};

use super::{families::refuse, has_node_ports, is_headless, needs_health_check};
use crate::{
    allocators::{AllocationError, Allocators, node_ports},
    kinds::{validation::spec, value::Fields as _},
};

/// Takes what `new` needs and `old` has not. What was taken is given back on failure. A `dry` run
/// takes nothing, and answers with addresses and ports that could be.
pub(super) fn allocate(
    allocators: &Allocators,
    old: Option<&Value>,
    new: &mut Value,
    dry: bool,
) -> Result<(), Status> {
    let mut taken = Taken { allocators, addresses: Vec::new(), ports: Vec::new(), dry };
    let result = match old {
        None => taken.create(new),
        Some(old) => taken.update(old, new),
    };
    if result.is_err() && !dry {
        taken.undo();
    }
    result
}

struct Taken<'a> {
    allocators: &'a Allocators,
    addresses: Vec<String>,
    ports: Vec<i64>,
    dry: bool,
}

impl Taken<'_> {
    fn create(&mut self, new: &mut Value) -> Result<(), Status> {
        self.address(new)?;
        if has_node_ports(&new["spec"]) {
            self.ports(new)?;
        }
        if needs_health_check(&new["spec"]) {
            self.health_check(new)?;
        }
        Ok(())
    }

    /// A Service keeps its address; that another is wanted is for validation to say.
    fn update(&mut self, old: &Value, new: &mut Value) -> Result<(), Status> {
        if old["spec"].text("type") == "ExternalName" {
            self.address(new)?;
        }
        if has_node_ports(&new["spec"]) {
            self.ports_beside(&node_ports(old).map(i64::from).collect::<Vec<_>>(), new)?;
        }
        if !needs_health_check(&old["spec"]) && needs_health_check(&new["spec"]) {
            self.health_check(new)?;
        }
        Ok(())
    }

    fn undo(&self) {
        self.addresses.iter().for_each(|address| self.allocators.addresses.release(address));
        for port in self.ports.iter().filter_map(|port| u16::try_from(*port).ok()) {
            self.allocators.ports.release(port);
        }
    }

    fn address(&mut self, new: &mut Value) -> Result<(), Status> {
        let service = &new["spec"];
        if service.text("type") == "ExternalName" || is_headless(service) {
            return Ok(());
        }
        let addresses = &self.allocators.addresses;
        // Only the first: there is one family.
        let wanted = service.texts("clusterIPs").next().unwrap_or_default().to_owned();
        let path = spec().child("clusterIPs");
        if !wanted.is_empty() {
            let result = match self.dry {
                true => addresses.check(&wanted).map(drop),
                false => addresses.take(&wanted),
            };
            if let Err(error) = result {
                let detail = format!("failed to allocate IP {wanted}: {error}");
                let all = service["clusterIPs"].clone();
                return Err(refuse(new, &[FieldError::invalid(&path, all, &detail)]));
            }
            self.addresses.push(wanted);
            return Ok(());
        }
        let name = new["metadata"].text("name");
        let any = if self.dry { Ok(addresses.network()) } else { addresses.take_any() };
        let address = any.map_err(|error| {
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
    fn ports(&mut self, new: &mut Value) -> Result<(), Status> {
        let automatic = automatic(&new["spec"]);
        let count = new["spec"].list("ports").len();
        let mut known: Vec<(i64, i64)> = Vec::new();
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
                (_, None) => match requested(&new["spec"], number) {
                    Some(node) => self.take(node, new, &path)?,
                    None => self.any_port()?,
                },
                (asked, Some(node)) if node == asked => continue,
                (asked, Some(_)) => self.take(asked, new, &path)?,
            };
            if shared.is_none() {
                known.push((number, node));
            }
            new["spec"]["ports"][at]["nodePort"] = node.into();
        }
        Ok(())
    }

    /// Node ports of a Service that holds some.
    fn ports_beside(&mut self, held: &[i64], new: &mut Value) -> Result<(), Status> {
        let automatic = automatic(&new["spec"]);
        let mut all: Vec<(String, i64)> = Vec::new();
        for at in 0..new["spec"].list("ports").len() {
            let port = &new["spec"]["ports"][at];
            let protocol = port.text("protocol").to_owned();
            let node = match port.int("nodePort").unwrap_or_default() {
                0 if !automatic => continue,
                0 => self.any_port()?,
                asked if held.contains(&asked) || self.ports.contains(&asked) => asked,
                asked => {
                    self.take(asked, new, &spec().child("ports").index(at).child("nodePort"))?
                }
            };
            new["spec"]["ports"][at]["nodePort"] = node.into();
            let pair = (protocol, node);
            if all.contains(&pair) {
                let message = format!("duplicate nodePort: {{{} {}}}", pair.0, pair.1);
                return Err(Status::failure(500, "", message));
            }
            all.push(pair);
        }
        Ok(())
    }

    fn reserve(&mut self, wanted: i64) -> Result<i64, AllocationError> {
        if !self.dry {
            // What is no number of a port is out of any range, as is port 0.
            self.allocators.ports.take(u16::try_from(wanted).unwrap_or(0))?;
        } else if self.ports.contains(&wanted) || self.allocators.ports.is_taken(wanted) {
            return Err(AllocationError::Taken("port"));
        }
        self.ports.push(wanted);
        Ok(wanted)
    }

    fn take(
        &mut self,
        wanted: i64,
        new: &Value,
        path: &apimachinery::field::Path,
    ) -> Result<i64, Status> {
        self.reserve(wanted)
            .map_err(|error| refuse(new, &[FieldError::invalid(path, wanted, &error.to_string())]))
    }

    fn any_port(&mut self) -> Result<i64, Status> {
        let port = match self.dry {
            // Upstream's guess.
            true => self.ports.iter().max().copied().unwrap_or(32_768) + 1,
            false => i64::from(self.allocators.ports.take_any().map_err(|error| {
                Status::internal(format!("failed to allocate a nodePort: {error}"))
            })?),
        };
        self.ports.push(port);
        Ok(port)
    }

    fn health_check(&mut self, new: &mut Value) -> Result<(), Status> {
        let port = match new["spec"].int("healthCheckNodePort").unwrap_or_default() {
            0 => self.any_port()?,
            wanted => self.reserve(wanted).map_err(|error| {
                Status::internal(format!(
                    "failed to allocate requested HealthCheck NodePort {wanted}: {error}"
                ))
            })?,
        };
        new["spec"]["healthCheckNodePort"] = port.into();
        Ok(())
    }
}

/// Whether ports that ask for no node port get one.
fn automatic(spec: &Value) -> bool {
    spec.text("type") == "NodePort" || spec.on("allocateLoadBalancerNodePorts")
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
            {"port": 80, "nodePort": 30_003}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"},
        ]}));
        allocate(&all, None, &mut new, false).unwrap();
        let ports = &new["spec"]["ports"];
        assert_eq!(ports[1]["nodePort"], ports[2]["nodePort"], "one number for both protocols");
        assert_eq!(ports[0]["nodePort"], 30_003);
        let address = new["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(address.starts_with("10.43.0."));

        let mut again = new.clone();
        allocate(&all, Some(&new), &mut again, false).unwrap();
        assert_eq!(again, new, "an update keeps them");

        let mut other =
            service(json!({"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]}));
        let error = allocate(&all, None, &mut other, false).unwrap_err();
        assert!(error.message.ends_with("provided IP is already allocated"), "{error}");
        all.release(&new, None);
        allocate(&all, None, &mut other, false).unwrap();
    }

    #[test]
    fn a_failure_gives_back_what_it_took() {
        let all = allocators();
        let mut first =
            service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30_001}]}));
        allocate(&all, None, &mut first, false).unwrap();
        let mut second =
            service(json!({"type": "NodePort", "clusterIPs": ["10.43.0.9"], "ports": [
                {"port": 1, "nodePort": 30_002}, {"port": 2, "nodePort": 30_001},
            ]}));
        let error = allocate(&all, None, &mut second, false).unwrap_err();
        assert_eq!(
            error.message,
            r#"Service "s" is invalid: spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated"#
        );
        assert!(all.ports.take(30_002).is_ok());
        assert!(all.addresses.take("10.43.0.9").is_ok());
    }
}
