//! What the store needs of a durable medium. SQLite is the embedded one; a shared one (etcd) also
//! streams what other servers wrote and joins here.

use apimachinery::Key;
use bytes::Bytes;

/// One change of the durable state.
#[derive(Debug)]
pub(crate) enum Change {
    /// The object is stored in this version.
    Put { resource: u32, key: Key, revision: u64, body: Bytes },
    /// The object is gone.
    Delete { resource: u32, key: Key },
}

/// Why the medium failed. The write did not happen; a later one may succeed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No space is left.
    #[error("the disk is full")]
    Full,
    /// Another process has the database open.
    #[error("the database is in use by another server")]
    Locked,
    /// Anything else.
    #[error("database: {0}")]
    Other(String),
}

/// A durable medium. Used by the writer thread alone, so it may block.
pub(crate) trait Backend: Send {
    /// The number that stands for `resource` in changes; made on first use.
    fn resource_id(&mut self, resource: &str) -> Result<u32, BackendError>;

    /// Hands every stored body of `resource` to `each`.
    fn load(&mut self, resource: u32, each: &mut dyn FnMut(Bytes)) -> Result<(), BackendError>;

    /// Makes all of `changes` durable, or none.
    fn commit(&mut self, changes: &[Change]) -> Result<(), BackendError>;

    /// The revision that no write has reached yet.
    fn reserved(&mut self) -> Result<u64, BackendError>;

    /// Promises that no revision beyond `revision` is given out before the next reservation.
    fn reserve(&mut self, revision: u64) -> Result<(), BackendError>;
}
