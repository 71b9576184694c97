//! The services as they are, and what a change of some of them changes in the table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::element::{Element, Frontend, Sticky, Target, Tier};
use super::model::{Change, Protocol, ServicePort};
use super::render::Service;
use super::stale_flows::Frontends;
use crate::cidr::Cidr;

/// The endpoints of a service port with session affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Affinity {
    pub(super) lists: Vec<(Sticky, Vec<Target>)>,
    pub(super) timeout: Duration,
}

impl Affinity {
    fn of(service: &Service) -> Option<Self> {
        let timeout = service.port.affinity?;
        let lists = service.sticky_lists().map(|(sticky, list)| (sticky, list.to_vec()));
        Some(Self { lists: lists.collect(), timeout })
    }

    /// The endpoints of all lists, each once.
    pub(super) fn targets(&self) -> BTreeSet<(u64, Target)> {
        let one = |(sticky, list): &(Sticky, Vec<Target>)| {
            let service = sticky.service;
            list.iter().map(move |target| (service, *target)).collect::<Vec<_>>()
        };
        self.lists.iter().flat_map(one).collect()
    }
}

/// What a change comes to.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// Elements to be deleted, sorted.
    pub(super) removed: Vec<Element>,
    /// Elements to be added, sorted.
    pub(super) added: Vec<Element>,
    /// Services whose session affinity is to be taken down, or set up (again).
    pub(super) affinity: Vec<(Option<Affinity>, Option<Affinity>)>,
    /// UDP frontends to which there may be flows that lead elsewhere than they may, and where they
    /// may.
    pub(super) flows: Frontends,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.affinity.is_empty()
    }
}

/// All service ports.
#[derive(Debug, Default)]
pub(super) struct State {
    networks: Vec<Cidr>,
    /// Addresses that the host itself answers at.
    held: HashSet<Ipv4Addr>,
    services: HashMap<Arc<str>, Service>,
    /// Who answers at each frontend: the first that wanted it.
    owners: HashMap<Frontend, Arc<str>>,
    /// Who else wants it, in order.
    contenders: HashMap<Frontend, Vec<Arc<str>>>,
    /// How many services have each shared element.
    shared: HashMap<Element, u32>,
    /// For each tier, how many frontends have so many endpoints.
    members: HashMap<Tier, BTreeMap<u32, usize>>,
}

impl State {
    pub(super) fn new(networks: Vec<Cidr>, held: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self { networks, held: held.into_iter().collect(), ..Self::default() }
    }

    /// The numbers of endpoints that frontends of a tier have.
    pub(super) fn endpoint_counts(&self, tier: Tier) -> BTreeSet<u32> {
        self.members.get(&tier).map(|m| m.keys().copied().collect()).unwrap_or_default()
    }

