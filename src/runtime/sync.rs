//! Blocking work off the async workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::Gone(format!("worker: {e}")).into()),
    }
}

/// A lock that a panic elsewhere does not take away: what it guards is changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a file of the runtime's own state.
pub(crate) fn read_json<T: for<'de> serde::Deserialize<'de>>(path: &std::path::Path) -> Result<T> {
    let bad = |message: String| Error::State { path: path.to_owned(), message };
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

/// Replaces a file in one step. `durable` waits for the disk.
pub(crate) fn write_json(
    path: &std::path::Path,
    value: &impl serde::Serialize,
    durable: bool,
) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, serde_json::to_vec(value)?)?;
        if durable {
            std::fs::File::open(&temporary)?.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if let Some(dir) = path.parent().filter(|_| durable) {
            std::fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|e| Error::State { path: path.to_owned(), message: e.to_string() })
}
