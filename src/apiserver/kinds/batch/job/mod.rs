//! Jobs.

mod indexes;
mod spec;
mod status;

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

pub(crate) use self::spec::validate_template;
use crate::kinds::{
    Column, Context, Hooks,
    apps::workload::{self, pod_name_warning},
    columns::{self, age, containers, human, name, selector},
    pod_spec,
    validation::{Errors, IMMUTABLE, Report as _, immutable, spec},
    value::{Fields as _, object_at, same},
};

pub(crate) struct Job;

const NAME: &str = "batch.kubernetes.io/job-name";
const UID: &str = "batch.kubernetes.io/controller-uid";
const OLD_NAME: &str = "job-name";
const OLD_UID: &str = "controller-uid";

impl Hooks for Job {
    fn default(&self, job: &mut Value) {
        if let Some(spec) = job.get_mut("spec").filter(|spec| spec.is_object()) {
            spec::default_spec(spec);
            if spec.get("manualSelector").is_none_or(Value::is_null) {
                spec["manualSelector"] = false.into();
            }
        }
        // Those of a new job come when its pods have all of theirs.
        if job["spec"].on("manualSelector") || job["spec"].has("selector") {
            labels_of_pods(job);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, job: &mut Value) {
        if !job["spec"].on("manualSelector") {
            generate_selector(job);
            labels_of_pods(job);
        }
        pod_spec::drop_from_template(job, None);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            pod_spec::drop_from_template(new, Some(old));
        }
    }

    fn validate_create(&self, _context: &Context<'_>, job: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        generated(job, &mut errors);
        spec::validate(&job["spec"], &spec(), &mut errors);
        pod_names(job, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            status::validate(old, new, &mut errors);
            return errors;
        }
        let path = spec();
        let (was, is) = (&old["spec"], &new["spec"]);
        spec::validate(is, &path, &mut errors);
        completions(was, is, &path, &mut errors);
        immutable(was, is, "selector", &path, &mut errors);
        template(old, new, &path, &mut errors);
        for field in [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ] {
            immutable(was, is, field, &path, &mut errors);
        }
        pod_names(new, &mut errors);
        errors
    }

    fn warnings(&self, old: Option<&Value>, job: &Value) -> Vec<String> {
        pod_name_warning(old, job)
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.succeeded"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("batch/jobs")
    }

    fn cells(&self, job: &Value) -> Vec<Value> {
        let (spec, status) = (&job["spec"], &job["status"]);
        let done = status.int("succeeded").unwrap_or_default();
        let parallelism = spec.int("parallelism").unwrap_or_default();
        let completions = match spec.int("completions") {
            Some(wanted) => format!("{done}/{wanted}"),
            None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
            None => format!("{done}/1"),
        };
        let [names, images] = containers(&spec["template"]["spec"]);
        vec![
            name(job),
            state(job).into(),
            completions.into(),
            duration(status).into(),
            age(job),
            names,
            images,
            selector(&spec["selector"]),
        ]
    }
}

/// Whether the condition is there and true.
fn holds(job: &Value, kind: &str) -> bool {
    let conditions = job["status"].list("conditions");
    conditions.iter().any(|c| c.text("type") == kind && c.text("status") == "True")
}

fn state(job: &Value) -> &'static str {
    if holds(job, "Complete") {
        return "Complete";
    }
    if holds(job, "Failed") {
        return "Failed";
    }
    if job["metadata"].has("deletionTimestamp") {
        return "Terminating";
    }
    let states = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    states.into_iter().find(|kind| holds(job, kind)).unwrap_or("Running")
}

fn duration(status: &Value) -> String {
    let time = |field: &str| status.text(field).parse::<jiff::Timestamp>().ok();
    let Some(start) = time("startTime") else { return String::new() };
    let end = time("completionTime").unwrap_or_else(jiff::Timestamp::now);
    human(end.as_second() - start.as_second())
}

/// A job without labels has those of its pods.
fn labels_of_pods(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    let bare = job["metadata"].entries("labels").next().is_none();
    if bare && labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        job["metadata"]["labels"] = labels;
    }
}

