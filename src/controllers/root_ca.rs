//! Root CA publisher: every namespace has the ConfigMap `kube-root-ca.crt`, by which pods know the
//! API server.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::Key;
use client::{
    Informers, PostParams, Scope, WorkQueue,
    controller::{Action, ReconcileError},
    is_already_exists,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{Context, pod_control::is_terminating};

const NAME: &str = "kube-root-ca.crt";

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let maps =
        context.informers.scoped::<ConfigMap>(Scope::fields(format!("metadata.name={NAME}")));
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    namespaces.on_change(move |change| adding.add(change.object().key.clone()));
    let adding = queue.clone();
    maps.on_change(move |change| {
        adding.add(Key::new("", change.object().key.namespace.clone()));
    });
    Informers::synced(&[&namespaces, &maps]).await;
    let this = context.clone();
    let reconcile = move |key: Key| {
        let (context, namespaces, maps) = (this.clone(), namespaces.clone(), maps.clone());
        async move {
            if namespaces.get(&key).is_none_or(|namespace| namespace.deleting) {
                return Ok(Action::Done);
            }
            publish(&context, &key.name, maps.get_as(&key.name, NAME)).await
        }
    };
    context.work(queue, 1, reconcile).await;
}

async fn publish(
    context: &Context,
    namespace: &str,
    there: Option<ConfigMap>,
) -> Result<Action, ReconcileError> {
    let api = context.client.namespaced::<ConfigMap>(namespace);
    let data = BTreeMap::from([("ca.crt".to_owned(), context.config.root_ca.clone())]);
    let written = match there {
        Some(map) if map.data.as_ref() == Some(&data) => return Ok(Action::Done),
        Some(map) => {
            let map = ConfigMap { data: Some(data), ..map };
            api.replace(NAME, &PostParams::default(), &map).await
        }
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    annotations: Some(BTreeMap::from([(
                        "kubernetes.io/description".to_owned(),
                        "Contains a CA bundle that can be used to verify the kube-apiserver when \
                         using internal endpoints such as the internal service IP or \
                         kubernetes.default.svc. No other usage is guaranteed across \
                         distributions of Kubernetes clusters."
                            .to_owned(),
                    )])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            api.create(&PostParams::default(), &map).await
        }
    };
    match written {
        Ok(_) => Ok(Action::Done),
        Err(error) if is_already_exists(&error) || is_terminating(&error) => Ok(Action::Done),
        Err(error) => Err(error.into()),
    }
}
