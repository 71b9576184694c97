//! The resources that a Kubernetes API server has of its own: what discovery, routing and OpenAPI
//! need to know of each, from the table in `embedded/schema`.

use super::builtin;

/// One resource in one version of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Plural in lower case: the name in URLs.
    pub plural: String,
    /// Singular in lower case.
    pub singular: String,
    /// Kind, such as `Pod`.
    pub kind: String,
    /// Kind of its lists, such as `PodList`.
    pub list_kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it: `get`, `list`, `create` ...
    pub verbs: Vec<String>,
    /// Such as `po`.
    pub short_names: Vec<String>,
    /// Such as `all`.
    pub categories: Vec<String>,
    /// The hash that discovery shows of the version in which it is stored.
    pub storage_version_hash: Option<String>,
    /// Whether a deletion replies with the object, and not with a Status.
    pub returns_deleted: bool,
    /// Such as `status` or `scale`.
    pub subresources: Vec<Subresource>,
}

/// A subresource of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The name in URLs, such as `status`.
    pub name: String,
    /// Group of its kind, mostly that of the resource.
    pub group: String,
    /// Version of its kind.
    pub version: String,
    /// Kind, such as `Scale`.
    pub kind: String,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

/// The resources of every served group version, in the order of upstream's discovery.
///
/// Reads the table each time: whoever needs the resources keeps them in a form of its own.
pub fn builtin_resources() -> Vec<Resource> {
    let table = builtin::resource_table();
    let mut resources: Vec<Resource> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix(' ') {
            Some(line) => {
                if let Some(resource) = resources.last_mut() {
                    let subresource = subresource(line, resource);
                    resource.subresources.extend(subresource);
                }
            }
            None => resources.extend(resource(line)),
        }
    }
    resources
}

fn resource(line: &str) -> Option<Resource> {
    let mut parts = line.split(' ');
    let (group, version) = crate::resource::split_api_version(parts.next()?);
    let (plural, singular, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let (namespaced, verbs) = (parts.next()? == "n", parts.next()?);
    let facts = parts.map(|fact| fact.split_once('=').unwrap_or((fact, "")));
    let facts: Vec<(&str, &str)> = facts.collect();
    let fact = |key| facts.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: singular.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced,
        verbs: list(verbs),
        short_names: fact("s").map_or_else(Vec::new, list),
        categories: fact("c").map_or_else(Vec::new, list),
        storage_version_hash: fact("h").map(str::to_owned),
        returns_deleted: fact("d").is_some(),
        subresources: Vec::new(),
    })
}

fn subresource(line: &str, of: &Resource) -> Option<Subresource> {
    let mut parts = line.split(' ');
    let (name, kind, verbs) = (parts.next()?, parts.next()?, parts.next()?);
    let (group, version, kind) = match kind.split_once(':') {
        Some((api_version, kind)) => {
            let (group, version) = crate::resource::split_api_version(api_version);
            (group, version, kind)
        }
        None => (of.group.as_str(), of.version.as_str(), kind),
    };
    Some(Subresource {
        name: name.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        verbs: list(verbs),
    })
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_pods_and_their_subresources() {
        let all = builtin_resources();
        let pods = all.iter().find(|r| r.group.is_empty() && r.plural == "pods").unwrap();
        assert_eq!((pods.kind.as_str(), pods.singular.as_str()), ("Pod", "pod"));
        assert_eq!((pods.list_kind.as_str(), pods.namespaced), ("PodList", true));
        assert_eq!(
            (&pods.short_names[..], &pods.categories[..]),
            (&list("po")[..], &list("all")[..])
        );
        assert!(pods.returns_deleted);
        assert_eq!(pods.storage_version_hash.as_deref(), Some("xPOwRZ+Yhw8="));
        let eviction = pods.subresources.iter().find(|s| s.name == "eviction").unwrap();
        assert_eq!((eviction.group.as_str(), eviction.kind.as_str()), ("policy", "Eviction"));
        assert_eq!(eviction.verbs, ["create"]);
    }

    #[test]
    fn every_kind_of_every_resource_is_built_in() {
        let all = builtin_resources();
        assert!(all.len() > 70);
        for r in &all {
            assert!(builtin::builtin(&r.group, &r.version, &r.kind).is_some(), "{}", r.kind);
            if r.verbs.iter().any(|verb| verb == "list") {
                assert!(builtin::builtin(&r.group, &r.version, &r.list_kind).is_some());
            }
            for s in &r.subresources {
                assert!(builtin::builtin(&s.group, &s.version, &s.kind).is_some(), "{}", s.kind);
            }
        }
    }
}
