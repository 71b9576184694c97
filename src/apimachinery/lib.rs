//! What every part of Kubernetes agrees on: objects as bytes, schemas, patches, selectors, errors.

pub mod field;
pub mod object;
pub mod resource;
pub mod schema;
pub mod status;

pub use object::{Draft, Key, Object};
pub use resource::{GroupResource, GroupVersionKind, GroupVersionResource};
pub use status::Status;
