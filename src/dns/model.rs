//! What the agent tells the DNS server: plain records, without a Kubernetes type in sight.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What a DNS server is responsible for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The cluster domain without a trailing dot, as in `cluster.local`.
    pub domain: String,
    /// Addresses that the server itself answers on: `ns.dns.<domain>`, and never an upstream.
    pub addresses: Vec<IpAddr>,
    /// The pod and service ranges, whose reverse zones are answered and never forwarded.
    pub ranges: Vec<IpNet>,
    /// The file that names the upstream servers.
    pub resolv_conf: PathBuf,
    /// Seconds that a client may keep an answer from the cluster domain.
    pub ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            addresses: Vec::new(),
            ranges: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            // The specification's value: a rolling update is seen within seconds, and asking
            // again costs one datagram that never leaves the node.
            ttl: 5,
        }
    }
}

/// One change of the records.
///
/// After a reconnect the agent begins a new generation on the receiving store and sends everything
/// again; [`Update::Synced`] then drops what was not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Update {
    /// A service is there, or has changed.
    Upsert(Record),
    /// A service is gone, or no longer has a name.
    Remove {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Everything there is has been sent.
    Synced,
}

/// One service and what its names resolve to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// What is behind the name.
    pub addresses: Addresses,
}

/// What is behind a service's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Addresses {
    /// Virtual addresses, and the ports they listen on.
    ClusterIp {
        /// One address per IP family.
        ips: Vec<IpAddr>,
        /// All ports, named or not.
        ports: Vec<Port>,
    },
    /// The endpoints themselves, grouped by what ports they have.
    Headless(Vec<Subset>),
    /// An alias for a name outside.
    ExternalName(String),
}

/// Endpoints of a headless service that have the same ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subset {
    /// The ports of each endpoint; these are target ports, for nothing translates them.
    pub ports: Vec<Port>,
    /// Endpoints that are ready, or all where the service publishes the others too.
    pub endpoints: Vec<Endpoint>,
}

/// One address of a headless service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// The pod's host name, if its subdomain names this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// A port with an SRV record, if it has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name; the single port of a service may have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The label that SRV names carry, as in `_tcp`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}
