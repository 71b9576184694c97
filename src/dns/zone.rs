//! What the names of the cluster domain and its reverse zones answer.
//!
//! A name that exists without a record of the asked type is answered with no data (NOERROR and the
//! zone's SOA), one that does not exist with NXDOMAIN. The difference matters: resolvers take
//! NXDOMAIN for every type and for every name below (RFC 8020).

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::model::{Addresses, Config, Endpoint, Port, Subset};
use crate::store::Store;

/// The version of the specification that the records follow, as `dns-version` tells.
const VERSION: &str = "1.1.0";
/// How many aliases inside the cluster are followed before the chain counts as a loop.
const MAX_ALIASES: usize = 8;

/// The zones of a cluster.
#[derive(Debug)]
pub(crate) struct Zone {
    config: Config,
    domain: Name,
    pub(crate) store: Store,
}

/// An answer from the cluster's own zones.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) authority: Option<Record>,
    /// The last alias leads out of the cluster: its addresses have to be asked for elsewhere.
    pub(crate) alias: Option<Name>,
}

impl Answer {
    fn of(answers: Vec<Record>, additionals: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, answers, additionals, authority: None, alias: None }
    }
}

/// What stands at a name.
enum Node {
    /// No record and nothing below.
    Absent,
    /// Nothing that fits the type, but the name exists.
    Empty,
    /// Records for the answer and others that the client will ask for next.
    Records(Vec<RData>, Vec<Record>),
    /// An alias.
    Alias(Name),
}

impl Zone {
    /// The zones that a configuration describes, still without a service.
    pub(crate) fn new(config: Config, store: Store) -> Self {
        let labels = config.domain.split('.').filter(|label| !label.is_empty());
        let labels: Vec<Vec<u8>> = labels.map(|l| l.to_ascii_lowercase().into_bytes()).collect();
        let domain = name_of(labels.iter().map(Vec::as_slice));
        Self { config, domain, store }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over a new configuration; the records stay.
    pub(crate) fn configure(&mut self, config: Config) {
        let store = std::mem::take(&mut self.store);
        *self = Self::new(config, store);
    }

    /// Answers a question about a name of ours; `None` for all other names.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let mut owner = name.clone();
        let mut answers = Vec::new();
        loop {
            let lower = owner.to_lowercase();
            let (apex, node) = match self.locate(&lower, kind) {
                Some(located) => located,
                None if answers.is_empty() => return None,
                None => return Some(Answer { alias: Some(owner), ..Answer::of(answers, vec![]) }),
            };
            match node {
                Node::Records(records, additionals) => {
                    let record = |data| Record::from_rdata(owner.clone(), self.config.ttl, data);
                    answers.extend(records.into_iter().map(record));
                    return Some(Answer::of(answers, additionals));
                }
                Node::Alias(target) => {
                    if answers.len() == MAX_ALIASES {
                        let failed = Answer::of(Vec::new(), Vec::new());
                        return Some(Answer { code: ResponseCode::ServFail, ..failed });
                    }
                    let data = RData::CNAME(CNAME(target.clone()));
                    answers.push(Record::from_rdata(owner, self.config.ttl, data));
                    if kind == RecordType::CNAME {
                        return Some(Answer::of(answers, Vec::new()));
                    }
                    owner = target;
                }
                Node::Empty => return Some(self.negative(ResponseCode::NoError, apex, answers)),
                // What has not been told yet may exist: a client must not remember otherwise.
                Node::Absent if !self.store.synced() => {
                    let failed = Answer::of(Vec::new(), Vec::new());
                    return Some(Answer { code: ResponseCode::ServFail, ..failed });
                }
                Node::Absent => {
                    return Some(self.negative(ResponseCode::NXDomain, apex, answers));
                }
            }
        }
    }

    fn negative(&self, code: ResponseCode, apex: Name, answers: Vec<Record>) -> Answer {
        let soa = Record::from_rdata(apex, self.config.ttl, self.soa());
        Answer { code, authority: Some(soa), ..Answer::of(answers, Vec::new()) }
    }

