//! The client of the Kubernetes API that every component uses: requests, informers, work queues.
//!
//! Requests are typed (kube-rs `Api<K>`). Reads of many objects go through [`Informers`]: one shared
//! cache of object bytes per resource and process, filled by a watch. What carries both is a
//! [`Transport`]: in-process on a server, where the cache shares its bytes with the API server's
//! watch cache, or HTTPS on an agent.

pub mod controller;
pub mod events;
pub mod follow;
pub mod informer;
pub mod queue;
pub mod transport;

use std::sync::Arc;

use apimachinery::{GroupVersionResource, Status};
pub use follow::{Event, Follower};
use http::{HeaderValue, header::USER_AGENT};
use http_body_util::BodyExt;
pub use informer::{Change, Informer, Informers, Scope};
pub use kube_client::{
    Api, Error,
    api::{
        DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
    },
};
use kube_core::{ClusterResourceScope, NamespaceResourceScope};
pub use queue::WorkQueue;
pub use transport::{Transport, WatchItem, WatchRequest};

/// A client with one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    kube: kube_client::Client,
}

impl Client {
    /// A client over `transport`, of the component that calls itself `agent`: so the API server
    /// names it as the manager of the fields that it writes, and tools ask for upstream's names.
    /// Must be called within a tokio runtime.
    pub fn new(transport: Arc<dyn Transport>, agent: &'static str) -> Self {
        let carrier = transport.clone();
        let service =
            tower::service_fn(move |request: http::Request<kube_client::client::Body>| {
                let carrier = carrier.clone();
                async move {
                    let (mut head, body) = request.into_parts();
                    head.headers.insert(USER_AGENT, HeaderValue::from_static(agent));
                    let body = body.collect().await?.to_bytes();
                    let answer = carrier.send(http::Request::from_parts(head, body)).await?;
                    Ok::<_, tower::BoxError>(answer)
                }
            });
        Self { transport, kube: kube_client::Client::new(service, "default") }
    }

    /// The same identity and transport for another component.
    pub fn named(&self, agent: &'static str) -> Self {
        Self::new(self.transport.clone(), agent)
    }

    /// The objects of kind `K` in `namespace`.
    pub fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube_core::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// The objects of the cluster-scoped kind `K`.
    pub fn cluster<K>(&self) -> Api<K>
    where
        K: kube_core::Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.kube.clone())
    }

    /// The kube-rs client underneath, for requests that no typed method covers.
    pub fn kube(&self) -> &kube_client::Client {
        &self.kube
    }

    /// What carries the requests.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }
}

/// The Status of a failed request, if the API server answered at all.
pub fn status_of(error: &Error) -> Option<&kube_core::Status> {
    match error {
        Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Whether a request failed because the object does not exist.
pub fn is_not_found(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.code == 404)
}

/// Whether a request failed because the object was changed in between (or the name is taken).
pub fn is_conflict(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.reason == "Conflict")
}

/// Whether a create failed because the name is taken.
pub fn is_already_exists(error: &Error) -> bool {
    status_of(error).is_some_and(|status| status.reason == "AlreadyExists")
}

/// The resource that a k8s-openapi kind is served as.
pub fn resource_of<K: kube_core::Resource<DynamicType = ()>>() -> GroupVersionResource {
    GroupVersionResource::new(&K::group(&()), &K::version(&()), &K::plural(&()))
}

/// A failed request of the watch path, where no kube-rs type is involved.
pub type Result<T, E = Status> = std::result::Result<T, E>;
