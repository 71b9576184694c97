//! CertificateSigningRequests.

use apimachinery::{
    field::{FieldError, Path},
    names, time,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Certificate, pem, request::SigningRequest};
use serde_json::{Map, Value, json};

use super::names::signer_name;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, human, name},
    diff::diff,
    validation::{Errors, Report as _, spec},
    value::{Fields as _, list_mut, object_at, same, set_default},
};

pub(crate) struct CertificateSigningRequest;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Verdicts, which are only ever true.
const VERDICTS: [&str; 3] = ["Approved", "Denied", "Failed"];

impl Hooks for CertificateSigningRequest {
    fn prepare_create(&self, context: &Context<'_>, request: &mut Value) {
        // Whoever asks is who they are, not who they say they are.
        let user = context.user;
        if let Some(spec) = object_at(request, "spec") {
            for field in ["username", "uid", "groups", "extra"] {
                spec.remove(field);
            }
            spec.insert("username".to_owned(), user.name.clone().into());
            if !user.uid.is_empty() {
                spec.insert("uid".to_owned(), user.uid.clone().into());
            }
            if !user.groups.is_empty() {
                spec.insert("groups".to_owned(), user.groups.clone().into());
            }
            if !user.extra.is_empty() {
                let extra: Map<String, Value> = user
                    .extra
                    .iter()
                    .map(|(key, list)| (key.clone(), list.clone().into()))
                    .collect();
                spec.insert("extra".to_owned(), extra.into());
            }
        }
        request["status"] = json!({});
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        match context.subresource {
            "" => new["spec"] = old["spec"].clone(),
            "status" => {
                // Whoever signs does not judge.
                for kind in ["Approved", "Denied"] {
                    keep_verdicts(kind, old, new);
                }
                stamp(old, new);
            }
            _ => stamp(old, new),
        }
    }

