//! Ephemeral volumes: makes the claims of pods whose volumes bring a template along. They belong to
//! the pod and go with it.

use std::sync::Arc;

use apimachinery::{Key, Object};
use client::{
    Informer, Informers, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    is_already_exists,
};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    Context,
    ownership::controller_reference,
    pod_claims::ephemeral_claim,
    pod_control::{is_terminating, text_of},
};

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let pods = context.informers.of::<Pod>();
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        if !pod.deleting && change.previous().is_none() && may_have_any(pod) {
            adding.add(pod.key.clone());
        }
    });
    let adding = queue.clone();
    claims.on_change(move |change| {
        // One that was in the way, or was deleted too early.
        if let (client::Change::Delete(claim), Some(owner)) = (change, change.object().controller())
            && &*owner.kind == "Pod"
        {
            adding.add(Key::new(claim.key.namespace.clone(), owner.name.clone()));
        }
    });
    Informers::synced(&[&pods, &claims]).await;
    let this = context.clone();
    let work = move |key: Key| {
        let (context, pods, claims) = (this.clone(), pods.clone(), claims.clone());
        async move {
            if let Some(pod) = pods.get_as::<Pod>(&key.namespace, &key.name)
                && pod.metadata.deletion_timestamp.is_none()
            {
                create(&context, &pod, &claims).await?;
            }
            Ok(Action::Done)
        }
    };
    context.work(queue, 2, work).await;
}

/// Whether a pod may have such volumes: a look that costs no parse.
fn may_have_any(pod: &Object) -> bool {
    std::str::from_utf8(&pod.body).is_ok_and(|text| text.contains("volumeClaimTemplate"))
}

async fn create(context: &Context, pod: &Pod, claims: &Informer) -> Result<(), ReconcileError> {
    let meta = &pod.metadata;
    let (name, namespace) = (meta.name.as_deref(), meta.namespace.as_deref());
    let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let template = volume.ephemeral.as_ref().and_then(|it| it.volume_claim_template.as_ref());
        let Some(template) = template else { continue };
        let failed = |why: String| {
            let text = format!("ephemeral volume {}: {why}", volume.name);
            context.recorder.warning(&reference(pod), "FailedBinding", text.as_str());
            ReconcileError::Other(text)
        };
        let claim = ephemeral_claim(name, &volume.name);
        if let Some(there) = claims.get(&Key::new(namespace, claim.as_str())) {
            let owner = there.controller().map(|owner| &*owner.uid);
            if owner != meta.uid.as_deref() {
                return Err(failed(format!(
                    "PVC {namespace}/{claim} was not created for pod {namespace}/{name} (pod is \
                     not owner)"
                )));
            }
            continue;
        }
        let api = context.client.namespaced::<PersistentVolumeClaim>(namespace);
        match api.create(&PostParams::default(), &made(pod, claim.clone(), template)).await {
            Ok(_) => {}
            // The cache lags behind and will tell whose it is.
            Err(error) if is_already_exists(&error) || is_terminating(&error) => {}
            Err(error) => return Err(failed(format!("create PVC {claim}: {}", text_of(&error)))),
        }
    }
    Ok(())
}

fn made(
    pod: &Pod,
    name: String,
    template: &PersistentVolumeClaimTemplate,
) -> PersistentVolumeClaim {
    let meta = template.metadata.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }
}
