//! Names of signers and of the trust bundles that belong to them.

use apimachinery::{
    field::{FieldError, Path},
    names,
};

use serde_json::Value;

use crate::kinds::{
    validation::{Errors, Report as _},
    value::Fields as _,
};

/// Bytes of keys and values of annotations.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Whether the signer's domain is Kubernetes' own.
pub(crate) fn is_kubernetes_signer(signer: &str) -> bool {
    let host = signer.split_once('/').map_or(signer, |(host, _)| host);
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// A signer: `example.com/name`.
pub(crate) fn signer_name(name: &str, path: &Path, errors: &mut Errors) {
    const DOMAIN: usize = 253;
    const WHOLE: usize = DOMAIN + 1 + DOMAIN + 1 + 63;
    if name.is_empty() {
        return errors.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, name, detail);
    };
    if domain.len() > DOMAIN {
        errors.push(FieldError::too_long(path, DOMAIN));
    }
    part(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, detail);
    }
    part(rest, names::dns1123_subdomain, path, errors);
    if name.len() > WHOLE {
        errors.push(FieldError::too_long(path, WHOLE));
    }
}

/// What users say to a signer: keys with a domain, in any case.
pub(crate) fn user_annotations(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let path = path.child(field);
    let mut size = 0;
    for (key, value) in object.strings(field) {
        size += key.len() + value.len();
        let key = key.to_lowercase();
        let messages = names::qualified_name(&key);
        if key.is_empty() {
            errors.required(&path, "");
        } else if messages.is_empty() && !key.contains('/') {
            let detail = r#"must be a domain-prefixed key (such as "acme.io/foo")"#;
            errors.invalid(&path, key, detail);
        } else {
            errors.messages(&path, &key, messages);
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(&path, MAX_ANNOTATIONS));
    }
}

/// The labels between the dots; what is wrong with the first bad one.
fn part(text: &str, check: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    for label in text.split('.') {
        let messages = check(label);
        for message in &messages {
            errors.invalid(path, text, &format!("validating label {label:?}: {message}"));
        }
        if !messages.is_empty() {
            return;
        }
    }
}

/// What is wrong with the name of a trust bundle, which begins with its signer's, if it has one.
pub(crate) fn trust_bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((signer, rest)) => bundle_of(&signer.replace(':', "/"), name, rest),
        None => names::dns1123_subdomain(name),
    }
}

fn bundle_of(signer: &str, name: &str, rest: &str) -> Vec<String> {
    let prefix = format!("{}:", signer.replace('/', ":"));
    if name.starts_with(&prefix) {
        return names::dns1123_subdomain(rest);
    }
    vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
}