    fn validate_create(&self, _context: &Context<'_>, request: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(request, None, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(new, Some(old), &mut errors);
        verdicts(context.subresource == "approval", old, new, &mut errors);
        let (was, is) = (old["status"].text("certificate"), new["status"].text("certificate"));
        let path = Path::root("status").child("certificate");
        if was != is && context.subresource != "status" {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if was != is && !was.is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_path_segment(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("certificates.k8s.io/certificatesigningrequests")
    }

    fn cells(&self, request: &Value) -> Vec<Value> {
        let spec = &request["spec"];
        let duration = spec.int("expirationSeconds").map(human);
        vec![
            name(request),
            age(request),
            columns::or(spec.text("signerName"), "<none>"),
            spec.text("username").into(),
            duration.unwrap_or_else(|| "<none>".to_owned()).into(),
            state(request).into(),
        ]
    }
}

fn state(request: &Value) -> String {
    let conditions = request["status"].list("conditions");
    let has = |kind: &str| conditions.iter().any(|condition| condition.text("type") == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !request["status"].text("certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

fn of_kind<'a>(request: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let conditions = request["status"].list("conditions").iter();
    conditions.filter(move |condition| condition.text("type") == kind)
}

fn keep_verdicts(kind: &str, old: &Value, new: &mut Value) {
    let was: Vec<&Value> = of_kind(old, kind).collect();
    if was.len() != of_kind(new, kind).count() {
        return;
    }
    let Some(status) = new.get_mut("status") else { return };
    let mut was = was.into_iter();
    for condition in list_mut(status, "conditions") {
        if condition.text("type") == kind
            && let Some(was) = was.next()
        {
            condition.clone_from(was);
        }
    }
}

/// Sets the times of conditions that have none.
fn stamp(old: &Value, new: &mut Value) {
    let now = time::now();
    let Some(status) = new.get_mut("status") else { return };
    for condition in list_mut(status, "conditions") {
        set_default(condition, "lastUpdateTime", now.clone());
        let kind = condition.text("type").to_owned();
        let mut before = of_kind(old, &kind);
        let same = before.find(|was| was.text("status") == condition.text("status"));
        let since = same.and_then(|was| was.opt_text("lastTransitionTime")).unwrap_or(&now);
        let since = since.to_owned();
        set_default(condition, "lastTransitionTime", since);
    }
}

fn validate(request: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (inner, path) = (&request["spec"], spec());
    let text = STANDARD.decode(inner.text("request")).unwrap_or_default();
    let (text, field) = (String::from_utf8_lossy(&text), path.child("request"));
    let blocks = pem::decode(&text).unwrap_or_default();
    if blocks.first().is_none_or(|block| block.label != "CERTIFICATE REQUEST") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        errors.invalid(&field, inner["request"].clone(), detail);
    } else if let Err(error) = SigningRequest::from_pem(&text) {
        errors.invalid(&field, inner["request"].clone(), &error.to_string());
    }
    let usages: Vec<&str> = inner.texts("usages").collect();
    let place = path.child("usages");
    if usages.is_empty() {
        errors.required(&place, "");
    }
    for (at, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.unsupported(&place.index(at), *usage, &USAGES);
    }
    for (at, usage) in usages.iter().enumerate() {
        if usages[..at].contains(usage) {
            errors.duplicate(&place.index(at), *usage);
        }
    }
    let place = path.child("signerName");
    match inner.text("signerName") {
        signer @ "kubernetes.io/legacy-unknown" if old.is_none() => {
            let detail = "the legacy signerName is not allowed via this API version";
            errors.invalid(&place, signer, detail);
        }
        signer => signer_name(signer, &place, errors),
    }
    if let Some(seconds) = inner.int("expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    conditions(request, errors);
    let certificate = request["status"].text("certificate");
    let changed = old.is_none_or(|old| old["status"].text("certificate") != certificate);
    if changed && let Err(why) = check_certificates(certificate) {
        let path = Path::root("status").child("certificate");
        errors.invalid(&path, "<certificate data>", &why);
    }
}

fn conditions(request: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("conditions");
    let all = request["status"].list("conditions");
    for (at, condition) in all.iter().enumerate() {
        let place = path.index(at);
        let kind = condition.text("type");
        if kind.is_empty() {
            errors.required(&place.child("type"), "");
        }
        let states: &[&str] =
            if VERDICTS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match condition.text("status") {
            "" => errors.required(&place.child("status"), ""),
            state if states.contains(&state) => {}
            state => errors.unsupported(&place.child("status"), state, states),
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && all[..at].iter().any(|c| c.text("type") == other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path, kind, detail);
        }
        if all[..at].iter().any(|c| c.text("type") == kind) {
            errors.duplicate(&place.child("type"), kind);
        }
    }
}

/// Verdicts stay, and only approvers give them.
fn verdicts(approves: bool, old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("conditions");
    let all =
        |request: &Value, kind: &str| -> Vec<Value> { of_kind(request, kind).cloned().collect() };
    for kind in VERDICTS {
        if all(new, kind).len() < all(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.forbidden(&path, &detail);
        }
    }
    for kind in VERDICTS.iter().take(2).filter(|_| !approves) {
        let (was, is) = (all(old, kind), all(new, kind));
        if is.len() > was.len() {
            let detail = format!("updates may not add a condition of type {kind:?}");
            errors.forbidden(&path, &detail);
        }
        let (was, is) = (Value::from(was), Value::from(is));
        if was.as_array().map(Vec::len) == is.as_array().map(Vec::len) && !same(&was, &is) {
            let detail = format!(
                "updates may not modify a condition of type {kind:?}\n{}",
                diff("[]certificates.CertificateSigningRequestCondition", &was, &is)
            );
            errors.forbidden(&path, &detail);
        }
    }
}

/// Certificates in PEM, base64 around it.
fn check_certificates(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let blocks = pem::decode(&String::from_utf8_lossy(&bytes)).map_err(|e| e.to_string())?;
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    for pem::Block { label, der } in blocks {
        if label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label:?}"));
        }
        Certificate::parse(&der).map_err(|error| error.to_string())?;
    }
    Ok(())
}
