//! The schema engine: what an object may hold, and what is to be done with it.
//!
//! A built-in kind and a custom resource are the same thing here: a node of a schema graph. The
//! graph of the built-in kinds comes from the table in `embedded/schema`, the others from the
//! `openAPIV3Schema` of a CustomResourceDefinition.

mod bounds;
pub(crate) mod builtin;
mod crd;
mod crd_rules;
mod decode;
mod default;
mod formats;
pub(crate) mod graph;
mod handle;
mod identity;
pub mod internal;
pub(crate) mod json_schema;
pub(crate) mod leaf;
mod prune;
mod resources;
mod stored;
mod structural;
mod table;
mod text;
mod trail;
mod validate;

pub use builtin::{builtin, builtin_kinds, builtin_type};
pub use crd::from_crd;
pub use crd_rules::errors as crd_schema_errors;
pub use decode::{DecodeError, Decoded, decode_json};
pub use graph::{Kind, ListType, PatchStrategy};
pub use handle::Schema;
pub use internal::go_json;
pub use resources::{Resource, Subresource, builtin_resources};
pub use structural::errors as structural_errors;
