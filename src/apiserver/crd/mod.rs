//! Custom resources: from CustomResourceDefinition objects to resources like any other.

mod approval;
pub mod conditions;
pub mod controller;
mod conversion;
pub mod hooks;
pub mod names;
pub mod resource;
pub(crate) mod rules;
pub mod webhook;

use std::sync::Arc;

use serde_json::Value;

use crate::subresources::scale::Paths;

/// A column that a definition adds to `kubectl get`.
#[derive(Clone, Debug)]
pub struct PrinterColumn {
    /// Its definition as a Table has it.
    pub definition: Value,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: Box<str>,
    /// The path of its value.
    pub path: Box<str>,
}

/// What a version adds to a custom resource.
#[derive(Clone, Debug, Default)]
pub struct VersionFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Where it keeps what its Scale shows.
    pub scale: Option<Paths>,
    /// Its columns beside the name.
    pub columns: Vec<PrinterColumn>,
    /// Fields that can be selected by, as dotted paths.
    pub selectable: Vec<Box<str>>,
    /// Its validation rules, where it has such.
    pub(crate) rules: Option<Arc<rules::Rules>>,
}

/// What a definition adds to a resource.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// Name of the CustomResourceDefinition.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// Its revision.
    pub revision: u64,
    /// Whether objects that were stored before this revision may differ from what would be stored
    /// now: defaults have come, or another stored version.
    pub is_rewritten: bool,
    /// The versions, in the order of the resource.
    pub versions: Vec<VersionFacts>,
    /// Who converts between versions, where that is not a matter of `apiVersion` alone.
    pub conversion: Option<webhook::Conversion>,
    /// Whether the definition is being deleted: nothing is created any more.
    pub terminating: bool,
}

impl Definition {
    /// What a version adds.
    pub fn version(&self, name: &str) -> Option<&VersionFacts> {
        self.versions.iter().find(|version| *version.name == *name)
    }

    /// Where a version keeps what its Scale shows.
    pub fn scale(&self, version: &str) -> Option<Paths> {
        self.version(version)?.scale.clone()
    }
}
