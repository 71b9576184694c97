//! The records in memory: one map by service and one by address, both updated in constant time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Addresses, Record, Subset, Update};

/// Everything that the cluster domain and its reverse zones know.
#[derive(Debug, Default)]
pub(crate) struct Store {
    services: HashMap<Arc<str>, Entry>,
    /// Which services an address belongs to, for PTR records.
    by_address: HashMap<IpAddr, Owners>,
    /// Number of services in each namespace: `<namespace>.svc` exists while there are any.
    namespaces: HashMap<Box<str>, u32>,
    generation: u32,
    synced: bool,
    serial: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    addresses: Addresses,
}

/// Nearly every address has one owner: that one costs no allocation.
#[derive(Debug)]
enum Owners {
    One(Arc<str>),
    Many(Vec<Arc<str>>),
}

impl Owners {
    fn as_slice(&self) -> &[Arc<str>] {
        match self {
            Self::One(owner) => std::slice::from_ref(owner),
            Self::Many(owners) => owners,
        }
    }
}

impl Store {
    /// A store whose zone has the given serial number.
    pub(crate) fn new(serial: u32) -> Self {
        Self { serial, ..Self::default() }
    }

    /// Whether the records have been complete at least once: before, an absent name proves nothing.
    pub(crate) fn synced(&self) -> bool {
        self.synced
    }

    /// The serial number of the zone, which grows with each change.
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Begins a full transfer: what is not repeated before the next `Synced` will be dropped.
    pub(crate) fn begin(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes over one change.
    pub(crate) fn apply(&mut self, update: Update) {
        self.serial = self.serial.wrapping_add(1);
        match update {
            Update::Upsert(record) => self.upsert(record),
            Update::Remove { namespace, name } => self.remove(&key(&namespace, &name)),
            Update::Synced => {
                self.synced = true;
                let stale = |(_, entry): &(&Arc<str>, &Entry)| entry.generation != self.generation;
                let stale: Vec<Arc<str>> =
                    self.services.iter().filter(stale).map(|(key, _)| key.clone()).collect();
                for key in stale {
                    self.remove(&key);
                }
            }
        }
    }

    /// What a service resolves to. Both labels are lower case.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Addresses> {
        Some(&self.services.get(key(namespace, name).as_str())?.addresses)
    }

    /// Whether a namespace has any service.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The services that an address belongs to, as (namespace, name, what it resolves to).
    pub(crate) fn owners(&self, address: IpAddr) -> impl Iterator<Item = (&str, &str, &Addresses)> {
        let owners = self.by_address.get(&address).map_or(&[][..], Owners::as_slice);
        owners.iter().filter_map(|key| {
            let (namespace, name) = key.split_once('/')?;
            Some((namespace, name, &self.services.get(key)?.addresses))
        })
    }

    fn upsert(&mut self, record: Record) {
        let generation = self.generation;
        let key = key(&record.namespace, &record.name);
        if let Some(entry) = self.services.get_mut(key.as_str()) {
            entry.generation = generation;
            if entry.addresses == record.addresses {
                return;
            }
            self.remove(&key);
        }
        let key: Arc<str> = key.into();
        for address in addresses(&record.addresses) {
            match self.by_address.get_mut(&address) {
                None => {
                    self.by_address.insert(address, Owners::One(key.clone()));
                }
                Some(owners) if owners.as_slice().contains(&key) => {}
                Some(Owners::Many(owners)) => owners.push(key.clone()),
                Some(single) => {
                    let first = single.as_slice()[0].clone();
                    *single = Owners::Many(vec![first, key.clone()]);
                }
            }
        }
        match self.namespaces.get_mut(record.namespace.as_str()) {
            Some(count) => *count += 1,
            None => {
                self.namespaces.insert(record.namespace.into(), 1);
            }
        }
        let addresses = compact(record.addresses);
        self.services.insert(key, Entry { generation, addresses });
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.services.remove(key) else { return };
        for address in addresses(&entry.addresses) {
            let Some(owners) = self.by_address.get_mut(&address) else { continue };
            match owners {
                Owners::One(owner) if &**owner == key => {
                    self.by_address.remove(&address);
                }
                Owners::One(_) => {}
                Owners::Many(all) => {
                    all.retain(|owner| &**owner != key);
                    match all.as_slice() {
                        [] => {
                            self.by_address.remove(&address);
                        }
                        [last] => *owners = Owners::One(last.clone()),
                        _ => {}
                    }
                }
            }
        }
        let Some((namespace, _)) = key.split_once('/') else { return };
        if let Some(count) = self.namespaces.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(namespace);
            }
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    let mut key = String::with_capacity(namespace.len() + 1 + name.len());
    key.push_str(namespace);
    key.push('/');
    key.push_str(name);
    key
}

