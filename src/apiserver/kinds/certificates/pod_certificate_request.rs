//! PodCertificateRequests.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{public::KeyKind, request::SigningRequest};
use serde_json::Value;

use super::{
    names::{is_kubernetes_signer, signer_name, user_annotations},
    pod_certificate_status as status,
};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, labels, name},
    validation::{Errors, IMMUTABLE, Report as _, spec},
    value::{Fields as _, same},
};

pub(crate) struct PodCertificateRequest;

/// Bytes of a request for a certificate.
const MAX_REQUEST: usize = 10 * 1024;
/// Bytes of a uid.
const MAX_UID: usize = 128;
/// The shortest lifetime of a certificate in seconds, and the longest: of Kubernetes' own signers
/// and of others.
const MIN_LIFETIME: i64 = 3600;
const MAX_OWN_LIFETIME: i64 = 24 * 3600;
const MAX_LIFETIME: i64 = 91 * 24 * 3600;

impl Hooks for PodCertificateRequest {
    fn validate_create(&self, _context: &Context<'_>, request: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(&request["spec"], &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            status::validate(old, new, &mut errors);
            if errors.is_empty() && !same(&old["status"], &new["status"]) {
                status::may_sign(context, &old["spec"], &mut errors);
            }
        } else if !same(&old["spec"], &new["spec"]) {
            errors.invalid(&spec(), new["spec"].clone(), IMMUTABLE);
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("certificates.k8s.io/podcertificaterequests")
    }

    fn cells(&self, request: &Value) -> Vec<Value> {
        let spec = &request["spec"];
        let conditions = request["status"].list("conditions").iter().rev();
        let mut states = conditions.map(|condition| condition.text("type"));
        let state = states.find(|kind| status::VERDICTS.contains(kind));
        vec![
            name(request),
            spec.text("podName").into(),
            spec.text("serviceAccountName").into(),
            spec.text("nodeName").into(),
            spec.text("signerName").into(),
            state.unwrap_or("Pending").into(),
            labels(spec, "unverifiedUserAnnotations"),
        ]
    }
}

fn validate_spec(request: &Value, errors: &mut Errors) {
    let path = spec();
    let signer = request.text("signerName");
    signer_name(signer, &path.child("signerName"), errors);
    user_annotations(request, "unverifiedUserAnnotations", &path, errors);
    for (kind, uid) in [
        ("podName", "podUID"),
        ("serviceAccountName", "serviceAccountUID"),
        ("nodeName", "nodeUID"),
    ] {
        let value = request.text(kind);
        let messages = names::name_is_dns_subdomain(value, false);
        errors.messages(&path.child(kind), value, messages);
        let (value, place) = (request.text(uid), path.child(uid));
        if value.is_empty() {
            errors.invalid(&place, value, "must not be empty");
        }
        if value.len() > MAX_UID {
            errors.push(FieldError::too_long(&place, MAX_UID));
        }
    }
    let place = path.child("maxExpirationSeconds");
    let Some(seconds) = request.int("maxExpirationSeconds") else {
        return errors.required(&place, "must be set");
    };
    let most = if is_kubernetes_signer(signer) { MAX_OWN_LIFETIME } else { MAX_LIFETIME };
    if !(MIN_LIFETIME..=most).contains(&seconds) {
        let detail = format!("must be in the range [{MIN_LIFETIME}, {most}]");
        errors.invalid(&place, seconds, &detail);
    }
    if request.text("stubPKCS10Request").is_empty() {
        let detail =
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        errors.push(FieldError::invalid_without_value(&path, detail));
        return;
    }
    proof(request, &path.child("stubPKCS10Request"), errors);
}

/// The key that a certificate is asked for, as SubjectPublicKeyInfo in DER.
pub(super) fn key(spec: &Value) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(spec.text("stubPKCS10Request")).ok()?;
    Some(SigningRequest::read(&bytes).ok()?.0.public_key)
}

/// The request must be of a known kind of key and signed with it. What else it says is for the
/// signer to judge.
fn proof(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut refuse = |detail: &str| errors.push(FieldError::invalid_without_value(path, detail));
    let bytes = STANDARD.decode(spec.text("stubPKCS10Request")).unwrap_or_default();
    if bytes.len() > MAX_REQUEST {
        return errors.push(FieldError::too_long(path, MAX_REQUEST));
    }
    let read = SigningRequest::read(&bytes)
        .and_then(|(request, proof)| Ok((KeyKind::of(&request.public_key)?, request, proof)));
    let Ok((kind, request, proof)) = read else {
        return refuse("must be a valid PKCS#10 CSR");
    };
    match kind {
        KeyKind::Ed25519 | KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {}
        KeyKind::Rsa { bytes } if [3072, 4096].contains(&(bytes * 8)) => {}
        KeyKind::Rsa { bytes } => {
            let shown = format!("{}-bit modulus", bytes * 8);
            return errors.invalid(path, shown, "RSA keys must have modulus size 3072 or 4096");
        }
        KeyKind::OtherCurve => {
            return refuse("elliptic public keys must use curve P256, P384, or P521");
        }
        KeyKind::Other => {
            let detail = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
            return refuse(detail);
        }
    }
    if proof.check(&request.public_key).is_err() {
        refuse("invalid signature");
    }
}

#[cfg(test)]
mod tests {
    use pki::proven::{KeyType, Proven};
    use serde_json::json;

    use super::*;
    use crate::kinds::validation::texts;

    fn wrong(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let request = Proven::generate(KeyType::P521).unwrap().request;
        let mut spec = json!({
            "signerName": "example.com/a",
            "podName": "p", "podUID": "1",
            "serviceAccountName": "default", "serviceAccountUID": "2",
            "nodeName": "n", "nodeUID": "3",
            "maxExpirationSeconds": 86_400,
            "stubPKCS10Request": STANDARD.encode(request),
            "unverifiedUserAnnotations": {"spiffe/path": "/a"},
        });
        change(&mut spec);
        let mut errors = Errors::new();
        validate_spec(&spec, &mut errors);
        texts(&errors)
    }

    #[test]
    fn a_request_as_kubelets_make_it_is_right() {
        assert_eq!(wrong(|_| {}), [] as [&str; 0]);
    }

    #[test]
    fn requests_are_refused_in_upstreams_words() {
        assert_eq!(
            wrong(|spec| spec["podUID"] = json!("")),
            [r#"spec.podUID: Invalid value: "": must not be empty"#]
        );
        assert_eq!(
            wrong(|spec| spec["maxExpirationSeconds"] = json!(91 * 86_400 + 1)),
            [
                "spec.maxExpirationSeconds: Invalid value: 7862401: must be in the range [3600, 7862400]"
            ]
        );
        assert_eq!(
            wrong(|spec| {
                spec["signerName"] = json!("kubernetes.io/a");
                spec["maxExpirationSeconds"] = json!(86_401);
            }),
            ["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"]
        );
        assert_eq!(
            wrong(|spec| spec["stubPKCS10Request"] = json!("AQ==")),
            ["spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"]
        );
        let forged = |spec: &mut Value| {
            let mut request = Proven::generate(KeyType::Ed25519).unwrap().request;
            *request.last_mut().unwrap() ^= 1;
            spec["stubPKCS10Request"] = json!(STANDARD.encode(request));
        };
        assert_eq!(wrong(forged), ["spec.stubPKCS10Request: Invalid value: invalid signature"]);
    }
}
