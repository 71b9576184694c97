//! What workloads have in common: a selector, a template of pods, numbers of replicas.

use apimachinery::{
    field::{FieldError, Path},
    names,
    selector::labels::Selector,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks, pod_spec,
    validation::{
        Errors, IMMUTABLE, NOT_NEGATIVE, Report as _, label_selector, selects_everything, spec,
    },
    value::{Fields as _, same},
};

/// A kind whose spec has a template of pods that run for good. What is said here is its own; the rest
/// of its [`Hooks`] is the same for all of them.
pub(crate) trait Workload: Send + Sync {
    /// The numbers in its status.
    const STATUS: Counts;

    /// Defaults of the spec beyond the template.
    fn default(&self, _object: &mut Value) {}

    /// Before create (`old` is none) or an update of the object, the template being settled.
    fn prepare(&self, _old: Option<&Value>, _new: &mut Value) {}

    /// Validates an object.
    fn validate(&self, object: &Value, errors: &mut Errors);

    /// Validates an object that was another before.
    fn validate_change(&self, _old: &Value, new: &Value, errors: &mut Errors) {
        self.validate(new, errors);
    }

    /// As [`Hooks::warnings`].
    fn warnings(&self, _old: Option<&Value>, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// As [`Hooks::validate_name`].
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_dns_subdomain(name, prefix)
    }

    /// As [`Hooks::fields`].
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// As [`Hooks::columns`].
    fn columns(&self) -> &'static [Column];

    /// As [`Hooks::cells`].
    fn cells(&self, object: &Value) -> Vec<Value>;
}

impl<W: Workload> Hooks for W {
    fn default(&self, object: &mut Value) {
        Workload::default(self, object);
        if let Some(template) = object.pointer_mut("/spec/template") {
            pod_spec::default_template(template);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        pod_spec::drop_from_template(object, None);
        self.prepare(None, object);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            pod_spec::drop_from_template(new, Some(old));
            self.prepare(Some(old), new);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        self.validate(object, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            W::STATUS.check(old, new, &mut errors);
        } else {
            self.validate_change(old, new, &mut errors);
        }
        errors
    }

    fn warnings(&self, old: Option<&Value>, object: &Value) -> Vec<String> {
        Workload::warnings(self, old, object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        Workload::validate_name(self, name, prefix)
    }

    fn fields(&self) -> &'static [&'static str] {
        Workload::fields(self)
    }

    fn columns(&self) -> &'static [Column] {
        Workload::columns(self)
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        Workload::cells(self, object)
    }
}

/// The selector of a workload, which must be there and not empty. `kind` is what upstream calls
/// the kind in its message; whether the template can be held against it is for [`selects`] to say.
pub(crate) fn selector(workload: &Value, kind: &str, errors: &mut Errors) {
    let path = spec().child("selector");
    let Some(selector) = workload["spec"].sub("selector") else {
        return errors.required(&path, "");
    };
    label_selector(&workload["spec"], "selector", &spec(), errors);
    if selects_everything(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.invalid(&path, selector.clone(), &detail);
    }
}

/// Whether the selector can select anything; `detail` is what is said otherwise.
pub(crate) fn selects(workload: &Value, detail: &str, errors: &mut Errors) -> bool {
    let selector = &workload["spec"]["selector"];
    let good = selector.is_null() || Selector::from_object(selector).is_ok();
    if !good {
        errors.invalid(&spec().child("selector"), selector.clone(), detail);
    }
    good
}

/// The template of a workload whose pods run for good.
pub(crate) fn template(workload: &Value, kind: &str, errors: &mut Errors) {
    if !selects(workload, "invalid label selector", errors) {
        return;
    }
    let inner = &workload["spec"];
    let path = spec().child("template");
    if !matches(&inner["selector"], &inner["template"]) {
        mismatch(inner, &path, errors);
    }
    pod_spec::template(&inner["template"], &path, errors);
    always(&inner["template"], kind, &path, errors);
}

/// Says that the template's labels are not those that the selector selects.
pub(crate) fn mismatch(spec: &Value, path: &Path, errors: &mut Errors) {
    let labels = spec["template"]["metadata"]["labels"].clone();
    let path = path.child("metadata").child("labels");
    errors.invalid(&path, labels, "`selector` does not match template `labels`");
}

/// Whether the selector selects the template's labels, or nothing that would show otherwise.
pub(crate) fn matches(selector: &Value, template: &Value) -> bool {
    let Ok(selector) = Selector::from_object(selector) else { return true };
    let labels: Vec<(Box<str>, Box<str>)> = template["metadata"]
        .strings("labels")
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    selector.is_everything() || selector.matches(labels.as_slice())
}

/// What a client is told of a new object's name that is none for the hosts that pods are.
pub(crate) fn pod_name_warning(old: Option<&Value>, object: &Value) -> Vec<String> {
    let messages = names::dns1123_label(object["metadata"].text("name"));
    if old.is_some() || messages.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising \
         behavior; a DNS label is recommended: [{}]",
        messages.join(" ")
    )]
}

/// Pods of a workload start again whatever happens.
pub(crate) fn always(template: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let path = path.child("spec");
    let policy = template["spec"].text("restartPolicy");
    if policy != "Always" {
        errors.unsupported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if template["spec"].has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), &detail);
    }
}

/// The selector of a workload stays.
pub(crate) fn same_selector(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, is) = (&old["spec"]["selector"], &new["spec"]["selector"]);
    if !same(was, is) {
        errors.invalid(&spec().child("selector"), is.clone(), IMMUTABLE);
    }
}

/// Numbers of a status: not negative, none above the whole, no collision forgotten.
pub(crate) struct Counts {
    /// All of them.
    pub(crate) all: &'static [&'static str],
    /// Those that are parts of `replicas`.
    pub(crate) parts: &'static [&'static str],
    /// What upstream calls `readyReplicas` in its message.
    pub(crate) ready: &'static str,
}

impl Counts {
    pub(crate) fn check(&self, old: &Value, new: &Value, errors: &mut Errors) {
        let path = Path::root("status");
        let status = &new["status"];
        for field in self.all {
            if let Some(count) = status.int(field).filter(|count| *count < 0) {
                errors.invalid(&path.child(field), count, NOT_NEGATIVE);
            }
        }
        let count = |field: &str| status.int(field).unwrap_or_default();
        for field in self.parts {
            if count(field) > count("replicas") {
                let detail = "cannot be greater than status.replicas";
                errors.invalid(&path.child(field), count(field), detail);
            }
        }
        if self.parts.contains(&"availableReplicas")
            && count("availableReplicas") > count("readyReplicas")
        {
            let detail = format!("cannot be greater than {}", self.ready);
            errors.invalid(&path.child("availableReplicas"), count("availableReplicas"), &detail);
        }
        let collisions = "collisionCount";
        if let (Some(was), Some(is)) = (old["status"].int(collisions), status.int(collisions))
            && is < was
        {
            errors.invalid(&path.child(collisions), is, "cannot be decremented");
        }
    }
}

/// A number or a share of a whole that may not be negative.
pub(crate) fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => errors.messages(path, text, names::percent(text)),
        other => {
            let number = other.as_i64().unwrap_or_default();
            if number < 0 {
                errors.invalid(path, number, NOT_NEGATIVE);
            }
        }
    }
}

/// A share is at most the whole.
pub(crate) fn at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

fn percent(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if names::percent(text).is_empty() { text.strip_suffix('%')?.parse().ok() } else { None }
}

/// The number in a number or share.
pub(crate) fn number(value: &Value) -> i64 {
    percent(value).or_else(|| value.as_i64()).unwrap_or_default()
}
