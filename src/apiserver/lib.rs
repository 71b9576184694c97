//! The Kubernetes API: HTTP, authentication, authorization, admission and the registry.

pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod kinds;
pub mod request;

/// State shared by all requests.
pub struct Shared {
    /// Where objects are.
    pub store: storage::Store,
    /// Who asks.
    pub authenticator: authentication::Authenticator,
    /// Who may do what.
    pub authorizer: authorization::Authorizer,
}

impl Shared {
    /// The stored objects of a resource.
    pub fn collection(&self, _group: &str, _resource: &str) -> Option<storage::Collection> {
        None
    }

    /// One stored object.
    pub fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<std::sync::Arc<apimachinery::Object>> {
        self.collection(group, resource)?.get(&apimachinery::Key::new(namespace, name))
    }
}
