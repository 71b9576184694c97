//! PodCertificateRequests.

use apimachinery::field::FieldError;
use serde_json::Value;

use super::names::signer_name;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, labels, name},
    validation::{Errors, IMMUTABLE, Report as _, spec},
    value::{Fields as _, same},
};

pub(crate) struct PodCertificateRequest;

impl Hooks for PodCertificateRequest {
    fn validate_create(&self, _context: &Context<'_>, request: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = spec().child("signerName");
        signer_name(request["spec"].text("signerName"), &path, &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if !same(&old["spec"], &new["spec"]) {
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
        let state = states.find(|kind| matches!(*kind, "Issued" | "Denied" | "Failed"));
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
