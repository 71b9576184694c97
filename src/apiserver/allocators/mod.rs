//! What Services take that must be unique in the cluster: cluster addresses and node ports.
//!
//! Both are bitmaps in memory, filled at start from the Services that there are: the Services
//! themselves are the record, so nothing can leak or disagree with them.

mod addresses;
mod bitmap;
mod ports;

use std::ops::RangeInclusive;

use serde_json::Value;
use storage::Collection;

pub use self::{
    addresses::{Addresses, CidrError},
    ports::Ports,
};

/// Why something could not be allocated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Nothing is left.
    #[error("range is full")]
    Full,
    /// Someone has it.
    #[error("provided {0} is already allocated")]
    Taken(&'static str),
    /// It is outside of the range; the text names the range.
    #[error("{0}")]
    OutOfRange(String),
}

/// The allocators of Services.
pub struct Allocators {
    /// Cluster addresses.
    pub addresses: Addresses,
    /// Node ports.
    pub ports: Ports,
}

impl Allocators {
    /// Allocators over a CIDR and a range of ports, in which what the stored Services hold is
    /// taken.
    ///
    /// # Errors
    /// When `cidr` is no IPv4 network of at least two addresses.
    pub fn new(
        cidr: &str,
        ports: RangeInclusive<u16>,
        services: &Collection,
    ) -> Result<Self, CidrError> {
        let all = Self::empty(cidr, ports)?;
        for service in services.snapshot().iter() {
            if let Ok(service) = service.value() {
                all.take(&service);
            }
        }
        Ok(all)
    }

    /// Allocators of which nothing is taken.
    ///
    /// # Errors
    /// When `cidr` is no IPv4 network of at least two addresses.
    pub fn empty(cidr: &str, ports: RangeInclusive<u16>) -> Result<Self, CidrError> {
        Ok(Self { addresses: Addresses::new(cidr)?, ports: Ports::new(ports) })
    }

    /// Marks what a stored Service holds.
    fn take(&self, service: &Value) {
        for address in cluster_ips(service) {
            // Of another range, or taken twice by a defect long ago: the Services keep it anyway.
            let _ = self.addresses.take(address);
        }
        for port in node_ports(service) {
            let _ = self.ports.take(port);
        }
    }

    /// Gives back what `service` holds and `kept` does not.
    pub fn release(&self, service: &Value, kept: Option<&Value>) {
        let kept_ips: Vec<&str> = kept.map(|kept| cluster_ips(kept).collect()).unwrap_or_default();
        for address in cluster_ips(service).filter(|address| !kept_ips.contains(address)) {
            self.addresses.release(address);
        }
        let kept_ports: Vec<u16> = kept.map(|kept| node_ports(kept).collect()).unwrap_or_default();
        for port in node_ports(service).filter(|port| !kept_ports.contains(port)) {
            self.ports.release(port);
        }
    }
}

/// The addresses that a Service has, headless ones excluded.
pub fn cluster_ips(service: &Value) -> impl Iterator<Item = &str> {
    let spec = &service["spec"];
    let listed = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let single = spec["clusterIP"].as_str().filter(|_| spec["clusterIPs"].is_null());
    single.into_iter().chain(listed).filter(|ip| !ip.is_empty() && *ip != "None")
}

/// The node ports that a Service has, the health check's included.
pub fn node_ports(service: &Value) -> impl Iterator<Item = u16> {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let all = ports.chain(std::iter::once(&spec["healthCheckNodePort"]));
    all.filter_map(|port| u16::try_from(port.as_u64()?).ok().filter(|port| *port != 0))
}