/// All addresses of a record, some of them possibly twice.
fn addresses(addresses: &Addresses) -> impl Iterator<Item = IpAddr> + '_ {
    let (ips, subsets): (&[IpAddr], &[Subset]) = match addresses {
        Addresses::ClusterIp { ips, .. } => (ips, &[]),
        Addresses::Headless(subsets) => (&[], subsets),
        Addresses::ExternalName(_) => (&[], &[]),
    };
    let endpoints = subsets.iter().flat_map(|subset| &subset.endpoints).map(|e| e.ip);
    ips.iter().copied().chain(endpoints)
}

/// Gives back the spare room that parsing leaves in vectors and strings.
fn compact(mut addresses: Addresses) -> Addresses {
    let ports = |ports: &mut Vec<crate::model::Port>| {
        ports.shrink_to_fit();
        ports.iter_mut().for_each(|port| port.name.shrink_to_fit());
    };
    match &mut addresses {
        Addresses::ClusterIp { ips, ports: of_service } => {
            ips.shrink_to_fit();
            ports(of_service);
        }
        Addresses::Headless(subsets) => {
            subsets.shrink_to_fit();
            for subset in subsets {
                ports(&mut subset.ports);
                subset.endpoints.shrink_to_fit();
            }
        }
        Addresses::ExternalName(name) => name.shrink_to_fit(),
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;

    fn cluster_ip(namespace: &str, name: &str, ip: &str) -> Update {
        Update::Upsert(Record {
            namespace: namespace.into(),
            name: name.into(),
            addresses: Addresses::ClusterIp { ips: vec![ip.parse().unwrap()], ports: vec![] },
        })
    }

    fn headless(name: &str, ips: &[&str]) -> Update {
        let endpoint = |ip: &&str| Endpoint { ip: ip.parse().unwrap(), hostname: None };
        let endpoints = ips.iter().map(endpoint).collect();
        Update::Upsert(Record {
            namespace: "default".into(),
            name: name.into(),
            addresses: Addresses::Headless(vec![Subset { ports: vec![], endpoints }]),
        })
    }

    fn owners(store: &Store, ip: &str) -> Vec<String> {
        let owners = store.owners(ip.parse().unwrap());
        let mut owners: Vec<String> = owners.map(|(_, name, _)| name.to_owned()).collect();
        owners.sort();
        owners
    }

    #[test]
    fn addresses_follow_their_services() {
        let mut store = Store::new(1);
        store.apply(headless("a", &["10.0.0.1", "10.0.0.2", "10.0.0.1"]));
        store.apply(headless("b", &["10.0.0.1"]));
        store.apply(headless("c", &["10.0.0.1"]));
        assert_eq!(owners(&store, "10.0.0.1"), ["a", "b", "c"]);
        store.apply(headless("b", &["10.0.0.3"]));
        assert_eq!(owners(&store, "10.0.0.1"), ["a", "c"]);
        store.apply(Update::Remove { namespace: "default".into(), name: "a".into() });
        assert_eq!(owners(&store, "10.0.0.1"), ["c"]);
        assert!(owners(&store, "10.0.0.2").is_empty());
        store.apply(Update::Remove { namespace: "default".into(), name: "c".into() });
        store.apply(Update::Remove { namespace: "default".into(), name: "c".into() });
        store.apply(Update::Remove { namespace: "default".into(), name: "b".into() });
        assert!(store.by_address.is_empty());
        assert!(store.namespaces.is_empty());
    }

    #[test]
    fn a_new_generation_drops_what_is_not_repeated() {
        let mut store = Store::new(1);
        store.begin();
        store.apply(cluster_ip("default", "kept", "10.0.0.1"));
        store.apply(cluster_ip("other", "gone", "10.0.0.2"));
        assert!(!store.synced());
        store.apply(Update::Synced);
        assert!(store.synced());
        store.begin();
        store.apply(cluster_ip("default", "kept", "10.0.0.1"));
        assert!(store.service("other", "gone").is_some());
        store.apply(Update::Synced);
        assert!(store.service("default", "kept").is_some());
        assert!(store.service("other", "gone").is_none());
        assert!(!store.has_namespace("other"));
        assert!(store.has_namespace("default"));
    }
}
