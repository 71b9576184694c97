//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest: whoever approves, signs or
//! attests for a signer must be allowed to. CertificateSubjectRestriction: nobody signs themselves
//! into `system:masters`.

use apimachinery::Status;
use async_trait::async_trait;
use base64::Engine as _;
use pki::request::SigningRequest;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin};
use crate::{
    authorization::only_garbage_collection,
    kinds::value::{Fields as _, same},
};

const GROUP: &str = "certificates.k8s.io";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateApproval;
pub(super) struct CertificateSigning;
pub(super) struct ClusterTrustBundleAttest;
pub(super) struct CertificateSubjectRestriction;

/// Whether the user may `verb` for the signer, or for all signers of its domain.
fn may(call: &Call<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let wildcard = format!("{domain}/*");
    [signer, &wildcard].iter().any(|name| call.may(verb, GROUP, "signers", "", name))
}

fn is_request(request: &AdmissionRequest<'_>, subresource: &str) -> bool {
    request.is(GROUP, "certificatesigningrequests") && request.info.subresource == subresource
}

/// The PKCS#10 request in a CertificateSigningRequest.
pub(super) fn parse(object: &Value) -> Result<SigningRequest, String> {
    let body = base64::engine::general_purpose::STANDARD.decode(object["spec"].text("request"));
    let body = body.map_err(|error| error.to_string())?;
    SigningRequest::from_pem(&String::from_utf8_lossy(&body)).map_err(|error| error.to_string())
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.updates() && is_request(request, "approval")
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let signer = call.request.old()["spec"].text("signerName");
        if may(call, "approve", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(call.request.forbidden(object, &why))
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.updates() && is_request(request, "status")
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let (old, new) = (&call.request.old()["status"], &object["status"]);
        let unchanged =
            ["certificate", "conditions"].iter().all(|field| same(&old[*field], &new[*field]));
        let signer = call.request.old()["spec"].text("signerName");
        if unchanged || may(call, "sign", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to sign requests with signerName {signer:?}");
        Err(call.request.forbidden(object, &why))
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        (request.creates() || request.updates()) && request.is(GROUP, "clustertrustbundles")
    }

    async fn validate(&self, call: &Call<'_>, bundle: &Value) -> Result<(), Status> {
        let signer = bundle["spec"].text("signerName");
        let collected = call.request.old.is_some_and(|old| only_garbage_collection(old, bundle));
        if signer.is_empty() || collected || may(call, "attest", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to attest for signerName {signer:?}");
        Err(call.request.forbidden(bundle, &why))
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && is_request(request, "")
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        if object["spec"].text("signerName") != API_CLIENT {
            return Ok(());
        }
        let refuse = |why: String| call.request.forbidden(object, &why);
        let parsed = parse(object).map_err(|e| refuse(format!("failed to parse CSR: {e}")))?;
        if parsed.subject.organizations.iter().any(|group| group == "system:masters") {
            let why =
                format!("use of {API_CLIENT} signer with system:masters group is not allowed");
            return Err(refuse(why));
        }
        Ok(())
    }
}
