//! The proxy for asynchronous callers: its system calls are kept off the runtime's workers.

use std::sync::{Arc, Mutex, PoisonError};

use super::stale_flows::StaleFlows;
use super::{Change, Error, Proxy};

/// A shared handle on a proxy.
#[derive(Clone)]
pub struct Handle {
    proxy: Arc<Mutex<Proxy>>,
    flows: StaleFlows,
}

impl Handle {
    /// A handle on `proxy`.
    pub fn new(proxy: Proxy) -> Self {
        Self { flows: proxy.flows.clone(), proxy: Arc::new(Mutex::new(proxy)) }
    }

    async fn run(
        &self,
        work: impl FnOnce(&mut Proxy) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let proxy = self.proxy.clone();
        let work = move || work(&mut proxy.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
    }

    /// [`Proxy::apply`], but that UDP flows to endpoints that are gone are forgotten a little
    /// after this returns.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        let result = self.run(|proxy| proxy.commit(changes)).await;
        if self.flows.is_pending() {
            let flows = self.flows.clone();
            tokio::task::spawn_blocking(move || flows.forget());
        }
        result
    }

    /// [`Proxy::verify`].
    pub async fn verify(&self) -> Result<(), Error> {
        self.run(Proxy::verify).await
    }
}
