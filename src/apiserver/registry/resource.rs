//! A resource as the registry sees it: built-in or custom makes no difference from here on.

use std::sync::Arc;

use apimachinery::{GroupResource, GroupVersionKind, schema::Schema};
use storage::Collection;

use crate::{
    crd::Definition,
    kinds::Hooks,
    registry::builtin::{Row, Sub},
};

/// How a resource is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Plural, as in paths.
    pub plural: Arc<str>,
    /// Singular.
    pub singular: Arc<str>,
    /// Short names.
    pub short: Vec<Arc<str>>,
    /// Categories.
    pub categories: Vec<Arc<str>>,
}

/// A subresource in one version.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The last step of the path.
    pub name: Arc<str>,
    /// What it speaks; `None` for the resource's own kind.
    pub kind: Option<GroupVersionKind>,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// A resource in one version.
pub struct Version {
    /// Group, version and kind of its objects.
    pub gvk: GroupVersionKind,
    /// Kind of its lists.
    pub list_kind: Arc<str>,
    /// What its objects may hold.
    pub schema: Schema,
    /// Subresources, sorted by name.
    pub subresources: Vec<Subresource>,
    /// The first bytes of most stored objects, which list items go without.
    pub prefix: String,
    /// What clients of this version are warned of.
    pub deprecation: Option<String>,
}

impl Version {
    /// A version of a kind.
    pub fn new(gvk: GroupVersionKind, list_kind: &str, schema: Schema) -> Self {
        let prefix = format!(r#"{{"apiVersion":"{}","kind":"{}","#, gvk.api_version(), gvk.kind);
        Self {
            gvk,
            list_kind: list_kind.into(),
            schema,
            subresources: Vec::new(),
            prefix,
            deprecation: None,
        }
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| &*sub.name == name)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk.api_version()
    }
}

/// What sets a resource apart from others in the registry. See [`Row`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// A PUT of an unknown name creates it.
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// A deletion answers with the object.
    pub returns_deleted: bool,
    /// The garbage collector has nothing to do with it.
    pub no_garbage_collection: bool,
}

/// A resource of the API.
pub struct Resource {
    /// Group and plural: what messages, roles and selectors name.
    pub group_resource: GroupResource,
    /// Its names.
    pub names: Names,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
    /// What the stored bytes are.
    pub storage: GroupVersionKind,
    /// Where they are; `None` where nothing is stored.
    pub collection: Option<Collection>,
    /// Served versions, the preferred one first.
    pub versions: Vec<Version>,
    /// The kind's own rules.
    pub hooks: &'static dyn Hooks,
    /// What sets it apart.
    pub traits: Traits,
    /// The definition behind a custom resource.
    pub definition: Option<Arc<Definition>>,
}

impl Resource {
    /// A built-in resource.
    pub fn builtin(
        row: &'static Row,
        versions: Vec<Version>,
        storage: GroupVersionKind,
        collection: Option<Collection>,
        hooks: &'static dyn Hooks,
    ) -> Self {
        let singular = versions.first().map(|v| v.gvk.kind.to_lowercase()).unwrap_or_default();
        let owned = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Self {
            group_resource: GroupResource::new(row.group, row.plural),
            names: Names {
                plural: row.plural.into(),
                singular: singular.into(),
                short: owned(row.short_names),
                categories: owned(row.categories),
            },
            namespaced: row.namespaced,
            verbs: row.verbs,
            storage,
            collection,
            versions,
            hooks,
            traits: Traits {
                create_on_update: row.create_on_update,
                unconditional_update: row.unconditional_update,
                returns_deleted: row.returns_deleted,
                no_garbage_collection: row.no_garbage_collection,
            },
            definition: None,
        }
    }

    /// Whether the resource comes from a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        self.definition.is_some()
    }
}

impl Subresource {
    /// A built-in subresource of a resource in `gvk`.
    pub fn builtin(sub: &Sub) -> Self {
        let (group, version, kind) = sub.kind;
        Self {
            name: sub.name.into(),
            kind: (!kind.is_empty()).then(|| GroupVersionKind::new(group, version, kind)),
            verbs: sub.verbs,
        }
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
