//! Custom resources: from CustomResourceDefinition objects to resources like any other.

pub mod conditions;

use std::sync::Arc;

use crate::subresources::scale::Paths;

/// What a definition adds to a resource.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// Revision of the CustomResourceDefinition.
    pub revision: u64,
    /// Whether the schema of any version sets defaults.
    pub has_defaults: bool,
    /// Where each version keeps what its Scale shows.
    pub scales: Vec<(Arc<str>, Paths)>,
}

impl Definition {
    /// Where a version keeps what its Scale shows.
    pub fn scale(&self, version: &str) -> Option<Paths> {
        self.scales.iter().find(|(name, _)| **name == *version).map(|(_, paths)| paths.clone())
    }
}
