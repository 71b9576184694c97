//! APIServices: who serves which group version.

use apimachinery::{
    field::{FieldError, Path},
    names, time,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, dns_subdomain, spec},
    value::{Fields as _, set_default},
};

pub(crate) struct ApiService;

impl Hooks for ApiService {
    fn default(&self, service: &mut Value) {
        if let Some(target) = service.pointer_mut("/spec/service").filter(|s| s.is_object()) {
            set_default(target, "port", 443);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, service: &mut Value) {
        // What this server serves itself is there at once.
        if !service["spec"].has("service") {
            service["status"] = json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": time::now(),
            }]});
        }
    }

    fn validate_create(&self, _context: &Context<'_>, service: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (inner, path) = (&service["spec"], spec());
        let (group, version) = (inner.text("group"), inner.text("version"));
        let required = format!("{version}.{group}");
        let service_name = service["metadata"].text("name");
        let named = !service_name.is_empty();
        if named && service_name != required && names::path_segment_name(service_name).is_empty() {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            errors.invalid(&Path::root("metadata").child("name"), service_name, &detail);
        }
        if group.is_empty() && version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.required(&path.child("group"), detail);
        }
        if !group.is_empty() {
            dns_subdomain(group, &path.child("group"), &mut errors);
        }
        errors.messages(&path.child("version"), version, names::dns1035_label(version));
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let priority = inner.int(field).unwrap_or_default();
            if priority <= 0 || priority > most {
                let detail = format!("must be positive and less than {most}");
                errors.invalid(&path.child(field), priority, &detail);
            }
        }
        target(inner, &path, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource.is_empty() {
            return self.validate_create(context, new);
        }
        let mut errors = Errors::new();
        let path = Path::root("status").child("conditions");
        for (at, condition) in new["status"].list("conditions").iter().enumerate() {
            let status = condition.text("status");
            if !matches!(status, "True" | "False" | "Unknown") {
                let path = path.index(at).child("status");
                errors.unsupported(&path, status, &["True", "False", "Unknown"]);
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment_name(name)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apiregistration.k8s.io/apiservices")
    }

    fn cells(&self, service: &Value) -> Vec<Value> {
        let target = service["spec"]
            .sub("service")
            .map(|target| format!("{}/{}", target.text("namespace"), target.text("name")));
        let mut conditions = service["status"].list("conditions").iter();
        let available = conditions.find(|condition| condition.text("type") == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) => {
                let (status, reason) = (condition.text("status"), condition.text("reason"));
                match status == "True" || reason.is_empty() {
                    true => status.to_owned(),
                    false => format!("{status} ({reason})"),
                }
            }
        };
        vec![
            name(service),
            target.unwrap_or_else(|| "Local".to_owned()).into(),
            available.into(),
            age(service),
        ]
    }
}

fn target(spec: &Value, path: &Path, errors: &mut Errors) {
    let bundle = spec.text("caBundle");
    let insecure = path.child("insecureSkipTLSVerify");
    let Some(service) = spec.sub("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            let detail = "local APIServices may not have a caBundle";
            errors.invalid(&path.child("caBundle"), shown, detail);
        }
        if spec.on("insecureSkipTLSVerify") {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&insecure, true, detail);
        }
        return;
    };
    let path = path.child("service");
    for field in ["namespace", "name"] {
        if service.text(field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = service.int("port").unwrap_or_default();
    let messages = names::port_number(port);
    if !messages.is_empty() {
        let detail = format!("port is not valid: {}", messages.join(", "));
        errors.invalid(&path.child("port"), port, &detail);
    }
    if spec.on("insecureSkipTLSVerify") && !bundle.is_empty() {
        errors.invalid(&insecure, true, "may not be true if caBundle is present");
    }
}
