//! Probes and lifecycle handlers.

use apimachinery::{field::Path, names};
use serde_json::Value;

use super::Spec;
use crate::kinds::{
    validation::{Errors, Report as _, not_negative, port, port_number},
    value::Fields as _,
};

pub(super) fn probes(spec: &Spec<'_>, container: &Value, path: &Path, errors: &mut Errors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.sub(field) else { continue };
        let path = path.child(field);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], spec.grace, &path, errors);
        for count in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            not_negative(probe, count, &path, errors);
        }
        let grace = path.child("terminationGracePeriodSeconds");
        if let Some(seconds) = probe.int("terminationGracePeriodSeconds") {
            if seconds <= 0 {
                errors.invalid(&grace, seconds, "must be greater than 0");
            }
            if field == "readinessProbe" {
                errors.invalid(&grace, seconds, "must not be set for readinessProbes");
            }
        }
        let successes = probe.int("successThreshold").unwrap_or_default();
        if field != "readinessProbe" && successes != 1 {
            errors.invalid(&path.child("successThreshold"), successes, "must be 1");
        }
    }
}

pub(super) fn lifecycle(spec: &Spec<'_>, container: &Value, path: &Path, errors: &mut Errors) {
    let Some(lifecycle) = container.sub("lifecycle") else { return };
    let path = path.child("lifecycle");
    for field in ["postStart", "preStop"] {
        if let Some(action) = lifecycle.sub(field) {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(action, &kinds, spec.grace, &path.child(field), errors);
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = handler.sub(kind) else { continue };
        let path = path.child(kind);
        if found {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" if action.list("command").is_empty() => {
                errors.required(&path.child("command"), "")
            }
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port(&action["port"], &path.child("port"), errors),
            "grpc" => {
                port_number(action.int("port").unwrap_or_default(), &path.child("port"), errors);
            }
            "sleep" => {
                let seconds = action.int("seconds").unwrap_or_default();
                if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                    let detail = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    );
                    errors.invalid(&path, seconds, &detail);
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    if action.text("path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(&action["port"], &path.child("port"), errors);
    let scheme = action.text("scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.unsupported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        errors.messages(&path.child("httpHeaders"), name, names::http_header_name(name));
    }
}
