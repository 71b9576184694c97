//! CertificateSigningRequests: kubelets' requests are approved, approved ones for the cluster's own
//! signers are signed, and old ones are removed.

mod approve;
mod clean;
mod sign;
mod signers;

use client::controller::ReconcileError;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use pki::request::SigningRequest;

pub(crate) use self::{
    approve::run as run_approver, clean::run as run_cleaner, sign::run as run_signer,
};

/// The condition of `kind`, if it is there.
fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

/// The PKCS#10 request inside.
fn parse(request: &CertificateSigningRequest) -> Result<SigningRequest, ReconcileError> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let failed =
        |why: String| ReconcileError::Other(format!("unable to parse csr \"{name}\": {why}"));
    let text = std::str::from_utf8(&request.spec.request.0).map_err(|e| failed(e.to_string()))?;
    SigningRequest::from_pem(text).map_err(|error| failed(error.to_string()))
}