    /// Finds the zone that a lower-case name is in and what stands there.
    fn locate(&self, name: &Name, kind: RecordType) -> Option<(Name, Node)> {
        // From the right, as names are read; a label that is not text matches nothing.
        let labels: Vec<&str> =
            name.iter().rev().map(|label| std::str::from_utf8(label).unwrap_or_default()).collect();
        let depth = usize::from(self.domain.num_labels());
        let in_domain = labels.len() >= depth
            && self.domain.iter().rev().zip(&labels).all(|(own, label)| own == label.as_bytes());
        if in_domain {
            return Some((self.domain.clone(), self.forward_node(&labels[depth..], kind)));
        }
        match labels.as_slice() {
            ["arpa", "in-addr" | "ip6", ..] => self.reverse_node(name, &labels, kind),
            _ => None,
        }
    }

    fn forward_node(&self, labels: &[&str], kind: RecordType) -> Node {
        match *labels {
            [] => match kind {
                RecordType::SOA => Node::Records(vec![self.soa()], Vec::new()),
                RecordType::NS => {
                    let server = self.name(&["ns", "dns"]);
                    let additionals = self.address_records(&server, &self.config.addresses);
                    Node::Records(vec![RData::NS(NS(server))], additionals)
                }
                _ => Node::Empty,
            },
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => {
                    Node::Records(vec![RData::TXT(TXT::new(vec![VERSION.into()]))], Vec::new())
                }
                _ => Node::Empty,
            },
            ["dns" | "svc" | "pod"] | ["pod", _] => Node::Empty,
            ["dns", "ns"] => addresses(&self.config.addresses, kind),
            ["pod", _, dashed] => match dashed_ip(dashed) {
                Some(ip) => addresses(&[ip], kind),
                None => Node::Absent,
            },
            ["svc", namespace] if self.store.has_namespace(namespace) => Node::Empty,
            ["svc", namespace, name, ref below @ ..] => match self.store.service(namespace, name) {
                Some(found) => self.service_node(namespace, name, found, below, kind),
                None => Node::Absent,
            },
            _ => Node::Absent,
        }
    }

    /// What stands at a service's name, or below it.
    fn service_node(
        &self,
        namespace: &str,
        name: &str,
        found: &Addresses,
        below: &[&str],
        kind: RecordType,
    ) -> Node {
        if let Addresses::ExternalName(target) = found {
            return match (below, external_name(target)) {
                ([], Some(target)) => Node::Alias(target),
                _ => Node::Absent,
            };
        }
        match *below {
            [] if kind == RecordType::SRV => {
                match self.srv(namespace, name, found, |_| true) {
                    // Ports may be lacking where there are endpoints.
                    Node::Absent => self.service_addresses(found, RecordType::SRV),
                    records => records,
                }
            }
            [] => self.service_addresses(found, kind),
            [transport] if transport.starts_with('_') => {
                match self.srv(namespace, name, found, |p| p.protocol.label() == transport) {
                    Node::Absent => Node::Absent,
                    _ => Node::Empty,
                }
            }
            [hostname] => match found {
                Addresses::Headless(subsets) => {
                    let endpoints = subsets.iter().flat_map(|subset| &subset.endpoints);
                    let named = endpoints.filter(|endpoint| is_named(endpoint, hostname));
                    let ips: Vec<IpAddr> = named.map(|endpoint| endpoint.ip).collect();
                    if ips.is_empty() { Node::Absent } else { addresses(&ips, kind) }
                }
                _ => Node::Absent,
            },
            [transport, port] => {
                let Some(port) = port.strip_prefix('_').filter(|port| !port.is_empty()) else {
                    return Node::Absent;
                };
                // Port names are lower case by validation, so the bytes can be compared.
                let matches = |p: &Port| p.name == port && p.protocol.label() == transport;
                match self.srv(namespace, name, found, matches) {
                    Node::Records(..) if !matches!(kind, RecordType::SRV | RecordType::ANY) => {
                        Node::Empty
                    }
                    node => node,
                }
            }
            _ => Node::Absent,
        }
    }

    fn service_addresses(&self, found: &Addresses, kind: RecordType) -> Node {
        match found {
            Addresses::ClusterIp { ips, .. } => addresses(ips, kind),
            Addresses::Headless(subsets) => {
                let ips: Vec<IpAddr> = endpoint_ips(subsets).collect();
                // The specification wants NXDOMAIN while no endpoint is ready.
                if ips.is_empty() { Node::Absent } else { addresses(&ips, kind) }
            }
            Addresses::ExternalName(_) => Node::Absent,
        }
    }

    fn srv(
        &self,
        namespace: &str,
        name: &str,
        found: &Addresses,
        matches: impl Fn(&Port) -> bool,
    ) -> Node {
        let mut targets: Vec<(u16, Name)> = Vec::new();
        let mut additionals = Vec::new();
        match found {
            Addresses::ClusterIp { ips, ports } => {
                let target = self.name(&[name, namespace, "svc"]);
                additionals = self.address_records(&target, ips);
                let ports = ports.iter().filter(|port| matches(port));
                targets.extend(ports.map(|port| (port.port, target.clone())));
            }
            Addresses::Headless(subsets) => {
                for subset in subsets {
                    let ports: Vec<u16> =
                        subset.ports.iter().filter(|p| matches(p)).map(|p| p.port).collect();
                    if ports.is_empty() {
                        continue;
                    }
                    for endpoint in &subset.endpoints {
                        let target = self.endpoint_name(endpoint, namespace, name);
                        additionals.extend(self.address_records(&target, &[endpoint.ip]));
                        targets.extend(ports.iter().map(|port| (*port, target.clone())));
                    }
                }
                // Two addresses of one host name are one target.
                targets.sort();
                targets.dedup();
            }
            Addresses::ExternalName(_) => {}
        }
        if targets.is_empty() {
            return Node::Absent;
        }
        let weight = u16::try_from(100 / targets.len()).unwrap_or(1).max(1);
        let record = |(port, target)| RData::SRV(SRV::new(0, weight, port, target));
        Node::Records(targets.into_iter().map(record).collect(), additionals)
    }

    fn reverse_node(&self, name: &Name, labels: &[&str], kind: RecordType) -> Option<(Name, Node)> {
        let reverse = Reverse::parse(labels);
        let zone = self.config.ranges.iter().find_map(|range| {
            let depth = usize::from(range.prefix_len()).div_ceil(reverse.unit_bits());
            let inside = reverse.known >= depth && range.contains(&reverse.address);
            inside.then_some(depth)
        });
        let owners: Vec<RData> = match reverse.complete() {
            Some(address) => self.pointers(address).map(|name| RData::PTR(PTR(name))).collect(),
            None => Vec::new(),
        };
        let node = match (owners.is_empty(), kind) {
            // Host addresses are endpoints too, but their names belong to someone else.
            (true, _) if zone.is_none() => return None,
            (false, kind) if zone.is_none() && kind != RecordType::PTR => return None,
            (true, _) if reverse.partial(labels) => Node::Empty,
            (true, _) => Node::Absent,
            (false, RecordType::PTR | RecordType::ANY) => Node::Records(owners, Vec::new()),
            (false, _) => Node::Empty,
        };
        Some((name.trim_to(zone.unwrap_or_default() + 2), node))
    }

    /// The names of all services and endpoints at an address.
    fn pointers(&self, address: IpAddr) -> impl Iterator<Item = Name> + '_ {
        self.store.owners(address).flat_map(move |(namespace, name, found)| match found {
            Addresses::Headless(subsets) => {
                let endpoints = subsets.iter().flat_map(|subset| &subset.endpoints);
                let here = endpoints.filter(|endpoint| endpoint.ip == address);
                let mut names: Vec<Name> =
                    here.map(|e| self.endpoint_name(e, namespace, name)).collect();
                names.sort();
                names.dedup();
                names
            }
            _ => vec![self.name(&[name, namespace, "svc"])],
        })
    }

    fn address_records(&self, name: &Name, ips: &[IpAddr]) -> Vec<Record> {
        let record = |ip: &IpAddr| Record::from_rdata(name.clone(), self.config.ttl, data_of(*ip));
        ips.iter().map(record).collect()
    }

    /// `<labels>.<domain>`.
    fn name(&self, labels: &[&str]) -> Name {
        name_of(labels.iter().map(|label| label.as_bytes()).chain(self.domain.iter()))
    }

    fn endpoint_name(&self, endpoint: &Endpoint, namespace: &str, name: &str) -> Name {
        match &endpoint.hostname {
            Some(hostname) => self.name(&[hostname, name, namespace, "svc"]),
            None => self.name(&[&dashed(endpoint.ip), name, namespace, "svc"]),
        }
    }

    fn soa(&self) -> RData {
        let server = self.name(&["ns", "dns"]);
        let hostmaster = self.name(&["hostmaster"]);
        let ttl = self.config.ttl;
        let serial = self.store.serial();
        RData::SOA(SOA::new(server, hostmaster, serial, 7200, 1800, 86400, ttl))
    }
}

