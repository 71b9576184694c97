//! A resource as the registry sees it: built-in or custom makes no difference from here on.

use std::sync::Arc;

use apimachinery::{
    GroupResource, GroupVersionKind,
    schema::{self, Schema, Subresource},
};
use storage::Collection;

use crate::{crd::Definition, kinds::Hooks};

/// A resource in one version.
pub struct Version {
    /// Group, version and kind of its objects.
    pub gvk: GroupVersionKind,
    /// Names, verbs and subresources, as discovery and OpenAPI show them.
    pub facts: schema::Resource,
    /// What its objects may hold.
    pub schema: Schema,
    /// The first bytes of most stored objects, which list items go without.
    pub prefix: String,
    /// What clients of this version are warned of.
    pub deprecation: Option<String>,
}

impl Version {
    /// A version of a resource.
    pub fn new(facts: schema::Resource, schema: Schema) -> Self {
        let gvk = GroupVersionKind::new(&facts.group, &facts.version, &facts.kind);
        let prefix = format!(r#"{{"apiVersion":"{}","kind":"{}",""#, gvk.api_version(), gvk.kind);
        Self { gvk, facts, schema, prefix, deprecation: None }
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.facts.subresources.iter().find(|sub| sub.name == name)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk.api_version()
    }
}

/// What sets a resource apart from others in the registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// A PUT of an unknown name creates it.
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// A deletion answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// The garbage collector has nothing to do with it.
    pub no_garbage_collection: bool,
    /// Objects survive a crash only as of the last flush.
    pub volatile: bool,
}

/// A resource of the API.
pub struct Resource {
    /// Group and plural: what messages, roles and selectors name.
    pub group_resource: GroupResource,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What the stored bytes are.
    pub storage: GroupVersionKind,
    /// Where they are; `None` where nothing is stored.
    pub collection: Option<Collection>,
    /// Served versions, the preferred one first; at least one.
    pub versions: Vec<Version>,
    /// The kind's own rules.
    pub hooks: &'static dyn Hooks,
    /// What sets it apart.
    pub traits: Traits,
    /// The definition behind a custom resource.
    pub definition: Option<Arc<Definition>>,
}

impl Resource {
    /// The plural, as in paths.
    pub fn plural(&self) -> &str {
        &self.group_resource.resource
    }

    /// Whether this is the resource of that group and name.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        (&*self.group_resource.group, self.plural()) == (group, plural)
    }

    /// Whether the resource comes from a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        self.definition.is_some()
    }
}

/// A resource in a version: what a path names.
#[derive(Clone)]
pub struct Endpoint {
    /// The resource.
    pub resource: Arc<Resource>,
    version: usize,
}

impl Endpoint {
    /// The `version`-th version of `resource`.
    pub fn new(resource: Arc<Resource>, version: usize) -> Self {
        Self { resource, version }
    }

    /// The version.
    pub fn version(&self) -> &Version {
        &self.resource.versions[self.version]
    }

    /// Whether objects go out as they are stored.
    pub fn is_stored_version(&self) -> bool {
        self.version().gvk == self.resource.storage
    }
}
