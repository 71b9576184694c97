//! Session affinity: chains of their own for the few services that have it.
//!
//! Each endpoint has a set of the clients that were led to it, with a timeout, and goes with it:
//! whose endpoint is gone is led to another. The same as kube-proxy's way (its nftables mode), so
//! a client keeps its endpoint whichever of the service's addresses it uses.

use std::time::Duration;

use netlink::nft::{Batch, Element, Set, SetData, SetFlags, Type, Verdict};

use super::element::{Sticky, Target};
use super::layout::{Leftovers, Networks, mark_foreign};
use super::state::Affinity;
use crate::table::{R0, R1, Table};

/// The most clients that an endpoint remembers, kube-proxy's number. Those that come after are
/// led at random.
const CLIENTS: u32 = 65_535;
/// How often the kernel clears forgotten clients away. Its default is each second.
const GC_INTERVAL: Duration = Duration::from_secs(60);

/// The chain that leads to the endpoints of a list.
pub(super) fn list_chain(sticky: Sticky) -> String {
    let local = if sticky.local { "-local" } else { "" };
    format!("affinity-{:016x}{local}", sticky.service)
}

/// The set of an endpoint's clients, and the chain that leads to it.
fn endpoint(service: u64, target: Target) -> String {
    format!("affinity-{service:016x}-{}-{}", target.ip, target.port)
}

/// Who was led to an endpoint.
pub(super) struct Clients {
    set: String,
    elements: Vec<netlink::nft::ElementInfo>,
}

/// The clients of all endpoints, to be put back into a table that is made anew.
pub(super) fn remember(table: &mut Table, all: impl Iterator<Item = Affinity>) -> Vec<Clients> {
    let mut clients = Vec::new();
    for (service, target) in all.flat_map(|affinity| affinity.targets()) {
        let set = endpoint(service, target);
        let elements = table.elements(&set);
        if !elements.is_empty() {
            clients.push(Clients { set, elements });
        }
    }
    clients
}

/// Puts clients back.
pub(super) fn restore(batch: &mut Batch, clients: &[Clients]) {
    for Clients { set, elements } in clients {
        let mut writer = batch.add_elements(&**set);
        for e in elements {
            writer.push(&Element {
                timeout: e.timeout,
                expiration: e.expiration,
                ..Element::key(&e.key)
            });
        }
    }
}

/// Sets up a service's affinity, or changes it to this.
pub(super) fn write(batch: &mut Batch, networks: &Networks, affinity: &Affinity) {
    for (service, target) in affinity.targets() {
        let name = endpoint(service, target);
        batch.add_set(&Set {
            name: &name,
            key: &[Type::Ipv4],
            flags: SetFlags::DYNAMIC | SetFlags::TIMEOUT,
            size: Some(CLIENTS),
            gc_interval: Some(GC_INTERVAL),
            ..Set::default()
        });
        batch.add_chain(&name);
        batch.flush_chain(&name);
        // Two rules: the first ends if the set is full.
        batch.rule(&name, |e| {
            e.source(R0).remember(&name, R0, None, affinity.timeout);
        });
        batch.rule(&name, |e| {
            e.immediate(R0, &target.ip.octets()).immediate(R1, &target.port.to_be_bytes());
            e.destination_nat(R0, Some(R1));
        });
    }
    for (sticky, list) in &affinity.lists {
        write_list(batch, networks, *sticky, list);
    }
}

fn write_list(batch: &mut Batch, networks: &Networks, sticky: Sticky, list: &[Target]) {
    let chain = list_chain(sticky);
    batch.add_chain(&chain);
    batch.flush_chain(&chain);
    if !sticky.local {
        mark_foreign(batch, &chain, networks.cluster);
    }
    let names: Vec<String> = list.iter().map(|t| endpoint(sticky.service, *t)).collect();
    for name in &names {
        batch.rule(&chain, |e| {
            e.source(R0).contained(&**name, R0).verdict(Verdict::Goto(name));
        });
    }
    let choice = batch.add_anonymous_set(&Set {
        key: &[Type::Mark],
        data: SetData::Verdict,
        size: Some(names.len() as u32),
        ..Set::default()
    });
    {
        let mut writer = batch.add_elements(choice);
        for (number, name) in (0u32..).zip(&names) {
            writer.push(&Element::verdict(&number.to_ne_bytes(), Verdict::Goto(name)));
        }
    }
    batch.rule(&chain, |e| {
        e.random(R0, names.len() as u32).verdict_map(choice, R0);
    });
}

/// The chains of a service's affinity.
pub(super) fn chains(affinity: &Affinity) -> impl Iterator<Item = String> {
    let lists = affinity.lists.iter().map(|(sticky, _)| list_chain(*sticky));
    lists.chain(affinity.targets().into_iter().map(|(service, target)| endpoint(service, target)))
}

/// What `old` has that `new` has no use for.
pub(super) fn leftovers(old: &Affinity, new: Option<&Affinity>, leftovers: &mut Leftovers) {
    let kept = new.map(Affinity::targets).unwrap_or_default();
    for (service, target) in old.targets().difference(&kept) {
        let name = endpoint(*service, *target);
        leftovers.sets.push(name.clone());
        leftovers.chains.push(name);
    }
    let kept = |sticky| new.is_some_and(|new| new.lists.iter().any(|(other, _)| *other == sticky));
    let gone = old.lists.iter().filter(|(sticky, _)| !kept(*sticky));
    leftovers.chains.extend(gone.map(|(sticky, _)| list_chain(*sticky)));
}