    /// All elements, sorted.
    pub(super) fn elements(&self) -> Vec<Element> {
        let mut all = Vec::with_capacity(self.services.len() * 6);
        self.services.keys().for_each(|id| all.extend(self.render(id)));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All session affinity.
    pub(super) fn affinity(&self) -> impl Iterator<Item = Affinity> {
        self.services.values().filter_map(Affinity::of)
    }

    /// All UDP frontends, and where flows to them may lead.
    pub(super) fn flows(&self) -> Frontends {
        let mut flows = HashMap::new();
        self.services.keys().for_each(|id| self.flows_of(id, &mut flows));
        flows
    }

    fn owned(&self, id: &str) -> impl Fn(Frontend) -> bool {
        move |frontend| {
            let owner = self.owners.get(&frontend);
            owner.is_some_and(|owner| &**owner == id) && !self.held.contains(&frontend.address)
        }
    }

    fn render(&self, id: &str) -> Vec<Element> {
        let service = self.services.get(id);
        service.map(|s| s.render(&self.networks, self.owned(id))).unwrap_or_default()
    }

    fn flows_of(&self, id: &str, flows: &mut Frontends) {
        let Some(service) = self.services.get(id) else { return };
        if service.port.protocol != Protocol::Udp {
            return;
        }
        let targets: Vec<Target> = service.cluster.iter().chain(&service.local).copied().collect();
        let owned = self.owned(id);
        flows.extend(service.frontends().filter(|f| owned(*f)).map(|f| (f, targets.clone())));
    }

    /// Makes changes, and says what they come to. Of several of one service port the last counts.
    pub(super) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut wanted: HashMap<Arc<str>, Option<ServicePort>> = HashMap::new();
        for change in changes {
            match change {
                Change::Upsert(port) => wanted.insert(port.id.as_str().into(), Some(port)),
                Change::Remove(id) => wanted.insert(id.into(), None),
            };
        }
        let mut changed: Vec<(Arc<str>, Option<Service>)> = Vec::with_capacity(wanted.len());
        let mut affected: BTreeSet<Arc<str>> = BTreeSet::new();
        for (id, port) in wanted {
            let old = self.services.get(&id);
            let new = port.map(|port| Service::new(port, old));
            let same = match (old, &new) {
                (None, None) => true,
                (Some(old), Some(new)) => {
                    (&old.port, &old.cluster, &old.local) == (&new.port, &new.cluster, &new.local)
                }
                _ => false,
            };
            if !same {
                affected.extend(self.waiting_for(&id));
                affected.insert(id.clone());
                changed.push((id, new));
            }
        }

        let mut delta = Delta::default();
        let mut before = Vec::new();
        for id in &affected {
            before.extend(self.render(id));
            self.flows_of(id, &mut delta.flows);
        }
        let flows = std::mem::take(&mut delta.flows);
        for (id, new) in changed {
            let new_affinity = new.as_ref().and_then(Affinity::of);
            let old_affinity = self.replace(&id, new).as_ref().and_then(Affinity::of);
            if new_affinity != old_affinity {
                delta.affinity.push((old_affinity, new_affinity));
            }
        }
        let mut after = Vec::new();
        for id in &affected {
            after.extend(self.render(id));
            self.flows_of(id, &mut delta.flows);
        }
        self.compare(before, after, &mut delta);
        self.keep_stale(flows, &mut delta.flows);
        delta
    }

    /// Of the frontends that there are `now` or were `before`, leaves those to which there may be
    /// flows that lead elsewhere. To look for them is to walk the whole table of flows.
    fn keep_stale(&self, before: Frontends, now: &mut Frontends) {
        // Without a service behind them, addresses from the networks for services get nowhere, and
        // there are no flows to them. To others there may have been.
        let closed = |f: &Frontend| self.networks.iter().any(|n| n.contains(f.address));
        now.retain(|frontend, targets| match before.get(frontend) {
            Some(old) => old.iter().any(|target| !targets.contains(target)),
            None => !closed(frontend),
        });
        let gone = before.into_iter().filter(|(frontend, _)| !self.owners.contains_key(frontend));
        now.extend(gone.filter(|(_, old)| !old.is_empty()).map(|(f, _)| (f, Vec::new())));
    }

    /// Who waits for a frontend of this service.
    fn waiting_for(&self, id: &str) -> Vec<Arc<str>> {
        let frontends = self.services.get(id).into_iter().flat_map(Service::frontends);
        let waiting = frontends.filter_map(|f| self.contenders.get(&f));
        waiting.flatten().cloned().collect()
    }

    /// Puts a service in place of the one that had its id, and returns that.
    fn replace(&mut self, id: &Arc<str>, new: Option<Service>) -> Option<Service> {
        let claims: Vec<Frontend> = new.iter().flat_map(Service::frontends).collect();
        let old = match new {
            Some(new) => self.services.insert(id.clone(), new),
            None => self.services.remove(id),
        };
        let had: Vec<Frontend> = old.iter().flat_map(Service::frontends).collect();
        for frontend in had.iter().filter(|f| !claims.contains(f)) {
            self.release(id, *frontend);
        }
        for frontend in claims.iter().filter(|f| !had.contains(f)) {
            if self.owners.contains_key(frontend) {
                self.contenders.entry(*frontend).or_default().push(id.clone());
            } else {
                self.owners.insert(*frontend, id.clone());
            }
        }
        old
    }

    fn release(&mut self, id: &Arc<str>, frontend: Frontend) {
        let mut waiting = self.contenders.remove(&frontend).unwrap_or_default();
        if self.owners.get(&frontend) == Some(id) {
            if waiting.is_empty() {
                self.owners.remove(&frontend);
            } else {
                self.owners.insert(frontend, waiting.remove(0));
            }
        } else {
            waiting.retain(|other| other != id);
        }
        if !waiting.is_empty() {
            self.contenders.insert(frontend, waiting);
        }
    }

