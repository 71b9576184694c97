//! From one service port to its elements: the rules of Kubernetes on who gets where.

use std::net::Ipv4Addr;

use super::element::{Element, Frontend, Refusal, Sticky, Target, Tier};
use super::model::ServicePort;
use crate::cidr::Cidr;

/// A service port as the proxy keeps it: its endpoints in two lists, each in the order of its
/// numbers in the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    /// All but the endpoints.
    pub(super) port: ServicePort,
    /// The endpoints of the traffic policies "Cluster".
    pub(super) cluster: Vec<Target>,
    /// The endpoints of the traffic policies "Local".
    pub(super) local: Vec<Target>,
}

/// Which kind of address a frontend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cluster,
    External,
    LoadBalancer,
}

impl Service {
    /// The service port with its endpoints in lists that differ as little as possible from those
    /// that `old` has.
    pub(super) fn new(mut port: ServicePort, old: Option<&Self>) -> Self {
        let endpoints = std::mem::take(&mut port.endpoints);
        let targets = |wanted: fn(&super::Endpoint) -> bool| {
            let list = endpoints.iter().filter(|e| wanted(e));
            list.map(|e| Target { ip: e.ip, port: e.port }).collect::<Vec<_>>()
        };
        let no_order = Self::default();
        let old = old.unwrap_or(&no_order);
        Self {
            cluster: settle(&old.cluster, targets(|e| e.cluster)),
            local: settle(&old.local, targets(|e| e.local)),
            port,
        }
    }

    /// What the service port is called in names of chains and sets.
    pub(super) fn hash(&self) -> u64 {
        super::fnv1a(self.port.id.as_bytes())
    }

    /// Its frontends, each once, as the first kind that it is named as.
    fn frontends_by_kind(&self) -> Vec<(Kind, Frontend)> {
        let port = &self.port;
        let at = |kind| move |ip: &Ipv4Addr| (kind, *ip, port.port);
        let addresses = port
            .cluster_ips
            .iter()
            .map(at(Kind::Cluster))
            .chain(port.load_balancer_ips.iter().map(at(Kind::LoadBalancer)))
            .chain(port.external_ips.iter().map(at(Kind::External)))
            .filter(|(_, address, _)| !address.is_unspecified());
        let node_port = port.node_port.map(|port| (Kind::External, Ipv4Addr::UNSPECIFIED, port));
        let mut frontends: Vec<(Kind, Frontend)> = Vec::new();
        for (kind, address, number) in addresses.chain(node_port) {
            let frontend = Frontend { address, port: number, protocol: port.protocol };
            if frontends.iter().all(|(_, f)| *f != frontend) {
                frontends.push((kind, frontend));
            }
        }
        frontends
    }

    /// The addresses and ports that it wants to answer at.
    pub(super) fn frontends(&self) -> impl Iterator<Item = Frontend> {
        self.frontends_by_kind().into_iter().map(|(_, frontend)| frontend)
    }

    /// The lists of endpoints that have session affinity.
    pub(super) fn sticky_lists(&self) -> impl Iterator<Item = (Sticky, &[Target])> {
        let (service, port) = (self.hash(), &self.port);
        let external = self.frontends_by_kind().iter().any(|(kind, _)| *kind != Kind::Cluster);
        let cluster = !port.internal_traffic_local || external;
        let local = port.internal_traffic_local || (port.external_traffic_local && external);
        [(cluster, false, &self.cluster), (local, true, &self.local)]
            .into_iter()
            .filter(|(used, _, list)| *used && port.affinity.is_some() && !list.is_empty())
            .map(move |(_, local, list)| (Sticky { service, local }, &list[..]))
    }

