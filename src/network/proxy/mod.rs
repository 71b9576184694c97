//! The service proxy: leads connections to services to their endpoints, in nf_tables.
//!
//! All services share a few chains, sets and maps; a service is nothing but elements of these, and
//! a change of one is a change of a few elements (see `layout.rs`). The behaviour is that of
//! kube-proxy's nftables mode. Where it differs: clients in the cluster keep their address also at
//! node ports and external addresses, and `loadBalancerSourceRanges` do not bind the node itself.

mod affinity;
mod element;
mod handle;
mod layout;
mod model;
mod render;
mod stale_flows;
mod state;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink::nft::Batch;

pub use handle::Handle;
pub use model::{Change, Endpoint, Protocol, ServicePort};

use crate::cidr::Cidr;
use crate::masquerade::Masquerade;
use crate::table::{Section, Table, batch};
use element::Tier;
use layout::{Leftovers, Networks, Structure};
use stale_flows::StaleFlows;
use state::{Delta, State};

/// How long a chain that is not used any more is kept. Kernels before 6.2 learn only some time
/// after an element is deleted that it does not refer to its chain any more, and refuse to delete
/// the chain before.
const CHAIN_REST: Duration = Duration::from_secs(1);

/// Why services could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("service proxy: {0}")]
    Netlink(#[from] netlink::Error),
    /// The process is ending.
    #[error("service proxy: the runtime is shutting down")]
    Stopped,
}

/// What the proxy is for.
#[derive(Clone)]
pub struct Config {
    /// The network that all pods of the cluster are in.
    pub cluster: Cidr,
    /// The part of it that this node's pods are in. The address after the lowest has to be the
    /// node's own, see [`crate::host::prepare`].
    pub node: Cidr,
    /// The networks that cluster addresses of services are from.
    pub service_networks: Vec<Cidr>,
    /// Addresses of services that this host itself answers at, such as cluster DNS.
    pub held: Vec<Ipv4Addr>,
    /// Parts of the table that are not the proxy's, loaded together with it.
    pub sections: Vec<Arc<dyn Section>>,
}

/// The service proxy of the network namespace that it was started in.
pub struct Proxy {
    table: Table,
    flows: StaleFlows,
    networks: Networks,
    state: State,
    structure: Structure,
    /// Whether the table has what the state says.
    synced: bool,
    /// Chains to be deleted, and since when they are not used.
    resting: Vec<(Instant, String)>,
}

impl Proxy {
    /// Puts the table into place for these services, in one transaction. A table that an earlier
    /// process left is replaced, but for the clients of services with session affinity, which
    /// stay with their endpoints.
    pub fn start(
        config: Config,
        services: impl IntoIterator<Item = ServicePort>,
    ) -> Result<Self, Error> {
        let Config { cluster, node, service_networks, held, mut sections } = config;
        sections.push(Arc::new(Masquerade { cluster, node }));
        let mut proxy = Self {
            table: Table::open(sections)?,
            flows: StaleFlows::open()?,
            networks: Networks { cluster, services: service_networks.clone() },
            state: State::new(service_networks, held),
            structure: Structure::default(),
            synced: false,
            resting: Vec::new(),
        };
        let _ = proxy.state.apply(services.into_iter().map(Change::Upsert));
        proxy.load()?;
        proxy.flows.add(proxy.state.flows());
        proxy.flows.forget();
        Ok(proxy)
    }

