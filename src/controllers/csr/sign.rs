//! Signs approved requests for the cluster's own signers.

use std::sync::Arc;

use apimachinery::Key;
use client::{
    Client, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
use pki::{Authority, Profile, authority::Usages, pem, request::SigningRequest};
use serde_json::{Value, json};

use super::{condition, is_issued, parse, signers};
use crate::Context;

/// Seconds that a certificate lasts at the most, and if nobody asks for less.
const LONGEST: i64 = 365 * 86_400;
const SHORTEST: i64 = 600;

/// Runs the controller, where the cluster's authority is at hand.
pub(crate) async fn run(context: Context) {
    let Some(authority) = context.config.signer.clone() else { return };
    let requests = context.informers.of::<CertificateSigningRequest>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    requests.on_change(move |change| adding.add(change.object().key.clone()));
    requests.synced().await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (requests, client, authority) = (requests.clone(), client.clone(), authority.clone());
        async move {
            if let Some(request) = requests.get_as::<CertificateSigningRequest>("", &key.name) {
                handle(&client, &authority, &request).await?;
            }
            Ok(Action::Done)
        }
    };
    context.work(queue, 1, work).await;
}

async fn handle(
    client: &Client,
    authority: &Authority,
    request: &CertificateSigningRequest,
) -> Result<(), ReconcileError> {
    let is_true = |kind| condition(request, kind).is_some_and(|known| known.status == "True");
    if !is_true("Approved") || is_true("Denied") || is_true("Failed") || is_issued(request) {
        return Ok(());
    }
    let spec = &request.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    let parsed = parse(request)?;
    let status = match signers::verdict(&spec.signer_name, &parsed, usages) {
        None => return Ok(()),
        Some(Ok(())) => {
            let lifetime = spec.expiration_seconds.map_or(LONGEST, i64::from);
            let der = authority
                .issue_for(&profile(&parsed, usages, lifetime), &parsed.public_key)
                .map_err(|error| {
                    ReconcileError::Other(format!("error auto signing csr: {error}"))
                })?;
            let text = pem::encode("CERTIFICATE", &der);
            json!({"certificate": ByteString(text.into_bytes())})
        }
        Some(Err(why)) => failed(request, &why)?,
    };
    let meta = &request.metadata;
    let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        "status": status});
    let api = client.cluster::<CertificateSigningRequest>();
    let name = meta.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn profile(request: &SigningRequest, usages: &[String], lifetime: i64) -> Profile {
    let has = |usage: &str| usages.iter().any(|there| there == usage);
    Profile {
        subject: request.subject.clone(),
        names: request.names.clone(),
        usages: Usages {
            server: has("server auth"),
            client: has("client auth"),
            key_encipherment: has("key encipherment"),
        },
        lifetime: lifetime.clamp(SHORTEST, LONGEST),
    }
}

fn failed(request: &CertificateSigningRequest, why: &str) -> serde_json::Result<Value> {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.clone());
    let mut conditions = serde_json::to_value(conditions.unwrap_or_default())?;
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.push(json!({"type": "Failed", "status": "True",
            "reason": "SignerValidationFailure", "message": why,
            "lastUpdateTime": apimachinery::time::now()}));
    }
    Ok(json!({"conditions": conditions}))
}
