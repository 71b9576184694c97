//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::{
    expressions::{Scope, conditions},
    kinds::{
        Column, Context, Hooks,
        columns::{self, age, name},
        validation::{Errors, Report as _, label_selector, optional_one_of, port_number},
        value::{Fields as _, list_mut, set_default},
    },
};

/// What match conditions may use.
const CONDITIONS: Scope = Scope { params: false, authorizer: true };

/// The configuration of webhooks of one sort.
pub(crate) struct WebhookConfiguration {
    pub(crate) mutating: bool,
}

impl Hooks for WebhookConfiguration {
    fn default(&self, configuration: &mut Value) {
        for hook in list_mut(configuration, "webhooks") {
            set_default(hook, "failurePolicy", "Fail");
            set_default(hook, "matchPolicy", "Equivalent");
            set_default(hook, "namespaceSelector", json!({}));
            set_default(hook, "objectSelector", json!({}));
            set_default(hook, "timeoutSeconds", 10);
            if self.mutating {
                set_default(hook, "reinvocationPolicy", "Never");
            }
            list_mut(hook, "rules").for_each(|rule| set_default(rule, "scope", "*"));
            if let Some(service) = hook.pointer_mut("/clientConfig/service")
                && service.is_object()
            {
                set_default(service, "port", 443);
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, configuration: &Value) -> Vec<FieldError> {
        self.check(configuration, true)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        // Conditions that were taken once are taken again.
        let conditions = |it: &Value| -> Vec<Value> {
            it.list("webhooks").iter().map(|hook| hook["matchConditions"].clone()).collect()
        };
        self.check(new, conditions(old) != conditions(new))
    }

    fn columns(&self) -> &'static [Column] {
        match self.mutating {
            true => columns::of("admissionregistration.k8s.io/mutatingwebhookconfigurations"),
            false => columns::of("admissionregistration.k8s.io/validatingwebhookconfigurations"),
        }
    }

    fn cells(&self, configuration: &Value) -> Vec<Value> {
        let count = configuration.list("webhooks").len();
        vec![name(configuration), count.into(), age(configuration)]
    }
}

impl WebhookConfiguration {
    fn check(&self, configuration: &Value, with_conditions: bool) -> Errors {
        let mut errors = Errors::new();
        let hooks = configuration.list("webhooks");
        for (at, hook) in hooks.iter().enumerate() {
            let path = Path::root("webhooks").index(at);
            self.hook(hook, &path, &mut errors);
            if with_conditions {
                conditions::validate(hook, CONDITIONS, &path, &mut errors);
            }
            versions(hook, &path.child("admissionReviewVersions"), &mut errors);
            let hook_name = hook.text("name");
            let twice = hooks[..at].iter().any(|other| other.text("name") == hook_name);
            if twice && !hook_name.is_empty() {
                errors.duplicate(&path.child("name"), hook_name);
            }
        }
        errors
    }

    fn hook(&self, hook: &Value, path: &Path, errors: &mut Errors) {
        full_name(hook.text("name"), &path.child("name"), errors);
        for (at, rule) in hook.list("rules").iter().enumerate() {
            rule_of(rule, &path.child("rules").index(at), errors);
        }
        optional_one_of(hook, "failurePolicy", path, &["Fail", "Ignore"], errors);
        optional_one_of(hook, "matchPolicy", path, &["Equivalent", "Exact"], errors);
        let effects = ["None", "NoneOnDryRun"];
        if !hook.has("sideEffects") {
            let detail = format!("must specify one of {}", effects.join(", "));
            errors.required(&path.child("sideEffects"), &detail);
        }
        optional_one_of(hook, "sideEffects", path, &effects, errors);
        if let Some(seconds) = hook.int("timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
        }
        label_selector(hook, "namespaceSelector", path, errors);
        label_selector(hook, "objectSelector", path, errors);
        if self.mutating {
            let policies = ["IfNeeded", "Never"];
            optional_one_of(hook, "reinvocationPolicy", path, &policies, errors);
        }
        client(&hook["clientConfig"], &path.child("clientConfig"), errors);
    }
}

/// A name like `hook.example.com`.
fn full_name(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let messages = names::dns1123_subdomain(text);
    if !messages.is_empty() {
        return errors.invalid(path, text, &messages.join(","));
    }
    if text.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, text, detail);
    }
}

