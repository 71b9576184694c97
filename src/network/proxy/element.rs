//! What the table holds of services: elements of shared sets and maps, and nothing else.

use std::net::Ipv4Addr;

use netlink::nft::{Key, Type};

use super::model::Protocol;
use crate::masquerade::HAIRPIN;

/// An address and port that a service answers at. With the unspecified address it is a port of
/// all addresses of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Frontend {
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

impl Frontend {
    pub(super) fn is_node_port(self) -> bool {
        self.address.is_unspecified()
    }

    pub(super) fn key(self) -> Key {
        let key = Key::new();
        let key = if self.is_node_port() { key } else { key.ipv4(self.address) };
        key.protocol(self.protocol as u8).port(self.port)
    }
}

/// Where a connection is led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    pub(super) ip: Ipv4Addr,
    pub(super) port: u16,
}

/// Frontends that are treated alike: by what kind of frontend it is, and whether the traffic comes
/// under "Cluster" (all endpoints, and back by way of this node) or "Local" (endpoints of this
/// node, and the client's address is kept).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tier {
    LocalServices,
    Services,
    LocalNodePorts,
    NodePorts,
}

impl Tier {
    /// In the order in which a packet meets them.
    pub(super) const ALL: [Self; 4] =
        [Self::LocalServices, Self::Services, Self::LocalNodePorts, Self::NodePorts];

    pub(super) fn of(frontend: Frontend, local: bool) -> Self {
        match (frontend.is_node_port(), local) {
            (false, true) => Self::LocalServices,
            (false, false) => Self::Services,
            (true, true) => Self::LocalNodePorts,
            (true, false) => Self::NodePorts,
        }
    }

    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::LocalServices | Self::LocalNodePorts)
    }

    pub(super) fn is_node_ports(self) -> bool {
        matches!(self, Self::LocalNodePorts | Self::NodePorts)
    }

    /// The name of its chain; those of its other objects begin with it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LocalServices => "local-services",
            Self::Services => "services",
            Self::LocalNodePorts => "local-node-ports",
            Self::NodePorts => "node-ports",
        }
    }

    /// The set of its frontends that have so many endpoints.
    pub(super) fn members(self, endpoints: u32) -> String {
        format!("{}-{endpoints}", self.name())
    }

    /// The map of all endpoints of its frontends.
    pub(super) fn endpoints(self) -> &'static str {
        match self {
            Self::LocalServices => "local-service-endpoints",
            Self::Services => "service-endpoints",
            Self::LocalNodePorts => "local-node-port-endpoints",
            Self::NodePorts => "node-port-endpoints",
        }
    }

    /// The verdict map of its frontends with session affinity.
    pub(super) fn affinity(self) -> &'static str {
        match self {
            Self::LocalServices => "local-service-affinity",
            Self::Services => "service-affinity",
            Self::LocalNodePorts => "local-node-port-affinity",
            Self::NodePorts => "node-port-affinity",
        }
    }

    /// The fields that a frontend is known by.
    pub(super) fn key(self) -> &'static [Type] {
        if self.is_node_ports() { NODE_PORT } else { SERVICE }
    }
}

pub(super) const SERVICE: &[Type] = &[Type::Ipv4, Type::Protocol, Type::Port];
pub(super) const NODE_PORT: &[Type] = &[Type::Protocol, Type::Port];

/// A list of endpoints with session affinity: which service port's, and which of its two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sticky {
    pub(super) service: u64,
    pub(super) local: bool,
}

/// What happens to connections that no endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Refusal {
    /// There are no endpoints: the client is told.
    Reject,
    /// There are endpoints, but not for this traffic here: a load balancer may try elsewhere.
    Drop,
}

/// One element. Sorted they are grouped by set, and by key within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Element {
    /// The frontend has so many endpoints.
    Member { tier: Tier, endpoints: u32, frontend: Frontend },
    /// The frontend's endpoint of this number.
    Endpoint { tier: Tier, frontend: Frontend, index: u32, target: Target },
    /// The frontend has session affinity.
    Affinity { tier: Tier, frontend: Frontend, sticky: Sticky },
    /// The frontend takes no connections.
    Refused { node_port: bool, how: Refusal, frontend: Frontend },
    /// An address that no connection passes on by.
    ClusterAddress(Ipv4Addr),
    /// A service's address outside the networks for services.
    ExternalAddress(Ipv4Addr),
    /// The frontend is for some sources only.
    Restricted(Frontend),
    /// Such a source, a range of addresses.
    Source { frontend: Frontend, first: Ipv4Addr, last: Ipv4Addr },
    /// An endpoint of this node.
    Hairpin(Ipv4Addr),
}

