//! What the proxy is told: services and their endpoints, without any API types.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::cidr::Cidr;

/// A transport protocol that services can have. The numbers are those of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// Where a connection to a service can end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The pod's port.
    pub port: u16,
    /// Whether it is on this node, for the traffic policies "Local".
    pub local: bool,
    /// Whether the traffic policies "Cluster" use it. An endpoint on this node that is shutting
    /// down may be the last for "Local" when "Cluster" has others.
    pub cluster: bool,
}

impl Endpoint {
    /// An endpoint for all traffic policies.
    pub fn new(ip: Ipv4Addr, port: u16, local: bool) -> Self {
        Self { ip, port, local, cluster: true }
    }
}

/// One port of a service. Endpoints are those that may be used now: the caller has chosen among
/// ready, terminating and near ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePort {
    /// What it is known by: `namespace/name:port`.
    pub id: String,
    /// The protocol of all its addresses.
    pub protocol: Protocol,
    /// Its addresses within the cluster.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// Its port at all addresses but those of nodes.
    pub port: u16,
    /// Its port at the addresses of every node.
    pub node_port: Option<u16>,
    /// Addresses from outside that are led here.
    pub external_ips: Vec<Ipv4Addr>,
    /// Addresses of its load balancer.
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's addresses; all if empty.
    pub load_balancer_source_ranges: Vec<Cidr>,
    /// Where connections can end up.
    pub endpoints: Vec<Endpoint>,
    /// How long a client stays with its endpoint after its last new connection; it need not if
    /// absent.
    pub affinity: Option<Duration>,
    /// `externalTrafficPolicy: Local`: from outside only to endpoints of this node, with the
    /// client's address.
    pub external_traffic_local: bool,
    /// `internalTrafficPolicy: Local`: to the cluster addresses only to endpoints of this node.
    pub internal_traffic_local: bool,
}

/// A change of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new, or now like this.
    Upsert(ServicePort),
    /// The one of this id is gone.
    Remove(String),
}
