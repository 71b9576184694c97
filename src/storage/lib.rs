//! Where objects live: a durable backend, revisions and the one watch cache of a server.
//!
//! All current objects are in memory as shared bytes, ordered by key in persistent maps, so a list
//! is a snapshot that costs nothing to take. One writer thread checks, numbers and commits writes
//! in batches; a write is acknowledged when it is on disk. The disk holds current state only:
//! history for watches is a bounded ring in memory.

mod backend;
mod collection;
mod history;
mod sqlite;
mod store;
mod writer;

pub use backend::BackendError;
pub use collection::{Collection, Snapshot};
pub use history::{Event, EventKind, Expired, Watch};
pub use store::{Durability, OpenError, Store, Write, WriteError};
