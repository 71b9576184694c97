//! ClusterTrustBundles.

use apimachinery::field::{FieldError, Path};
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
        let mut errors = Errors::new();
        let (signer, bundle_name) =
            (bundle["spec"].text("signerName"), bundle["metadata"].text("name"));
        let path = Path::root("metadata").child("name");
        if signer.is_empty() {
            if bundle_name.contains(':') {
                let detail =
                    "ClusterTrustBundle without signer name must not have \":\" in its name";
                errors.invalid(&path, bundle_name, detail);
            }
        } else {
            signer_name(signer, &spec().child("signerName"), &mut errors);
            let prefix = format!("{}:", signer.replace('/', ":"));
            if !bundle_name.starts_with(&prefix) {
                let detail = format!(
                    "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
                );
                errors.invalid(&path, bundle_name, &detail);
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(context, new);
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
