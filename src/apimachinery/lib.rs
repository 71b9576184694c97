//! What every part of Kubernetes agrees on: objects as bytes, schemas, patches, selectors, errors.

pub mod apply;
pub mod field;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod proto;
pub mod quantity;
mod quote;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;

pub use object::{Draft, Key, Object};
pub use quote::go_value;
pub use resource::{GroupResource, GroupVersionKind, GroupVersionResource};
pub use status::Status;
