//! How a definition says that its objects are converted.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{admissionregistration::webhooks, value::Fields as _};

type Errors = Vec<FieldError>;

/// Versions of ConversionReview that this server speaks.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn validate(conversion: &Value, path: &Path, errors: &mut Errors) {
    let webhook = &conversion["webhook"];
    let client = webhook.sub("clientConfig");
    let config_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let strategy = conversion.text("strategy");
    match strategy {
        "None" | "Webhook" => {}
        "" => errors.push(FieldError::required(&path.child("strategy"), "")),
        other => {
            let supported = ["None", "Webhook"];
            errors.push(FieldError::not_supported(&path.child("strategy"), other, &supported));
        }
    }
    if strategy == "Webhook" {
        match client {
            None => {
                let detail = "required when strategy is set to Webhook";
                errors.push(FieldError::required(&config_path, detail));
            }
            Some(client) => webhooks::client(client, &config_path, errors),
        }
        return review_versions(webhook, &versions_path, errors);
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if client.is_some() {
        errors.push(FieldError::forbidden(&config_path, detail));
    }
    if !webhook.list("conversionReviewVersions").is_empty() {
        errors.push(FieldError::forbidden(&versions_path, detail));
    }
}

fn review_versions(webhook: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = webhook.texts("conversionReviewVersions").collect();
    if all.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    for (at, version) in all.iter().enumerate() {
        let path = path.index(at);
        if all[..at].contains(version) {
            errors.push(FieldError::invalid(&path, *version, "duplicate version"));
            continue;
        }
        let wrong = names::dns1035_label(version);
        errors.extend(wrong.iter().map(|why| FieldError::invalid(&path, *version, why)));
    }
    if !all.iter().any(|version| KNOWN.contains(version)) {
        let detail = format!("must include at least one of {}", KNOWN.join(", "));
        errors.push(FieldError::invalid(
            path,
            webhook["conversionReviewVersions"].clone(),
            &detail,
        ));
    }
}