    /// The difference between two lists of elements, less what other services have too.
    fn compare(&mut self, mut before: Vec<Element>, mut after: Vec<Element>, delta: &mut Delta) {
        before.sort_unstable();
        after.sort_unstable();
        let (mut old, mut new) = (before.into_iter().peekable(), after.into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(o), Some(n)) => o.cmp(n),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return,
            };
            // What is in both goes from both.
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            match (gone, come) {
                (Some(gone), None) if self.is_last(gone) => delta.removed.push(gone),
                (None, Some(come)) if self.is_first(come) => delta.added.push(come),
                _ => (),
            }
        }
    }

    /// Counts an element down; whether nobody has it any more.
    fn is_last(&mut self, element: Element) -> bool {
        if let Element::Member { tier, endpoints, .. } = element {
            let counts = self.members.entry(tier).or_default();
            if let Some(count) = counts.get_mut(&endpoints) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&endpoints);
                }
            }
        }
        if !element.is_shared() {
            return true;
        }
        let count = self.shared.entry(element).or_default();
        *count = count.saturating_sub(1);
        let last = *count == 0;
        if last {
            self.shared.remove(&element);
        }
        last
    }

    /// Counts an element up; whether nobody had it.
    fn is_first(&mut self, element: Element) -> bool {
        if let Element::Member { tier, endpoints, .. } = element {
            *self.members.entry(tier).or_default().entry(endpoints).or_default() += 1;
        }
        if !element.is_shared() {
            return true;
        }
        let count = self.shared.entry(element).or_default();
        *count += 1;
        *count == 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    fn state() -> State {
        State::new(vec!["10.43.0.0/16".parse().unwrap()], [Ipv4Addr::new(10, 43, 0, 10)])
    }

    fn port(name: &str, cluster_ip: u8, endpoints: &[u8]) -> ServicePort {
        let local = |n: &u8| Endpoint::new([10, 42, 0, *n].into(), 80, true);
        ServicePort {
            id: name.into(),
            cluster_ips: vec![[10, 43, 0, cluster_ip].into()],
            port: 80,
            endpoints: endpoints.iter().map(local).collect(),
            ..ServicePort::default()
        }
    }

    fn upsert(port: &ServicePort) -> Change {
        Change::Upsert(port.clone())
    }

    /// After each change, the elements have to be what the deltas add up to.
    fn check(state: &mut State, table: &mut BTreeSet<Element>, changes: Vec<Change>) -> Delta {
        let delta = state.apply(changes);
        for element in &delta.removed {
            assert!(table.remove(element), "{element:?} was not there");
        }
        for element in &delta.added {
            assert!(table.insert(*element), "{element:?} was there");
        }
        let keys: HashSet<_> = table.iter().map(|e| (e.set().into_owned(), e.key())).collect();
        assert_eq!(keys.len(), table.len(), "two elements of one key");
        assert_eq!(state.elements(), table.iter().copied().collect::<Vec<_>>());
        for tier in Tier::ALL {
            let counts = table.iter().filter_map(|e| match e {
                Element::Member { tier: t, endpoints, .. } if *t == tier => Some(*endpoints),
                _ => None,
            });
            assert_eq!(state.endpoint_counts(tier), counts.collect());
        }
        delta
    }

    #[test]
    fn replacing_an_endpoint_changes_one_element() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        let mut web = port("web", 1, &[2, 3, 4]);
        check(&mut state, &mut table, vec![upsert(&web), upsert(&port("other", 2, &[2]))]);
        assert!(check(&mut state, &mut table, vec![upsert(&web)]).is_empty());
        web.endpoints.rotate_left(1);
        assert!(check(&mut state, &mut table, vec![upsert(&web)]).is_empty());

        web.endpoints[1].ip = [10, 42, 0, 9].into();
        let delta = check(&mut state, &mut table, vec![upsert(&web)]);
        let endpoints = |list: &[Element]| {
            list.iter().filter(|e| matches!(e, Element::Endpoint { .. })).count()
        };
        assert_eq!((endpoints(&delta.removed), endpoints(&delta.added)), (1, 1));
        // And the endpoint's hairpin element, unless another service has it too.
        assert_eq!((delta.removed.len(), delta.added.len()), (2, 2));
    }

    #[test]
    fn shared_elements_stay_while_someone_has_them() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        let http = port("web:http", 1, &[2]);
        let https = ServicePort { port: 443, ..port("web:https", 1, &[2]) };
        check(&mut state, &mut table, vec![upsert(&http), upsert(&https)]);
        check(&mut state, &mut table, vec![Change::Remove("web:http".into())]);
        let address = Element::ClusterAddress([10, 43, 0, 1].into());
        assert!(
            table.contains(&address) && table.contains(&Element::Hairpin([10, 42, 0, 2].into()))
        );
        check(&mut state, &mut table, vec![Change::Remove("web:https".into())]);
        assert!(table.is_empty());
        assert!(state.owners.is_empty() && state.shared.is_empty() && state.services.is_empty());
        assert!(check(&mut state, &mut table, vec![Change::Remove("web:https".into())]).is_empty());
    }

    #[test]
    fn a_frontend_has_one_owner_and_falls_to_the_next() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        let (a, b) = (port("a", 1, &[2, 3]), port("b", 1, &[4]));
        let c = port("c", 1, &[5, 6, 7]);
        check(&mut state, &mut table, vec![upsert(&a)]);
        check(&mut state, &mut table, vec![upsert(&b)]);
        check(&mut state, &mut table, vec![upsert(&c)]);
        assert_eq!(state.endpoint_counts(Tier::Services), [2].into());
        check(&mut state, &mut table, vec![Change::Remove("b".into())]);
        check(&mut state, &mut table, vec![upsert(&port("a", 9, &[2, 3]))]);
        assert_eq!(state.endpoint_counts(Tier::Services), [2, 3].into());
        check(&mut state, &mut table, vec![Change::Remove("a".into()), upsert(&b)]);
        check(&mut state, &mut table, vec![Change::Remove("c".into())]);
        assert_eq!(state.endpoint_counts(Tier::Services), [1].into());
        check(&mut state, &mut table, vec![Change::Remove("b".into())]);
        assert!(table.is_empty() && state.contenders.is_empty() && state.owners.is_empty());
    }

    #[test]
    fn addresses_of_the_host_are_left_to_it() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        check(&mut state, &mut table, vec![upsert(&port("kube-dns", 10, &[]))]);
        assert!(table.is_empty());
    }

    #[test]
    fn udp_flows_may_lead_to_what_is_left() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        let udp = |endpoints| ServicePort { protocol: Protocol::Udp, ..port("dns", 1, endpoints) };
        check(&mut state, &mut table, vec![upsert(&udp(&[2, 3]))]);
        let delta = check(&mut state, &mut table, vec![upsert(&udp(&[3]))]);
        let lists: Vec<Vec<Ipv4Addr>> =
            delta.flows.values().map(|l| l.iter().map(|t| t.ip).collect()).collect();
        let three = Ipv4Addr::new(10, 42, 0, 3);
        assert_eq!(lists, [vec![three, three]]);
        let delta = check(&mut state, &mut table, vec![Change::Remove("dns".into())]);
        assert!(delta.flows.len() == 1 && delta.flows.values().all(Vec::is_empty));
        // Nothing is stale where nothing was, but for addresses that others can answer at.
        let delta = check(&mut state, &mut table, vec![upsert(&udp(&[3]))]);
        assert!(delta.flows.is_empty());
        let delta = check(&mut state, &mut table, vec![upsert(&udp(&[2, 3]))]);
        assert!(delta.flows.is_empty());
        let delta = check(
            &mut state,
            &mut table,
            vec![upsert(&ServicePort { node_port: Some(30053), ..udp(&[2, 3]) })],
        );
        assert_eq!(delta.flows.keys().map(|f| f.port).collect::<Vec<_>>(), [30053]);
        let tcp = check(&mut state, &mut table, vec![upsert(&port("web", 2, &[2]))]);
        assert!(tcp.flows.is_empty());
    }

    #[test]
    fn affinity_is_set_up_and_taken_down() {
        let (mut state, mut table) = (state(), BTreeSet::new());
        let affinity = Some(Duration::from_secs(5));
        let sticky = ServicePort { affinity, ..port("web", 1, &[2, 3]) };
        let delta = check(&mut state, &mut table, vec![upsert(&sticky)]);
        assert!(matches!(&delta.affinity[..], [(None, Some(new))] if new.lists[0].1.len() == 2));
        let delta = check(&mut state, &mut table, vec![upsert(&port("web", 1, &[2, 3]))]);
        assert!(matches!(&delta.affinity[..], [(Some(_), None)]));
    }
}
