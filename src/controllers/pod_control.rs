//! Creates and deletes pods on behalf of a controller, with the events that tell of it.

use std::sync::Arc;

use apimachinery::Object;
use client::{
    Client, DeleteParams, Error, PostParams, Preconditions,
    events::{Recorder, reference},
    is_not_found,
};
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube_core::Resource;

/// Pods of one controller object.
pub(crate) struct PodControl<'a, K> {
    pub(crate) client: &'a Client,
    pub(crate) recorder: &'a Recorder,
    pub(crate) owner: &'a K,
}

impl<K: Resource<DynamicType = ()>> PodControl<'_, K> {
    fn namespace(&self) -> &str {
        self.owner.meta().namespace.as_deref().unwrap_or_default()
    }

    /// A pod out of `template`, controlled by the owner, with a name made from the owner's.
    pub(crate) fn pod(&self, template: &PodTemplateSpec, controller: OwnerReference) -> Pod {
        let meta = template.metadata.clone().unwrap_or_default();
        let owner = self.owner.meta().name.as_deref().unwrap_or_default();
        Pod {
            metadata: ObjectMeta {
                generate_name: Some(format!("{owner}-")),
                namespace: self.owner.meta().namespace.clone(),
                labels: meta.labels,
                annotations: meta.annotations,
                finalizers: meta.finalizers,
                owner_references: Some(vec![controller]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    /// Creates `pod`.
    pub(crate) async fn create(&self, pod: &Pod) -> Result<Pod, Error> {
        let created = self
            .client
            .namespaced::<Pod>(self.namespace())
            .create(&PostParams::default(), pod)
            .await;
        match &created {
            Ok(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let message = format!("Created pod: {name}");
                self.recorder.normal(&reference(self.owner), "SuccessfulCreate", message);
            }
            // A namespace that is being deleted takes no pods; that is no news.
            Err(error) if is_terminating(error) => {}
            Err(error) => {
                let message = format!("Error creating: {}", text_of(error));
                self.recorder.warning(&reference(self.owner), "FailedCreate", message);
            }
        }
        created
    }

    /// Deletes `pod`, unless it is gone already.
    pub(crate) async fn delete(&self, pod: &Arc<Object>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = &pod.key.name;
        match self.client.namespaced::<Pod>(self.namespace()).delete(name, &params).await {
            Ok(_) => {
                let message = format!("Deleted pod: {name}");
                self.recorder.normal(&reference(self.owner), "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", text_of(&error));
                self.recorder.warning(&reference(self.owner), "FailedDelete", message);
                Err(error)
            }
        }
    }
}

/// Whether a create failed because its namespace is being deleted.
pub(crate) fn is_terminating(error: &Error) -> bool {
    client::status_of(error).is_some_and(|status| {
        let causes = status.details.as_ref().map(|details| details.causes.as_slice());
        causes.unwrap_or_default().iter().any(|cause| cause.reason == "NamespaceTerminating")
    })
}

/// The server's own words, where it answered.
pub(crate) fn text_of(error: &Error) -> String {
    match client::status_of(error) {
        Some(status) => status.message.clone(),
        None => error.to_string(),
    }
}
