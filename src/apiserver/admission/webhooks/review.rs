//! An AdmissionReview: what a webhook is asked, and what it answers.

use apimachinery::Status;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::kind_value;
use crate::{
    admission::{AdmissionRequest, matching::Matched},
    expressions::input::user,
    kinds::value::Fields as _,
};

/// A question to one webhook.
pub(super) struct Review {
    uid: String,
    api_version: String,
    body: Value,
}

/// What a webhook has answered.
pub(super) struct Answer {
    allowed: bool,
    status: Value,
    /// The JSON patch that it wants applied.
    pub(super) patch: Option<Value>,
    /// What the client is told.
    pub(super) warnings: Vec<String>,
}

impl Review {
    /// The question about a request with the object `new` that replaces `old`, either of which may
    /// be null.
    pub(super) fn new(
        request: &AdmissionRequest<'_>,
        matched: &Matched,
        hook: &Value,
        new: &Value,
        old: &Value,
    ) -> Self {
        let known = |version: &&str| matches!(*version, "v1" | "v1beta1");
        let mut reviews = hook.texts("admissionReviewVersions");
        let api_version = format!("admission.k8s.io/{}", reviews.find(known).unwrap_or("v1"));
        let uid = uuid::Uuid::new_v4().to_string();
        let info = request.info;
        let resource = |version: &str| json!({"group": info.group, "version": version, "resource": info.resource});
        let kind = kind_value(matched.kind(request));
        let name = [info.name.as_str(), new["metadata"].text("name")];
        let mut question = json!({
            "uid": uid,
            "kind": kind,
            "resource": resource(&matched.version),
            "requestKind": kind_value(request.kind),
            "requestResource": resource(&info.version),
            "operation": request.operation.as_str(),
            "userInfo": user(request.user),
            "object": new,
            "oldObject": old,
            "dryRun": request.dry_run,
            "options": request.options,
        });
        for (field, text) in [
            ("name", name.into_iter().find(|name| !name.is_empty()).unwrap_or_default()),
            ("namespace", &info.namespace),
            ("subResource", &info.subresource),
            ("requestSubResource", &info.subresource),
        ] {
            if !text.is_empty() {
                question[field] = text.into();
            }
        }
        let body =
            json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": question});
        Self { uid, api_version, body }
    }

    /// What is sent.
    pub(super) fn body(&self) -> &Value {
        &self.body
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(&self, answer: &Value) -> Result<Answer, String> {
        let response = answer.sub("response").ok_or("webhook response was absent")?;
        let v1 = self.api_version.ends_with("/v1");
        if v1 {
            let (kind, version) = (answer.text("kind"), answer.text("apiVersion"));
            if kind != "AdmissionReview" || version != self.api_version {
                let wanted = &self.api_version;
                return Err(format!(
                    "expected webhook response of {wanted}, Kind=AdmissionReview, got {version}, \
                     Kind={kind}"
                ));
            }
            let uid = response.text("uid");
            if uid != self.uid {
                return Err(format!("expected response.uid={:?}, got {uid:?}", self.uid));
            }
        }
        let patch = response.opt_text("patch").filter(|patch| !patch.is_empty());
        match response.text("patchType") {
            "JSONPatch" => {}
            "" if patch.is_none() || !v1 => {}
            "" => return Err("webhook returned response.patch but not response.patchType".into()),
            other => return Err(format!("webhook returned invalid response.patchType {other:?}")),
        }
        let patch = patch.map(|patch| {
            let bytes = STANDARD.decode(patch).map_err(|error| error.to_string())?;
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        });
        let warnings = response.texts("warnings");
        Ok(Answer {
            allowed: response["allowed"] == true,
            status: response["status"].clone(),
            patch: patch.transpose()?,
            warnings: warnings.map(ToOwned::to_owned).collect(),
        })
    }
}

impl Answer {
    /// What the client gets where the webhook `name` denies the request.
    pub(super) fn refusal(&self, name: &str) -> Option<Status> {
        if self.allowed {
            return None;
        }
        let denied = format!("admission webhook {name:?} denied the request");
        let message = match (self.status.text("message"), self.status.text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = self.status.int("code").and_then(|code| u16::try_from(code).ok());
        Some(Status::failure(code.unwrap_or(0).max(400), self.status.text("reason"), message))
    }
}
