//! ClusterTrustBundles.

use apimachinery::field::{FieldError, Path};
use pki::{
    Certificate,
    pem::{self, Block},
};
use serde_json::Value;

use super::names::{signer_name, trust_bundle_name};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, name},
    validation::{Errors, Report as _, immutable, spec},
    value::Fields as _,
};

pub(crate) struct ClusterTrustBundle;

impl Hooks for ClusterTrustBundle {
    fn validate_create(&self, _context: &Context<'_>, bundle: &Value) -> Vec<FieldError> {
        let mut errors = names(bundle);
        trust_bundle(bundle["spec"].text("trustBundle"), &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = names(new);
        let text = new["spec"].text("trustBundle");
        if old["spec"].text("trustBundle") != text {
            trust_bundle(text, &mut errors);
        }
        immutable(&old["spec"], &new["spec"], "signerName", &spec(), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        trust_bundle_name(name)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("certificates.k8s.io/clustertrustbundles")
    }

    fn cells(&self, bundle: &Value) -> Vec<Value> {
        vec![name(bundle), columns::or(bundle["spec"].text("signerName"), "<none>")]
    }
}

/// The name of a bundle goes with its signer's.
fn names(bundle: &Value) -> Errors {
    let mut errors = Errors::new();
    let (signer, name) = (bundle["spec"].text("signerName"), bundle["metadata"].text("name"));
    let path = Path::root("metadata").child("name");
    let prefix = format!("{}:", signer.replace('/', ":"));
    if name.is_empty() {
        // That is told already.
    } else if signer.is_empty() {
        if name.contains(':') {
            let detail = "ClusterTrustBundle without signer name must not have \":\" in its name";
            errors.invalid(&path, name, detail);
        }
    } else if !name.starts_with(&prefix) {
        let detail = format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        );
        errors.invalid(&path, name, &detail);
    }
    if !signer.is_empty() {
        signer_name(signer, &spec().child("signerName"), &mut errors);
    }
    errors
}

/// Certificates of authorities, each once.
fn trust_bundle(text: &str, errors: &mut Errors) {
    const LARGEST: usize = 1 << 20;
    let path = spec().child("trustBundle");
    if text.len() > LARGEST {
        return errors.push(FieldError::too_long(&path, LARGEST));
    }
    let blocks = pem::decode(text).unwrap_or_default();
    let mut wrong = |detail: String| errors.invalid(&path, "<value omitted>", &detail);
    let mut good = true;
    for (at, block) in blocks.iter().enumerate() {
        let detail = match Certificate::parse(&block.der) {
            _ if block.label != "CERTIFICATE" => {
                format!("entry {at} has bad block type: {}", block.label)
            }
            Err(_) => format!("entry {at} does not parse as X.509"),
            Ok(certificate) if !certificate.is_ca => {
                format!("entry {at} does not have the CA bit set")
            }
            Ok(_) => continue,
        };
        wrong(detail);
        good = false;
    }
    if !good {
        return;
    }
    if blocks.is_empty() {
        wrong("at least one trust anchor must be provided".to_owned());
    }
    for (at, block) in blocks.iter().enumerate() {
        let alike = |of: &[Block]| of.iter().any(|other| other.der == block.der);
        if !alike(&blocks[..at]) && alike(&blocks[at + 1..]) {
            let places: Vec<String> = (at..blocks.len())
                .filter(|place| blocks[*place].der == block.der)
                .map(|place| place.to_string())
                .collect();
            wrong(format!("duplicate trust anchor (indices [{}])", places.join(" ")));
        }
    }
}