    /// Its elements, sorted, of the frontends for which `owned` holds: two services may want the
    /// same.
    pub(super) fn render(
        &self,
        service_networks: &[Cidr],
        owned: impl Fn(Frontend) -> bool,
    ) -> Vec<Element> {
        let out = &mut Vec::new();
        let nothing = self.cluster.is_empty() && self.local.is_empty();
        for (kind, frontend) in self.frontends_by_kind().into_iter().filter(|(_, f)| owned(*f)) {
            let address = frontend.address;
            let external = !frontend.is_node_port()
                && !service_networks.iter().any(|network| network.contains(address));
            if external {
                out.push(Element::ExternalAddress(address));
            }
            let left_out = if kind == Kind::Cluster {
                out.push(Element::ClusterAddress(address));
                self.internal(frontend, out)
            } else {
                self.external(frontend, out)
            };
            if left_out {
                let how = if nothing { Refusal::Reject } else { Refusal::Drop };
                let node_port = frontend.is_node_port();
                out.push(Element::Refused { node_port, how, frontend });
            }
            if kind == Kind::LoadBalancer {
                self.sources(frontend, out);
            }
        }
        out.extend(self.local.iter().map(|target| Element::Hairpin(target.ip)));
        // An address is of several frontends, and an endpoint may have several ports.
        out.sort_unstable();
        out.dedup();
        std::mem::take(out)
    }

    /// A frontend within the cluster. True if it has no endpoints.
    fn internal(&self, frontend: Frontend, out: &mut Vec<Element>) -> bool {
        let local = self.port.internal_traffic_local;
        let list = if local { &self.local } else { &self.cluster };
        // Not Tier::of(frontend, local): traffic from pods does come under this policy.
        self.lead(Tier::of(frontend, false), frontend, list, local, out);
        list.is_empty()
    }

    /// A frontend for clients from outside. Pods and the node itself use it as if they had gone
    /// out and come in by a load balancer that has all endpoints. True if clients from outside get
    /// nowhere.
    fn external(&self, frontend: Frontend, out: &mut Vec<Element>) -> bool {
        self.lead(Tier::of(frontend, false), frontend, &self.cluster, false, out);
        if !self.port.external_traffic_local {
            return self.cluster.is_empty();
        }
        let tier = Tier::of(frontend, true);
        if self.local.is_empty() && !self.cluster.is_empty() {
            out.push(Element::Member { tier, endpoints: 0, frontend });
        }
        self.lead(tier, frontend, &self.local, true, out);
        self.local.is_empty()
    }

    /// Leads a frontend to the endpoints of `list`, which is the local one or not.
    fn lead(
        &self,
        tier: Tier,
        frontend: Frontend,
        list: &[Target],
        local: bool,
        out: &mut Vec<Element>,
    ) {
        if list.is_empty() {
            return;
        }
        if self.port.affinity.is_some() {
            let sticky = Sticky { service: self.hash(), local };
            out.push(Element::Affinity { tier, frontend, sticky });
            return;
        }
        out.push(Element::Member { tier, endpoints: list.len() as u32, frontend });
        let numbered = (0..).zip(list);
        out.extend(numbered.map(|(index, target)| Element::Endpoint {
            tier,
            frontend,
            index,
            target: *target,
        }));
    }

    /// Who may use a load balancer's address.
    fn sources(&self, frontend: Frontend, out: &mut Vec<Element>) {
        let ranges = &self.port.load_balancer_source_ranges;
        if ranges.is_empty() {
            return;
        }
        out.push(Element::Restricted(frontend));
        // The kernel refuses ranges that overlap. Of networks one then contains the other.
        let inner = |n: usize, range: &Cidr| {
            let others = ranges.iter().enumerate().filter(|(m, _)| *m != n);
            others.into_iter().any(|(m, o)| o.covers(*range) && (o != range || m < n))
        };
        let outermost = ranges.iter().enumerate().filter(|(n, range)| !inner(*n, range));
        out.extend(outermost.map(|(_, range)| Element::Source {
            frontend,
            first: range.first(),
            last: range.last(),
        }));
    }
}

