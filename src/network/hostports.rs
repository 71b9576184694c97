//! Host ports: ports of the node that lead to one pod on it.
//!
//! To the proxy they are services of a single endpoint that is always here.

use std::net::Ipv4Addr;

use crate::proxy::{Change, Endpoint, Protocol, ServicePort};

/// A port of the node that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the node to answer at; all but 127.0.0.0/8 if absent. The loopback's answers
    /// to clients with another address of the node only: the kernel lets nothing from 127.0.0.1
    /// leave the loopback.
    pub host_ip: Option<Ipv4Addr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
}

impl HostPort {
    fn id(&self, pod_uid: &str) -> String {
        let ip = self.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        format!("hostport/{pod_uid}/{ip}:{}/{}", self.host_port, self.protocol as u8)
    }

    /// The change that makes it lead to the pod. Clients keep their address.
    pub fn open(&self, pod_uid: &str, pod_ip: Ipv4Addr) -> Change {
        let all_addresses = self.host_ip.is_none_or(|ip| ip.is_unspecified());
        Change::Upsert(ServicePort {
            id: self.id(pod_uid),
            protocol: self.protocol,
            port: self.host_port,
            node_port: all_addresses.then_some(self.host_port),
            external_ips: self.host_ip.filter(|_| !all_addresses).into_iter().collect(),
            endpoints: vec![Endpoint::new(pod_ip, self.container_port, true)],
            external_traffic_local: true,
            ..ServicePort::default()
        })
    }

    /// The change that closes it.
    pub fn close(&self, pod_uid: &str) -> Change {
        Change::Remove(self.id(pod_uid))
    }
}
