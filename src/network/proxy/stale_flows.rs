//! Tracked UDP flows that lead to where nobody is any more.
//!
//! UDP has no end of a connection: as long as a client goes on sending, the kernel leads it to the
//! endpoint that it chose at first. What TCP clients find out by themselves has to be seen to here.
//! To find such flows is to walk the whole table, which takes milliseconds; so it is done apart
//! from changes of services, and once for all those that come up meanwhile.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink::conntrack::{Conntrack, Flow, Tuple};
use netlink::rtnl::Rtnl;

use super::element::{Frontend, Target};
use super::model::Protocol;

/// UDP frontends, and where flows to each may lead.
pub(super) type Frontends = HashMap<Frontend, Vec<Target>>;

/// Forgets stale flows.
#[derive(Clone)]
pub(super) struct StaleFlows(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    sockets: Mutex<(Conntrack, Rtnl)>,
}

#[derive(Default)]
struct Queue {
    frontends: Frontends,
    /// Whether someone is at work, and will see to what is added.
    busy: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StaleFlows {
    /// For the calling thread's network namespace.
    pub(super) fn open() -> netlink::Result<Self> {
        let sockets = Mutex::new((Conntrack::open()?, Rtnl::open()?));
        Ok(Self(Arc::new(Shared { queue: Mutex::default(), sockets })))
    }

    /// Notes frontends to which there may be stale flows.
    pub(super) fn add(&self, frontends: Frontends) {
        if !frontends.is_empty() {
            lock(&self.0.queue).frontends.extend(frontends);
        }
    }

    /// Whether there is anything to do.
    pub(super) fn is_pending(&self) -> bool {
        let queue = lock(&self.0.queue);
        !queue.busy && !queue.frontends.is_empty()
    }

    /// Forgets the stale flows to all frontends that were noted, unless someone is at it.
    pub(super) fn forget(&self) {
        while let Some(frontends) = self.take() {
            let (conntrack, rtnl) = &mut *lock(&self.0.sockets);
            match forget(conntrack, rtnl, &frontends) {
                Ok(0) => (),
                Ok(flows) => tracing::debug!(flows, "forgot udp flows to endpoints that are gone"),
                Err(error) => tracing::warn!(%error, "could not forget stale udp flows"),
            }
            lock(&self.0.queue).busy = false;
        }
    }

    fn take(&self) -> Option<Frontends> {
        let mut queue = lock(&self.0.queue);
        if queue.busy || queue.frontends.is_empty() {
            return None;
        }
        queue.busy = true;
        Some(std::mem::take(&mut queue.frontends))
    }
}

/// Forgets UDP flows to `frontends` that lead elsewhere than they may.
fn forget(
    conntrack: &mut Conntrack,
    rtnl: &mut Rtnl,
    frontends: &Frontends,
) -> netlink::Result<usize> {
    // A node port is one only at addresses of this node.
    let own: HashSet<Ipv4Addr> = if frontends.keys().any(|f| f.is_node_port()) {
        let ipv4 = |a: IpAddr| if let IpAddr::V4(v4) = a { Some(v4) } else { None };
        rtnl.addresses()?.into_iter().filter_map(|a| ipv4(a.address)).collect()
    } else {
        HashSet::new()
    };
    let stale = conntrack.flows(Protocol::Udp as u8, |flow| is_stale(flow, &own, frontends))?;
    conntrack.forget(&stale)?;
    Ok(stale.len())
}

fn is_stale(flow: &Flow, own: &HashSet<Ipv4Addr>, frontends: &Frontends) -> bool {
    let Tuple { destination, destination_port: port, .. } = flow.original;
    let at = |address| frontends.get(&Frontend { address, port, protocol: Protocol::Udp });
    let node_port = || at(Ipv4Addr::UNSPECIFIED).filter(|_| own.contains(&destination));
    let leads_to = Target { ip: flow.reply.source, port: flow.reply.source_port };
    at(destination).or_else(node_port).is_some_and(|targets| !targets.contains(&leads_to))
}
