//! Which resources the cluster has, as discovery tells: for the controllers that work on all of
//! them (garbage collection, namespaces).

use apimachinery::{GroupVersionResource, Status, resource::split_api_version};
use bytes::Bytes;
use client::{Client, Informer, Scope};
use http_body_util::BodyExt;
use kube_core::{
    ApiResource, DynamicObject,
    discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery},
};

/// Aggregated discovery in one answer a root.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One resource in the version that its group prefers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Kind {
    /// Whether the resource can do all of `verbs`.
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }

    /// The resource as kube-rs names it.
    pub(crate) fn api_resource(&self) -> ApiResource {
        let GroupVersionResource { group, version, resource } = &self.resource;
        ApiResource {
            group: group.to_string(),
            version: version.to_string(),
            api_version: apimachinery::resource::join_api_version(group, version),
            kind: self.kind.clone(),
            plural: resource.to_string(),
        }
    }

    /// Typed-by-name access to the objects of one namespace, or of the cluster if it is empty.
    pub(crate) fn api(&self, client: &Client, namespace: &str) -> client::Api<DynamicObject> {
        let resource = self.api_resource();
        match namespace {
            "" => client::Api::all_with(client.kube().clone(), &resource),
            some => client::Api::namespaced_with(client.kube().clone(), some, &resource),
        }
    }
}

/// All resources, each in its preferred version.
pub(crate) async fn all(client: &Client) -> Result<Vec<Kind>, Status> {
    let mut kinds = Vec::new();
    for root in ["/api", "/apis"] {
        let request = http::Request::get(root).header("accept", ACCEPT).body(Bytes::new());
        let request = request.map_err(Status::internal)?;
        let answer = client.transport().send(request).await.map_err(Status::internal)?;
        let body = answer.into_body().collect().await.map_err(Status::internal)?.to_bytes();
        let list: APIGroupDiscoveryList =
            serde_json::from_slice(&body).map_err(Status::internal)?;
        for group in list.items {
            let name = group.metadata.and_then(|meta| meta.name).unwrap_or_default();
            // Versions come in order of preference.
            let mut seen = std::collections::HashSet::new();
            for version in group.versions {
                let Some(number) = &version.version else { continue };
                for resource in version.resources {
                    if let Some(kind) = read(&name, number, resource)
                        && seen.insert(kind.resource.resource.clone())
                    {
                        kinds.push(kind);
                    }
                }
            }
        }
    }
    Ok(kinds)
}

fn read(group: &str, version: &str, resource: APIResourceDiscovery) -> Option<Kind> {
    Some(Kind {
        resource: GroupVersionResource::new(group, version, &resource.resource?),
        kind: resource.response_kind?.kind?,
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
        verbs: resource.verbs,
    })
}

/// Finds the kind of an owner reference.
pub(crate) fn find<'a>(kinds: &'a [Kind], api_version: &str, kind: &str) -> Option<&'a Kind> {
    let (group, _) = split_api_version(api_version);
    kinds.iter().find(|known| known.kind == kind && *known.resource.group == *group)
}

/// The informer whose changes mean that there may be other resources now.
pub(crate) fn definitions(informers: &client::Informers) -> Informer {
    let definitions =
        GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    informers.resource(definitions, Scope::default())
}
