//! Custom resources: from CustomResourceDefinition objects to resources like any other.

pub mod conditions;

/// What a definition adds to a resource.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// Revision of the CustomResourceDefinition.
    pub revision: u64,
    /// Whether the schema of any version sets defaults.
    pub has_defaults: bool,
}