/// An address in the notation of in-addr.arpa or ip6.arpa, from the right.
struct Reverse {
    address: IpAddr,
    /// How many labels, octets or nibbles, were understood.
    known: usize,
    /// How many labels follow that were not.
    unknown: usize,
}

impl Reverse {
    /// Reads labels that begin with `arpa` and `in-addr` or `ip6`.
    fn parse(labels: &[&str]) -> Self {
        let digits = &labels[2..];
        let mut known = 0;
        let address = if labels[1] == "in-addr" {
            let mut octets = [0u8; 4];
            for (octet, label) in octets.iter_mut().zip(digits) {
                // "08" or "+8" is not how an address is written.
                match label.parse::<u8>() {
                    Ok(value) if value.to_string() == *label => *octet = value,
                    _ => break,
                }
                known += 1;
            }
            IpAddr::from(octets)
        } else {
            let mut bits = 0u128;
            for (place, label) in (0..32).zip(digits) {
                let nibble = match label.as_bytes() {
                    [digit] => char::from(*digit).to_digit(16),
                    _ => None,
                };
                let Some(nibble) = nibble else { break };
                bits |= u128::from(nibble) << (124 - 4 * place);
                known += 1;
            }
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        };
        Self { address, known, unknown: digits.len() - known }
    }