/// `new` without repetitions, in an order in which whatever `old` has too keeps its place, unless
/// that is past the new end.
fn settle(old: &[Target], mut new: Vec<Target>) -> Vec<Target> {
    new.sort_unstable();
    new.dedup();
    let length = new.len();
    let mut slots: Vec<Option<Target>> = vec![None; length];
    let mut placed = vec![false; length];
    for (slot, target) in slots.iter_mut().zip(old) {
        if let Ok(at) = new.binary_search(target)
            && !placed[at]
        {
            placed[at] = true;
            *slot = Some(*target);
        }
    }
    let mut fresh = new.iter().zip(&placed).filter(|(_, placed)| !**placed).map(|(t, _)| *t);
    slots.into_iter().filter_map(|slot| slot.or_else(|| fresh.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, Protocol};
    use super::*;
    use std::time::Duration;

    fn target(n: u8) -> Target {
        Target { ip: [10, 42, 0, n].into(), port: 80 }
    }

    fn targets(numbers: &[u8]) -> Vec<Target> {
        numbers.iter().map(|n| target(*n)).collect()
    }

    const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 7);
    const EXTERNAL_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    /// A service with a cluster address, a node port and a load balancer, and endpoints 2 here and
    /// 3 elsewhere, as far as the letters "l" and "r" are in `endpoints`.
    fn port(endpoints: &str) -> ServicePort {
        let endpoint = |c| Endpoint::new([10, 42, 0, 2 + u8::from(c == 'r')].into(), 80, c == 'l');
        ServicePort {
            id: "default/web:http".into(),
            cluster_ips: vec![CLUSTER_IP],
            port: 80,
            node_port: Some(30080),
            load_balancer_ips: vec![EXTERNAL_IP],
            endpoints: endpoints.chars().map(endpoint).collect(),
            ..ServicePort::default()
        }
    }

    fn render(port: ServicePort) -> Vec<Element> {
        Service::new(port, None).render(&["10.43.0.0/16".parse().unwrap()], |_| true)
    }

    fn frontend(address: Ipv4Addr, port: u16) -> Frontend {
        Frontend { address, port, protocol: Protocol::Tcp }
    }

    /// How many endpoints each frontend has in its tier; 99 for session affinity.
    fn members(elements: &[Element]) -> Vec<(&'static str, u32)> {
        let member = |e: &Element| match e {
            Element::Member { tier, endpoints, .. } => Some((tier.name(), *endpoints)),
            Element::Affinity { tier, .. } => Some((tier.name(), 99)),
            _ => None,
        };
        elements.iter().filter_map(member).collect()
    }

    fn refused(elements: &[Element]) -> Vec<(Refusal, u16)> {
        let refused = |e: &Element| match e {
            Element::Refused { how, frontend, .. } => Some((*how, frontend.port)),
            _ => None,
        };
        elements.iter().filter_map(refused).collect()
    }

    #[test]
    fn endpoints_keep_their_numbers() {
        assert_eq!(settle(&[], targets(&[3, 2, 3])), targets(&[2, 3]));
        assert_eq!(settle(&targets(&[3, 2]), targets(&[2, 3])), targets(&[3, 2]));
        assert_eq!(settle(&targets(&[1, 2, 3]), targets(&[1, 3, 4])), targets(&[1, 4, 3]));
        assert_eq!(settle(&targets(&[1, 2, 3]), targets(&[2, 3])), targets(&[3, 2]));
        assert_eq!(settle(&targets(&[1, 2]), targets(&[])), targets(&[]));
        assert_eq!(settle(&targets(&[1]), targets(&[1, 2, 3])), targets(&[1, 2, 3]));
    }

    #[test]
    fn all_frontends_lead_to_all_endpoints() {
        let elements = render(port("lr"));
        assert_eq!(members(&elements), [("services", 2), ("services", 2), ("node-ports", 2)]);
        assert!(refused(&elements).is_empty());
        assert!(elements.contains(&Element::ClusterAddress(CLUSTER_IP)));
        assert!(elements.contains(&Element::ExternalAddress(EXTERNAL_IP)));
        assert!(!elements.contains(&Element::ExternalAddress(CLUSTER_IP)));
        // Only what runs here can meet itself.
        assert!(elements.contains(&Element::Hairpin([10, 42, 0, 2].into())));
        assert!(!elements.contains(&Element::Hairpin([10, 42, 0, 3].into())));
    }

    #[test]
    fn without_endpoints_all_is_rejected() {
        for local in [false, true] {
            let elements = render(ServicePort {
                external_traffic_local: local,
                internal_traffic_local: local,
                ..port("")
            });
            assert!(members(&elements).is_empty());
            let how: Vec<_> = refused(&elements).iter().map(|r| r.0).collect();
            assert_eq!(how, [Refusal::Reject; 3]);
        }
    }

    #[test]
    fn external_traffic_policy_local() {
        let local = |endpoints| ServicePort { external_traffic_local: true, ..port(endpoints) };
        let elements = render(local("lr"));
        assert_eq!(
            members(&elements),
            [
                ("local-services", 1),
                ("services", 2),
                ("services", 2),
                ("local-node-ports", 1),
                ("node-ports", 2)
            ]
        );
        // No endpoint here: dropped from outside, but pods and the node get to the others.
        let elements = render(local("r"));
        assert_eq!(
            members(&elements),
            [
                ("local-services", 0),
                ("services", 1),
                ("services", 1),
                ("local-node-ports", 0),
                ("node-ports", 1)
            ]
        );
        assert_eq!(refused(&elements), [(Refusal::Drop, 80), (Refusal::Drop, 30080)]);
    }

    #[test]
    fn internal_traffic_policy_local() {
        let local = |endpoints| ServicePort { internal_traffic_local: true, ..port(endpoints) };
        let elements = render(local("lr"));
        assert_eq!(members(&elements), [("services", 1), ("services", 2), ("node-ports", 2)]);
        let elements = render(local("r"));
        assert_eq!(members(&elements), [("services", 1), ("node-ports", 1)]);
        assert_eq!(refused(&elements), [(Refusal::Drop, 80)]);
        assert!(elements.contains(&Element::Refused {
            node_port: false,
            how: Refusal::Drop,
            frontend: frontend(CLUSTER_IP, 80)
        }));
    }

    #[test]
    fn a_terminating_endpoint_can_be_for_one_policy_only() {
        let mut port = ServicePort { external_traffic_local: true, ..port("r") };
        port.endpoints
            .push(Endpoint { cluster: false, ..Endpoint::new([10, 42, 0, 9].into(), 80, true) });
        assert_eq!(
            members(&render(port)),
            [
                ("local-services", 1),
                ("services", 1),
                ("services", 1),
                ("local-node-ports", 1),
                ("node-ports", 1)
            ]
        );
    }

    #[test]
    fn affinity_has_chains_of_its_own() {
        let affinity = Some(Duration::from_secs(10));
        let port = ServicePort { affinity, external_traffic_local: true, ..port("lr") };
        let service = Service::new(port.clone(), None);
        let lists: Vec<_> = service.sticky_lists().map(|(s, l)| (s.local, l.len())).collect();
        assert_eq!(lists, [(false, 2), (true, 1)]);
        let elements = render(port);
        assert!(members(&elements).iter().all(|m| m.1 == 99));
        assert!(!elements.iter().any(|e| matches!(e, Element::Endpoint { .. })));
    }

    #[test]
    fn sources_of_a_load_balancer_do_not_overlap() {
        let ranges = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "192.0.2.1/32"];
        let ranges = ranges.iter().map(|r| r.parse().unwrap()).collect();
        let elements = render(ServicePort { load_balancer_source_ranges: ranges, ..port("l") });
        let sources = elements.iter().filter_map(|e| match e {
            Element::Source { first, last, .. } => Some((first.to_string(), last.to_string())),
            _ => None,
        });
        let expected = [("10.0.0.0", "10.255.255.255"), ("192.0.2.1", "192.0.2.1")];
        assert_eq!(
            sources.collect::<Vec<_>>(),
            expected.map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        let restricted = elements.iter().filter(|e| matches!(e, Element::Restricted(_)));
        assert_eq!(restricted.count(), 1, "not the cluster address, nor the node port");
    }
}
