//! The services behind the rules, and which of their endpoints gets the next request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::endpoint::Endpoint;
use crate::model::{AppProtocol, PortRef, Service, ServicePort, key};

/// All services that rules name.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    services: HashMap<Box<str>, Entry>,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    ports: Vec<Arc<Backend>>,
}

/// One port of a service.
#[derive(Debug)]
pub(crate) struct Backend {
    name: String,
    port: u16,
    protocol: AppProtocol,
    endpoints: RwLock<Arc<[Arc<Endpoint>]>>,
    turn: AtomicUsize,
    changed: Notify,
}

/// Why a service cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Service,
    Port,
}

impl Backends {
    /// Begins a full transfer: what is not repeated before [`Backends::synced`] will be dropped.
    pub(crate) fn begin(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Ends a full transfer.
    pub(crate) fn synced(&mut self) {
        let generation = self.generation;
        self.services.retain(|_, entry| {
            let keep = entry.generation == generation;
            if !keep {
                entry.ports.iter().for_each(|backend| backend.set_endpoints(&[]));
            }
            keep
        });
    }

    pub(crate) fn upsert(&mut self, service: Service) {
        let generation = self.generation;
        let name = key(&service.namespace, &service.name);
        let entry = self.services.entry(name.into());
        let entry = entry.or_insert_with(|| Entry { generation, ports: Vec::new() });
        entry.generation = generation;
        let mut former = std::mem::take(&mut entry.ports);
        for port in service.ports {
            // A backend that stays keeps its connections, and waiting requests see its change.
            let same = former.iter().position(|backend| backend.is(&port));
            let backend = match same {
                Some(at) => former.swap_remove(at),
                None => Arc::new(Backend::new(&port)),
            };
            backend.set_endpoints(&port.endpoints);
            entry.ports.push(backend);
        }
        former.iter().for_each(|backend| backend.set_endpoints(&[]));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let Some(entry) = self.services.remove(name) else { return };
        entry.ports.iter().for_each(|backend| backend.set_endpoints(&[]));
    }

    pub(crate) fn find(&self, service: &str, port: &PortRef) -> Result<Arc<Backend>, Missing> {
        let entry = self.services.get(service).ok_or(Missing::Service)?;
        let matches = |backend: &&Arc<Backend>| match port {
            PortRef::Number(number) => backend.port == *number,
            PortRef::Name(name) => backend.name == *name,
        };
        entry.ports.iter().find(matches).cloned().ok_or(Missing::Port)
    }
}

impl Backend {
    fn new(port: &ServicePort) -> Self {
        Self {
            name: port.name.clone(),
            port: port.port,
            protocol: port.protocol,
            endpoints: RwLock::new(Arc::new([])),
            turn: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    fn is(&self, port: &ServicePort) -> bool {
        (&self.name, self.port, self.protocol) == (&port.name, port.port, port.protocol)
    }

    fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over the addresses; those that stay keep their connections.
    fn set_endpoints(&self, addresses: &[SocketAddr]) {
        let former = self.endpoints();
        let endpoint = |address: &SocketAddr| {
            let same = former.iter().find(|endpoint| endpoint.address == *address);
            same.cloned().unwrap_or_else(|| Endpoint::new(*address, self.protocol))
        };
        let endpoints: Arc<[Arc<Endpoint>]> = addresses.iter().map(endpoint).collect();
        for endpoint in former.iter() {
            if !addresses.contains(&endpoint.address) {
                endpoint.retire();
            }
        }
        *self.endpoints.write().unwrap_or_else(PoisonError::into_inner) = endpoints;
        self.changed.notify_waiters();
    }

    /// The endpoint for the next request: of the one whose turn it is and another by chance, the
    /// one that has less to do. `None` if all have been tried.
    pub(crate) fn pick(&self, tried: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints();
        if tried.is_empty() && endpoints.iter().all(|endpoint| !endpoint.is_avoided()) {
            return choose(&endpoints, |at| Some(&endpoints[at]), &self.turn);
        }
        let untried = || endpoints.iter().filter(|endpoint| !tried.contains(&endpoint.address));
        let good: Vec<&Arc<Endpoint>> = untried().filter(|e| !e.is_avoided()).collect();
        let left = if good.is_empty() { untried().collect() } else { good };
        choose(&left, |at| left.get(at).copied(), &self.turn)
    }

    /// Completes when the endpoints change after this call.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

fn choose<'a, T>(
    all: &[T],
    at: impl Fn(usize) -> Option<&'a Arc<Endpoint>>,
    turn: &AtomicUsize,
) -> Option<Arc<Endpoint>> {
    let count = all.len();
    if count == 0 {
        return None;
    }
    let first = turn.fetch_add(1, Ordering::Relaxed) % count;
    let other = rand::random_range(0..count);
    let (first, other) = (at(first)?, at(other)?);
    Some(if other.load() < first.load() { other.clone() } else { first.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, ports: &[(&str, u16, &[&str])]) -> Service {
        let ports = ports.iter().map(|(name, port, endpoints)| ServicePort {
            name: name.to_string(),
            port: *port,
            protocol: AppProtocol::Http,
            endpoints: endpoints.iter().map(|address| address.parse().unwrap()).collect(),
        });
        Service { namespace: "ns".into(), name: name.into(), ports: ports.collect() }
    }

    fn addresses(backend: &Backend) -> Vec<String> {
        backend.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn by_number_and_by_name() {
        let mut backends = Backends::default();
        backends.upsert(service("s", &[("http", 80, &["10.0.0.1:8080"]), ("", 81, &[])]));
        let name = |name: &str| PortRef::Name(name.into());
        assert!(backends.find("ns/s", &PortRef::Number(80)).is_ok());
        assert!(backends.find("ns/s", &name("http")).is_ok());
        assert!(backends.find("ns/s", &PortRef::Number(81)).unwrap().endpoints().is_empty());
        assert_eq!(backends.find("ns/s", &PortRef::Number(8080)).unwrap_err(), Missing::Port);
        assert_eq!(backends.find("ns/s", &name("https")).unwrap_err(), Missing::Port);
        assert_eq!(backends.find("ns/x", &name("http")).unwrap_err(), Missing::Service);
    }

    #[test]
    fn endpoints_that_stay_are_the_same() {
        let mut backends = Backends::default();
        let port = PortRef::Number(80);
        backends.upsert(service("s", &[("http", 80, &["10.0.0.1:80", "10.0.0.2:80"])]));
        let backend = backends.find("ns/s", &port).unwrap();
        let before = backend.endpoints();
        backends.upsert(service("s", &[("http", 80, &["10.0.0.2:80", "10.0.0.3:80"])]));
        let after = backend.endpoints();
        assert!(Arc::ptr_eq(&before[1], &after[0]));
        assert_eq!(addresses(&backend), ["10.0.0.2:80", "10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&backend, &backends.find("ns/s", &port).unwrap()));
        backends.remove("ns/s");
        assert!(backend.endpoints().is_empty());
    }

    #[test]
    fn a_new_generation_drops_what_is_not_repeated() {
        let mut backends = Backends::default();
        backends.upsert(service("kept", &[("", 80, &["10.0.0.1:80"])]));
        backends.upsert(service("gone", &[("", 80, &["10.0.0.1:80"])]));
        backends.begin();
        backends.upsert(service("kept", &[("", 80, &["10.0.0.1:80"])]));
        backends.synced();
        assert!(backends.find("ns/kept", &PortRef::Number(80)).is_ok());
        assert!(backends.find("ns/gone", &PortRef::Number(80)).is_err());
    }

    #[test]
    fn endpoints_take_turns_and_busy_ones_get_less() {
        let mut backends = Backends::default();
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
        backends.upsert(service("s", &[("", 80, &all)]));
        let backend = backends.find("ns/s", &PortRef::Number(80)).unwrap();
        let mut counts: HashMap<SocketAddr, usize> = HashMap::new();
        for _ in 0..400 {
            *counts.entry(backend.pick(&[]).unwrap().address).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == 100), "{counts:?}");

        let busy = backend.pick(&[]).unwrap();
        let _requests: Vec<_> = (0..10).map(|_| busy.begin()).collect();
        let picked = (0..400).filter(|_| backend.pick(&[]).unwrap().address == busy.address);
        assert!(picked.count() < 60);

        let tried: Vec<SocketAddr> = all[..3].iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(backend.pick(&tried).unwrap().address.to_string(), all[3]);
        let tried: Vec<SocketAddr> = all.iter().map(|a| a.parse().unwrap()).collect();
        assert!(backend.pick(&tried).is_none());
    }
}