    fn unit_bits(&self) -> usize {
        if self.address.is_ipv4() { 8 } else { 4 }
    }

    fn complete(&self) -> Option<IpAddr> {
        let units = if self.address.is_ipv4() { 4 } else { 32 };
        (self.known == units && self.unknown == 0).then_some(self.address)
    }

    /// Whether the name stops before the address is complete, and so has names below it.
    fn partial(&self, labels: &[&str]) -> bool {
        self.unknown == 0 && self.complete().is_none() && labels.len() >= 2
    }
}

fn name_of<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Name {
    // Longer than a name can be only if the domain is: such a name matches no question.
    Name::from_labels(labels).unwrap_or_default()
}

/// The name that an ExternalName service stands for, always absolute.
fn external_name(target: &str) -> Option<Name> {
    let mut name = Name::from_ascii(target).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn addresses(ips: &[IpAddr], kind: RecordType) -> Node {
    let wanted = |ip: &&IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        kind => kind == RecordType::ANY,
    };
    let mut ips: Vec<IpAddr> = ips.iter().filter(wanted).copied().collect();
    if ips.is_empty() {
        return Node::Empty;
    }
    ips.sort();
    ips.dedup();
    // Most clients take the first address: begin with another one each time.
    let first = rand::random_range(0..ips.len());
    ips.rotate_left(first);
    Node::Records(ips.into_iter().map(data_of).collect(), Vec::new())
}

fn data_of(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn endpoint_ips(subsets: &[Subset]) -> impl Iterator<Item = IpAddr> + '_ {
    subsets.iter().flat_map(|subset| &subset.endpoints).map(|endpoint| endpoint.ip)
}

fn is_named(endpoint: &Endpoint, label: &str) -> bool {
    match &endpoint.hostname {
        Some(hostname) => hostname == label,
        None => dashed_ip(label) == Some(endpoint.ip),
    }
}

/// The label of an address: what stands between its numbers becomes a dash.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// Reads `10-0-0-1` and `fd00--1`.
fn dashed_ip(label: &str) -> Option<IpAddr> {
    let ip = match label.replace('-', ".").parse() {
        Ok(ip) => IpAddr::V4(ip),
        Err(_) => IpAddr::V6(label.replace('-', ":").parse().ok()?),
    };
    Some(ip)
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
