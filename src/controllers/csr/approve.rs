//! Approves the client certificates of kubelets: their own, and those that a bootstrapper may ask
//! for, as authorization says.

use std::sync::Arc;

use apimachinery::Key;
use client::{
    Client, Patch, PatchParams, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::CertificateSigningRequest,
};
use serde_json::json;

use super::{condition, is_issued, parse, signers};
use crate::Context;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let requests = context.informers.of::<CertificateSigningRequest>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    requests.on_change(move |change| adding.add(change.object().key.clone()));
    requests.synced().await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (requests, client) = (requests.clone(), client.clone());
        async move {
            if let Some(request) = requests.get_as::<CertificateSigningRequest>("", &key.name) {
                handle(&client, &request).await?;
            }
            Ok(Action::Done)
        }
    };
    context.work(queue, 1, work).await;
}

async fn handle(
    client: &Client,
    request: &CertificateSigningRequest,
) -> Result<(), ReconcileError> {
    let judged = ["Approved", "Denied"].iter().any(|kind| condition(request, kind).is_some());
    if judged || is_issued(request) || request.spec.signer_name != signers::KUBELET_CLIENT {
        return Ok(());
    }
    let parsed = parse(request)?;
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    if signers::verdict(signers::KUBELET_CLIENT, &parsed, usages) != Some(Ok(())) {
        return Ok(());
    }
    let own = request.spec.username.as_deref() == Some(&parsed.subject.common_name);
    if own && is_allowed(client, request, "selfnodeclient").await? {
        let text = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        return approve(client, request, text).await;
    }
    if is_allowed(client, request, "nodeclient").await? {
        let text = "Auto approving kubelet client certificate after SubjectAccessReview.";
        return approve(client, request, text).await;
    }
    Ok(())
}

/// Whether whoever asked may create such certificates.
async fn is_allowed(
    client: &Client,
    request: &CertificateSigningRequest,
    subresource: &str,
) -> Result<bool, ReconcileError> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                subresource: Some(subresource.to_owned()),
                verb: Some("create".to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = client.cluster::<SubjectAccessReview>();
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn approve(
    client: &Client,
    request: &CertificateSigningRequest,
    message: &str,
) -> Result<(), ReconcileError> {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.clone());
    let mut conditions = serde_json::to_value(conditions.unwrap_or_default())?;
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.push(json!({"type": "Approved", "status": "True", "reason": "AutoApproved",
            "message": message}));
    }
    let meta = &request.metadata;
    let patch = Patch::Merge(json!({"metadata": {"uid": meta.uid,
        "resourceVersion": meta.resource_version}, "status": {"conditions": conditions}}));
    let api = client.cluster::<CertificateSigningRequest>();
    let name = meta.name.as_deref().unwrap_or_default();
    match api.patch_subresource("approval", name, &PatchParams::default(), &patch).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
