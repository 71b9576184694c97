//! Server-side apply and field ownership (KEP-555): merging applied configurations into objects
//! and keeping `metadata.managedFields`.
//!
//! The behaviour is that of sigs.k8s.io/structured-merge-diff and of
//! k8s.io/apimachinery/pkg/util/managedfields. An object is merged by its schema: lists with keys
//! item by item, sets value by value, what is atomic as a whole. [`FieldManager`] is the entry.

mod compare;
mod conflict;
mod element;
mod extract;
pub mod fields_v1;
mod filter;
mod last_applied;
mod managers;
mod merge;
mod ownership;
mod patch;
mod prune;
pub mod scale;
mod set;
mod types;
mod untracked;
mod validate;

use serde_json::Value;

pub use conflict::{ApplyError, Conflict};
pub use element::PathElement;
pub use filter::FieldFilter;
pub use managers::{ManagerId, Operation};
pub use set::{Set, path_text};
pub use untracked::merge_untracked;

use crate::schema::Schema;

/// Converts an object to another group version of its kind. None where that version is not served
/// any more: what was owned at it is forgotten.
pub type Convert<'a> = dyn Fn(&Value, &str) -> Result<Option<(Value, Schema)>, String> + 'a;

/// Tracks the fields of the objects of one resource, or of one of its subresources.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    /// Schema of the kind at the version of the request.
    pub schema: &'a Schema,
    /// `apps/v1`, or `v1` for the core group.
    pub group_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// `status`, or the empty string for the resource itself.
    pub subresource: &'a str,
    /// The fields that requests of this resource can change at all: the status cannot be owned
    /// through the resource itself, nor the spec through the status.
    pub filter: FieldFilter<'a>,
    /// How to see objects at other versions; none for a resource of a single version.
    pub convert: Option<&'a Convert<'a>>,
}

impl FieldManager<'_> {
    /// Applies a configuration (`application/apply-patch+yaml`) and returns the object with its
    /// managedFields; an object that is only new in managedFields has otherwise not changed.
    ///
    /// `live` is the stored object at the version of the request, or none to create it. `now` is
    /// [`crate::time::now`]. The result has nulls where lists and maps lost all they had and where
    /// the configuration has them; it still has to be conformed to the schema, defaulted and
    /// validated.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<Value, ApplyError> {
        patch::apply(self, live, config, manager, force, now)
    }

    /// Updates the managedFields of `new` after any request that is not an apply: what it added or
    /// changed since `old` (none when it is created) belongs to `manager`.
    ///
    /// Objects whose fields nobody owns are left alone. `new` may bring managedFields of its own,
    /// which is how clients edit them; subresources cannot. Where the objects do not fit the
    /// schema the old managedFields stay.
    pub fn track_update(&self, old: Option<&Value>, new: &mut Value, manager: &str, now: &str) {
        ownership::track_update(self, old, new, manager, now);
    }
}

/// Whether managedFields can be read; the API server puts the old ones back where admission
/// plugins broke them.
pub fn validate_managed_fields(managed_fields: &Value) -> Result<(), String> {
    managers::Managers::decode(Some(managed_fields)).map(drop)
}

/// The fields that a configuration has, as its applier would own them.
pub fn field_set(schema: &Schema, object: &Value) -> Set {
    extract::field_set(object, types::Type::of(schema))
}

#[cfg(test)]
mod tests;
