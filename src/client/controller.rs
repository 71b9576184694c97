//! The loop of every controller: take a key off the queue, reconcile it, try again if it failed.

use std::{fmt::Display, future::Future, hash::Hash, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Error, WorkQueue, is_conflict};

/// What a reconciliation asks for when it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the next change will bring the key back.
    Done,
    /// To be called again for this key after this long, change or not.
    Again(Duration),
}

/// Why a reconciliation failed. It is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(#[from] Error),
    /// An object in the cache does not fit its type.
    #[error("object does not fit its type: {0}")]
    Parse(#[from] serde_json::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Runs `workers` loops over `queue` until `stop`; every key goes through `reconcile`.
///
/// A conflict is expected now and then (the cache lags behind a write) and is logged quietly.
pub async fn run<K, F, R>(
    name: &'static str,
    queue: Arc<WorkQueue<K>>,
    workers: usize,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(K) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Action, ReconcileError>> + Send,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                match reconcile(key.clone()).await {
                    Ok(action) => {
                        queue.forget(&key);
                        if let Action::Again(delay) = action {
                            queue.add_after(key.clone(), delay);
                        }
                    }
                    Err(error) => {
                        match &error {
                            ReconcileError::Api(api) if is_conflict(api) => {
                                debug!(controller = name, %key, %error, "conflict, trying again");
                            }
                            _ => warn!(controller = name, %key, %error, "reconcile failed"),
                        }
                        queue.retry(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    stop.cancelled().await;
    queue.close();
    // A reconciliation may be killed at any await: it observes anew when it runs again.
    tasks.shutdown().await;
}
