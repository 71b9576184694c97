//! How many pods the controllers of pods are to have: ReplicaSets (or the Deployments above them),
//! ReplicationControllers, StatefulSets, and whatever has a `scale` subresource.

use std::collections::HashMap;

use apimachinery::{Key, Object};
use client::{Informer, controller::ReconcileError, is_not_found};
use k8s_openapi::{api::autoscaling::v1::Scale, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde::Deserialize;

use super::Controller;
use crate::resources;

/// The pods that the controllers of `pods` are to have, and how many of `pods` have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) unmanaged: usize,
}

#[derive(Deserialize)]
struct Sized {
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Spec {
    replicas: Option<i32>,
}

impl Controller {
    pub(super) async fn expected(&self, pods: &[&Object]) -> Result<Expected, ReconcileError> {
        let mut scales: HashMap<String, i32> = HashMap::new();
        let mut seen: Vec<String> = Vec::new();
        let mut unmanaged = 0;
        for pod in pods {
            let Some(owner) = pod.controller() else {
                unmanaged += 1;
                continue;
            };
            if seen.iter().any(|uid| **uid == *owner.uid) {
                continue;
            }
            seen.push(owner.uid.to_string());
            let (uid, count) = self.scale(pod).await?.ok_or_else(|| {
                let name = &pod.key.name;
                ReconcileError::Other(format!("found no controllers for pod \"{name}\""))
            })?;
            scales.insert(uid, count);
        }
        Ok(Expected { pods: scales.values().sum(), unmanaged })
    }

    /// UID and size of what a pod belongs to.
    async fn scale(&self, pod: &Object) -> Result<Option<(String, i32)>, ReconcileError> {
        let Some(owner) = controller_of(pod) else { return Ok(None) };
        let namespace = &*pod.key.namespace;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = find(&self.sets, namespace, &owner) else { return Ok(None) };
                match controller_of(&set).filter(|above| above.kind == "Deployment") {
                    Some(above) => Ok(size(&self.deployments, namespace, &above)),
                    None => Ok(size(&self.sets, namespace, &owner)),
                }
            }
            ("apps", "StatefulSet") => Ok(size(&self.stateful_sets, namespace, &owner)),
            ("", "ReplicationController") => Ok(size(&self.replication, namespace, &owner)),
            _ => self.asked(namespace, &owner).await,
        }
    }

    /// Asks the `scale` subresource of a kind that is not known here.
    async fn asked(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, ReconcileError> {
        let client = &self.context.client;
        let kinds = resources::all(client).await.map_err(|e| ReconcileError::Other(e.message))?;
        let Some(kind) = resources::find(&kinds, &owner.api_version, &owner.kind) else {
            let text = format!("no matches for kind \"{}\"", owner.kind);
            return Err(ReconcileError::Other(text));
        };
        let resource = kind.resource.group_resource();
        let path = format!(
            "/apis/{}/namespaces/{namespace}/{}/{}/scale",
            owner.api_version, resource.resource, owner.name
        );
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| ReconcileError::Other(error.to_string()))?;
        match client.kube().request::<Scale>(request).await {
            Ok(scale) if scale.metadata.uid.as_ref() == Some(&owner.uid) => {
                let count = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
                Ok(Some((owner.uid.clone(), count)))
            }
            Ok(_) => Ok(None),
            Err(error) if is_not_found(&error) => {
                let text = format!("{resource} does not implement the scale subresource");
                Err(ReconcileError::Other(text))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn controller_of(object: &Object) -> Option<OwnerReference> {
    #[derive(Deserialize)]
    struct Owned {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        owner_references: Vec<OwnerReference>,
    }
    let owners = object.parse::<Owned>().ok()?.metadata.owner_references;
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

fn find(
    informer: &Informer,
    namespace: &str,
    owner: &OwnerReference,
) -> Option<std::sync::Arc<Object>> {
    let object = informer.get(&Key::new(namespace, owner.name.as_str()))?;
    (*object.uid == *owner.uid).then_some(object)
}

fn size(informer: &Informer, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let object = find(informer, namespace, owner)?;
    let sized: Sized = object.parse().ok()?;
    Some((owner.uid.clone(), sized.spec.replicas.unwrap_or(1)))
}