/// Operations and resources that a webhook or a policy is about.
pub(super) fn rule_of(rule: &Value, path: &Path, errors: &mut Errors) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let alone = |field: &str, what: &str, errors: &mut Errors| {
        let all = rule.list(field);
        if all.is_empty() {
            errors.required(&path.child(field), "");
        }
        if all.len() > 1 && all.iter().any(|item| item == "*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&path.child(field), rule[field].clone(), &detail);
        }
    };
    alone("operations", "operations", errors);
    for (at, operation) in rule.texts("operations").enumerate() {
        if !OPERATIONS.contains(&operation) {
            let path = path.child("operations").index(at);
            errors.unsupported(&path, operation, &OPERATIONS);
        }
    }
    alone("apiGroups", "API groups", errors);
    alone("apiVersions", "API versions", errors);
    for (at, version) in rule.texts("apiVersions").enumerate() {
        if version.is_empty() {
            errors.required(&path.child("apiVersions").index(at), "");
        }
    }
    resources(rule, &path.child("resources"), errors);
    optional_one_of(rule, "scope", path, &["*", "Cluster", "Namespaced"], errors);
}

fn resources(rule: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = rule.texts("resources").collect();
    if all.is_empty() {
        errors.required(path, "");
    }
    let (mut of_resource, mut of_any) = (Vec::new(), Vec::new());
    for (at, text) in all.iter().enumerate() {
        let path = path.index(at);
        if text.is_empty() {
            errors.required(&path, "");
        }
        let Some((resource, sub)) = text.split_once('/') else { continue };
        if of_resource.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&path, *text, &detail);
        }
        if of_any.contains(&sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.invalid(&path, *text, &detail);
        }
        if sub == "*" {
            of_resource.push(resource);
        }
        if resource == "*" {
            of_any.push(sub);
        }
    }
    let shown = || rule["resources"].clone();
    if all.len() > 1 && all.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, shown(), detail);
    }
    // Upstream remembers only the last of those without a subresource.
    let plain = all.iter().rfind(|text| !text.contains('/') && !text.is_empty());
    if all.contains(&"*") && plain.is_some_and(|last| *last != "*") {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, shown(), detail);
    }
}

/// Where a webhook is.
pub(crate) fn client(client: &Value, path: &Path, errors: &mut Errors) {
    match (client.opt_text("url"), client.sub("service")) {
        (Some(text), None) => url(text, &path.child("url"), errors),
        (None, Some(service)) => {
            let path = path.child("service");
            // Upstream mistakes the one for the other.
            for (field, told) in [("namespace", "name"), ("name", "namespace")] {
                if service.text(field).is_empty() {
                    errors.required(&path.child(told), "");
                }
            }
            let port = service.int("port").unwrap_or(443);
            let before = errors.len();
            port_number(port, &path.child("port"), errors);
            if errors.len() > before {
                errors.truncate(before);
                let detail = format!("port is not valid: {}", names::port_number(port).join(","));
                errors.invalid(&path.child("port"), port, &detail);
            }
            if let Some(text) = service.opt_text("path") {
                service_path(text, &path.child("path"), errors);
            }
        }
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(text: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    if text.is_empty() {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(path, "", &detail);
        return errors.invalid(path, "", &format!("host must be specified{FORM}"));
    }
    let Ok(url) = text.parse::<http::Uri>() else {
        let detail = format!("url must be a valid URL{FORM}");
        return errors.required(path, &detail);
    };
    if url.scheme_str() != Some("https") {
        let scheme = url.scheme_str().unwrap_or_default();
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(path, scheme, &detail);
    }
    if url.host().is_none_or(str::is_empty) {
        errors.invalid(path, "", &format!("host must be specified{FORM}"));
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        errors.invalid(path, text, "user information is not permitted in the URL");
    }
    if let Some(query) = url.query() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service_path(text: &str, path: &Path, errors: &mut Errors) {
    if matches!(text, "" | "/") {
        return;
    }
    if text.starts_with("//") {
        return errors.invalid(path, text, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        errors.invalid(path, text, "must start with a '/'");
    }
    // Upstream takes the first character for the slash that it should be.
    let inner = text.get(text.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (at, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(path, text, &format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(segment) {
            errors.invalid(path, text, &format!("segment[{at}]: {message}"));
        }
    }
}

fn versions(hook: &Value, path: &Path, errors: &mut Errors) {
    const KNOWN: [&str; 2] = ["v1", "v1beta1"];
    let all: Vec<&str> = hook.texts("admissionReviewVersions").collect();
    if all.is_empty() {
        return errors.required(path, &format!("must specify one of {}", KNOWN.join(", ")));
    }
    for (at, version) in all.iter().enumerate() {
        let path = path.index(at);
        if all[..at].contains(version) {
            errors.invalid(&path, *version, "duplicate version");
            continue;
        }
        errors.messages(&path, version, names::dns1035_label(version));
    }
    if !all.iter().any(|version| KNOWN.contains(version)) {
        let detail = format!("must include at least one of {}", KNOWN.join(", "));
        errors.invalid(path, hook["admissionReviewVersions"].clone(), &detail);
    }
}