    /// Makes changes to services. When this returns new connections go by them; connections that
    /// are there stay, but for UDP flows to endpoints that are gone. After an error the changes
    /// are remembered, and made with the next ones.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), Error> {
        self.commit(changes)?;
        self.flows.forget();
        Ok(())
    }

    /// Makes changes for new connections, and notes what has to be done about flows that are there.
    fn commit(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), Error> {
        let delta = self.state.apply(changes);
        if delta.is_empty() && self.synced {
            return Ok(());
        }
        if !self.synced {
            self.load()?;
        } else if let Err(error) = self.update(&delta) {
            // Most likely someone removed the table, or changed it under our hands.
            tracing::warn!(%error, "could not update the table, loading it again");
            self.load()?;
        }
        self.flows.add(delta.flows);
        self.delete_resting();
        Ok(())
    }

    /// Looks whether the table is still there, and loads it again if someone removed it ("nft
    /// flush ruleset"). One system call if all is well; to be called now and then.
    pub fn verify(&mut self) -> Result<(), Error> {
        if !self.synced || !self.table.is_intact()? {
            tracing::warn!("the table is gone or not ours, loading it again");
            self.load()?;
        }
        self.delete_resting();
        Ok(())
    }

    fn load(&mut self) -> Result<(), Error> {
        self.synced = false;
        let started = Instant::now();
        let clients = affinity::remember(&mut self.table, self.state.affinity());
        let Self { state, networks, table, .. } = self;
        let mut structure = Structure::default();
        let elements = state.elements();
        table.load(|batch| {
            layout::write_frame(batch, networks);
            for tier in Tier::ALL {
                let numbers = state.endpoint_counts(tier);
                structure.extend(batch, networks, tier, numbers, &mut Leftovers::default());
            }
            state.affinity().for_each(|a| affinity::write(batch, networks, &a));
            affinity::restore(batch, &clients);
            layout::add_elements(batch, &elements);
        })?;
        self.structure = structure;
        self.resting.clear();
        self.synced = true;
        tracing::info!(
            elements = elements.len(),
            milliseconds = started.elapsed().as_millis() as u64,
            "loaded the table of services"
        );
        Ok(())
    }

    fn update(&mut self, delta: &Delta) -> Result<(), netlink::Error> {
        self.synced = false;
        let mut batch = batch();
        let mut leftovers = Leftovers::default();
        layout::delete_elements(&mut batch, &delta.removed);
        for tier in Tier::ALL {
            let numbers = self.state.endpoint_counts(tier);
            self.structure.extend(&mut batch, &self.networks, tier, numbers, &mut leftovers);
        }
        for (old, new) in &delta.affinity {
            if let Some(new) = new {
                affinity::write(&mut batch, &self.networks, new);
            }
            if let Some(old) = old {
                affinity::leftovers(old, new.as_ref(), &mut leftovers);
            }
        }
        layout::add_elements(&mut batch, &delta.added);
        self.leave(&mut batch, leftovers, delta);
        self.table.commit(batch)?;
        self.synced = true;
        Ok(())
    }

    /// Removes what is not needed any more: sets at once, chains after some rest.
    fn leave(&mut self, batch: &mut Batch, leftovers: Leftovers, delta: &Delta) {
        leftovers.chains.iter().for_each(|chain| batch.flush_chain(chain));
        leftovers.sets.iter().for_each(|set| batch.delete_set(set));
        // What came into use again is written anew, and must not be deleted later.
        let now = Instant::now();
        self.resting.extend(leftovers.chains.into_iter().map(|chain| (now, chain)));
        if self.resting.is_empty() {
            return;
        }
        let mut used: Vec<String> = Tier::ALL
            .iter()
            .flat_map(|tier| self.structure.numbers(*tier).map(|n| tier.members(n)))
            .collect();
        let affinity = delta.affinity.iter().filter_map(|(_, new)| new.as_ref());
        affinity.for_each(|affinity| used.extend(affinity::chains(affinity)));
        self.resting.retain(|(_, chain)| !used.contains(chain));
    }

    fn delete_resting(&mut self) {
        let rested = |since: &Instant| since.elapsed() >= CHAIN_REST;
        if !self.resting.iter().any(|(since, _)| rested(since)) {
            return;
        }
        let (delete, keep) = self.resting.drain(..).partition(|(since, _)| rested(since));
        self.resting = keep;
        let delete: Vec<(Instant, String)> = delete;
        let mut batch = batch();
        delete.iter().for_each(|(_, chain)| batch.delete_chain(chain));
        if let Err(error) = self.table.commit(batch) {
            tracing::debug!(%error, "unused chains stay for now");
            let now = Instant::now();
            self.resting.extend(delete.into_iter().map(|(_, chain)| (now, chain)));
        }
    }
}

/// The FNV-1a hash of 64 bits: names of chains and interfaces that are the same after a restart.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