/// Names of the sets that there is one of.
pub(super) const REJECT: &str = "rejected-services";
pub(super) const DROP: &str = "dropped-services";
pub(super) const REJECT_NODE_PORTS: &str = "rejected-node-ports";
pub(super) const DROP_NODE_PORTS: &str = "dropped-node-ports";
pub(super) const CLUSTER_ADDRESSES: &str = "cluster-addresses";
pub(super) const EXTERNAL_ADDRESSES: &str = "external-addresses";
pub(super) const RESTRICTED: &str = "restricted-services";
pub(super) const SOURCES: &str = "allowed-sources";

/// What a map has for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing: it is a set.
    None,
    /// An address and port.
    Target(Target),
    /// A chain of session affinity.
    Sticky(Sticky),
    /// The key is a range, and this its end.
    RangeEnd(Key),
}

impl Element {
    /// The set that it is of.
    pub(super) fn set(&self) -> std::borrow::Cow<'static, str> {
        match *self {
            Self::Member { tier, endpoints, .. } => tier.members(endpoints).into(),
            Self::Endpoint { tier, .. } => tier.endpoints().into(),
            Self::Affinity { tier, .. } => tier.affinity().into(),
            Self::Refused { node_port: false, how: Refusal::Reject, .. } => REJECT.into(),
            Self::Refused { node_port: false, how: Refusal::Drop, .. } => DROP.into(),
            Self::Refused { node_port: true, how: Refusal::Reject, .. } => REJECT_NODE_PORTS.into(),
            Self::Refused { node_port: true, how: Refusal::Drop, .. } => DROP_NODE_PORTS.into(),
            Self::ClusterAddress(_) => CLUSTER_ADDRESSES.into(),
            Self::ExternalAddress(_) => EXTERNAL_ADDRESSES.into(),
            Self::Restricted(_) => RESTRICTED.into(),
            Self::Source { .. } => SOURCES.into(),
            Self::Hairpin(_) => HAIRPIN.into(),
        }
    }

    /// Whether both are of one set.
    pub(super) fn same_set(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Member { tier: a, endpoints: m, .. },
                Self::Member { tier: b, endpoints: n, .. },
            ) => (a, m) == (b, n),
            (Self::Endpoint { tier: a, .. }, Self::Endpoint { tier: b, .. })
            | (Self::Affinity { tier: a, .. }, Self::Affinity { tier: b, .. }) => a == b,
            (
                Self::Refused { node_port: a, how: m, .. },
                Self::Refused { node_port: b, how: n, .. },
            ) => (a, m) == (b, n),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether several services can have it. It is there as long as one has it.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::ClusterAddress(_) | Self::ExternalAddress(_) | Self::Hairpin(_))
    }

    pub(super) fn key(&self) -> Key {
        match *self {
            Self::Member { frontend, .. }
            | Self::Affinity { frontend, .. }
            | Self::Refused { frontend, .. }
            | Self::Restricted(frontend) => frontend.key(),
            Self::Endpoint { frontend, index, .. } => frontend.key().mark(index),
            Self::ClusterAddress(ip) | Self::ExternalAddress(ip) => Key::new().ipv4(ip),
            Self::Source { frontend, first, .. } => frontend.key().ipv4(first),
            Self::Hairpin(ip) => Key::new().ipv4(ip).ipv4(ip),
        }
    }

    pub(super) fn value(&self) -> Value {
        match *self {
            Self::Endpoint { target, .. } => Value::Target(target),
            Self::Affinity { sticky, .. } => Value::Sticky(sticky),
            Self::Source { frontend, last, .. } => Value::RangeEnd(frontend.key().ipv4(last)),
            _ => Value::None,
        }
    }
}