/// Labels the pods with what is unique to the job, and selects them by that.
fn generate_selector(job: &mut Value) {
    let meta = |field: &str| Value::from(job["metadata"].text(field));
    let (name, uid) = (meta("name"), meta("uid"));
    let template = &mut job["spec"]["template"];
    if object_at(template, "metadata").is_some()
        && let Some(labels) = object_at(&mut template["metadata"], "labels")
    {
        for key in [OLD_NAME, NAME] {
            labels.entry(key).or_insert_with(|| name.clone());
        }
        for key in [OLD_UID, UID] {
            labels.entry(key).or_insert_with(|| uid.clone());
        }
    }
    if object_at(&mut job["spec"], "selector").is_some()
        && let Some(labels) = object_at(&mut job["spec"]["selector"], "matchLabels")
    {
        labels.entry(UID).or_insert(uid);
    }
}

/// A selector that is not the user's must be the one that was made.
fn generated(job: &Value, errors: &mut Errors) {
    let inner = &job["spec"];
    if inner.on("manualSelector") || !inner.has("selector") {
        return;
    }
    let (job_name, uid) = (job["metadata"].text("name"), job["metadata"].text("uid"));
    if uid.is_empty() {
        errors.required(&Path::root("metadata").child("uid"), "");
    }
    let expected = [(OLD_UID, uid), (OLD_NAME, job_name), (UID, uid), (NAME, job_name)];
    let template = spec().child("template").child("metadata");
    let labels = &inner["template"]["metadata"]["labels"];
    for (key, value) in expected {
        match labels.opt_text(key) {
            None => {
                let detail = format!("must be '{value}'");
                errors.required(&template.child("labels").key(key), &detail);
            }
            Some(actual) if actual != value => {
                let detail = format!("must be '{value}'");
                errors.invalid(&template.child("labels").key(key), labels.clone(), &detail);
            }
            Some(_) => {}
        }
    }
    let expected: serde_json::Map<String, Value> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    let pods = json!({"metadata": {"labels": expected}});
    if !workload::matches(&inner["selector"], &pods) {
        let path = spec().child("selector");
        errors.invalid(&path, inner["selector"].clone(), "`selector` not auto-generated");
    }
}

/// The hostnames of indexed pods have the index at their end.
fn pod_names(job: &Value, errors: &mut Errors) {
    let inner = &job["spec"];
    let Some(completions) = inner.int("completions").filter(|count| *count > 0) else { return };
    let job_name = job["metadata"].text("name");
    if inner.text("completionMode") == "Indexed" {
        let longest = format!("{job_name}-{}", completions - 1);
        if !names::dns1123_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.invalid(&Path::root("metadata").child("name"), job_name, &detail);
        }
    }
}

fn completions(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let field = "completions";
    if new.text("completionMode") != "Indexed" {
        return immutable(old, new, field, path, errors);
    }
    let count = new.int(field);
    if old.int(field) != count && count.is_some() && count != new.int("parallelism") {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path.child(field), new[field].clone(), detail);
    }
}

/// The template of a job stays; while it is suspended, where its pods go and what they get may
/// still be changed.
fn template(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let (before, is) = (&old["spec"]["template"], &new["spec"]["template"]);
    let mut was = before.clone();
    let suspended = old["spec"].on("suspend");
    let idle = suspended
        && (!old["status"].has("startTime") || holds(old, "Suspended"))
        && old["status"].int("active").unwrap_or_default() == 0;
    if idle {
        free_scheduling(&mut was, is);
    }
    let place = path.child("template");
    if !suspended || !idle {
        if !same(&was, is) {
            errors.invalid(&place, is.clone(), IMMUTABLE);
        }
        return;
    }
    for list in ["containers", "initContainers"] {
        let wanted = is["spec"].list(list);
        let Some(own) = was["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        if own.len() != wanted.len() {
            continue;
        }
        for (own, wanted) in own.iter_mut().zip(wanted) {
            if own["name"] == wanted["name"] {
                own["resources"] = wanted["resources"].clone();
            }
        }
    }
    if !same(&was["spec"], &is["spec"]) {
        errors.invalid(&path.child("template.spec"), is["spec"].clone(), IMMUTABLE);
    }
}

fn free_scheduling(was: &mut Value, is: &Value) {
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        was["spec"][field] = is["spec"][field].clone();
    }
    for field in ["annotations", "labels"] {
        was["metadata"][field] = is["metadata"][field].clone();
    }
    let node = is["spec"]["affinity"]["nodeAffinity"].clone();
    if was["spec"].has("affinity") || is["spec"].has("affinity") {
        was["spec"]["affinity"]["nodeAffinity"] = node;
    }
}
