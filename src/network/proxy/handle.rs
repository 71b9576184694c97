//! The proxy for asynchronous callers: its system calls are kept off the runtime's workers.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Error, Proxy};

/// A shared handle on a proxy.
#[derive(Clone)]
pub struct Handle(Arc<Mutex<Proxy>>);

impl Handle {
    /// A handle on `proxy`.
    pub fn new(proxy: Proxy) -> Self {
        Self(Arc::new(Mutex::new(proxy)))
    }

    async fn run(
        &self,
        work: impl FnOnce(&mut Proxy) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let proxy = self.0.clone();
        let work = move || work(&mut proxy.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
    }

    /// [`Proxy::apply`].
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.run(|proxy| proxy.apply(changes)).await
    }

    /// [`Proxy::verify`].
    pub async fn verify(&self) -> Result<(), Error> {
        self.run(Proxy::verify).await
    }
}
