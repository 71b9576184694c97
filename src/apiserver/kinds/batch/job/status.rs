//! The status of a job: others than the job controller may write it (KEP-4368), so that what
//! clients rely on is checked wherever it changes.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{holds, indexes};
use crate::kinds::{
    validation::{Errors, IMMUTABLE, Report as _, not_negative},
    value::{Fields as _, same},
};

struct Change<'a> {
    old: &'a Value,
    new: &'a Value,
}

impl Change<'_> {
    fn of(&self, field: &str) -> bool {
        !same(&self.old["status"][field], &self.new["status"][field])
    }

    fn is(&self, kind: &str) -> bool {
        holds(self.new, kind)
    }

    fn turned(&self, kind: &str) -> bool {
        holds(self.old, kind) != holds(self.new, kind)
    }

    fn finished(job: &Value) -> bool {
        holds(job, "Complete") || holds(job, "Failed")
    }
}

pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    let status = &new["status"];
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, field, &path, errors);
    }
    uncounted(&status["uncountedTerminatedPods"], &path, errors);
    let change = Change { old, new };
    verdicts(&change, &path, errors);
    completion(&change, &path, errors);
    reasons(&change, &path, errors);
    finished_before(&change, &path, errors);
    index_lists(&change, &path, errors);
    counts(&change, &path, errors);
    criteria(&change, &path, errors);
    succession(&change, &path, errors);
}

fn uncounted(pods: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for list in ["succeeded", "failed"] {
        for (at, uid) in pods.texts(list).enumerate() {
            let path = path.child("uncountedTerminatedPods").child(list).index(at);
            if uid.is_empty() {
                errors.invalid(&path, uid, "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&path, uid);
            }
            seen.push(uid);
        }
    }
}

fn refuse(why: &str, path: &Path, errors: &mut Errors) {
    errors.push(FieldError::invalid_without_value(&path.child("conditions"), why));
}

/// A job that is complete has not failed and is not about to.
fn verdicts(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    for other in ["Failed", "FailureTarget"] {
        let both = change.is("Complete") && change.is(other);
        if both && (change.turned("Complete") || change.turned(other)) {
            let why = format!("cannot set Complete=True and {other}=true conditions");
            refuse(&why, path, errors);
        }
    }
}

/// What must have been so before a job failed or was complete.
fn reasons(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (target, met) = (change.is("FailureTarget"), change.is("SuccessCriteriaMet"));
    if change.is("Failed") && !target && (change.turned("Failed") || change.of("failedIndexes")) {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        refuse(why, path, errors);
    }
    let turned = change.turned("Complete") || change.turned("SuccessCriteriaMet");
    if change.is("Complete") && !met && turned {
        let why =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        refuse(why, path, errors);
    }
}

/// What does not go with the success of a policy.
fn criteria(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let met = change.is("SuccessCriteriaMet");
    if met && change.is("Failed") {
        let why = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
        refuse(why, path, errors);
    }
    if met && change.is("FailureTarget") {
        let why = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        refuse(why, path, errors);
    }
    if change.new["spec"].has("successPolicy") && change.is("Complete") && !met {
        let why =
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        refuse(why, path, errors);
    }
}

fn completion(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let status = &change.new["status"];
    let complete = change.is("Complete");
    let (start, end) = (status.opt_text("startTime"), status.opt_text("completionTime"));
    if change.turned("Complete") || change.of("completionTime") {
        match end {
            Some(end) if !complete => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.invalid(&path.child("completionTime"), end, detail);
            }
            None if complete => {
                let detail = "completionTime is required for Complete jobs";
                errors.required(&path.child("completionTime"), detail);
            }
            _ => {}
        }
    }
    if (change.of("startTime") || change.of("completionTime"))
        && let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        let detail = "must be equal to or after `startTime`";
        errors.invalid(&path.child("completionTime"), end, detail);
    }
}

/// What a finished job has, and has no more.
fn finished_before(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (spec, status) = (&change.new["spec"], &change.new["status"]);
    if !Change::finished(change.new) {
        return;
    }
    let ended = !Change::finished(change.old);
    nothing_runs(change, "active", path, errors);
    let empty = spec.on("suspend") && spec.int("completions") == Some(0);
    if !status.has("startTime") && (ended || change.of("startTime")) && !empty {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    let uncounted = &status["uncountedTerminatedPods"];
    let any = ["succeeded", "failed"].iter().any(|list| !uncounted.list(list).is_empty());
    if any && (ended || change.of("uncountedTerminatedPods")) {
        let path = path.child("uncountedTerminatedPods");
        errors.invalid(&path, uncounted.clone(), "must be empty for finished job");
    }
}

fn nothing_runs(change: &Change<'_>, field: &str, path: &Path, errors: &mut Errors) {
    let count = change.new["status"].int(field).unwrap_or_default();
    let ended = Change::finished(change.new) != Change::finished(change.old);
    if Change::finished(change.new) && count > 0 && (ended || change.of(field)) {
        let detail = format!("{field}>0 is invalid for finished job");
        errors.invalid(&path.child(field), count, &detail);
    }
}

fn counts(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    nothing_runs(change, "terminating", path, errors);
    let count = |field: &str| change.new["status"].int(field);
    let (Some(ready), active) = (count("ready"), count("active").unwrap_or_default()) else {
        return;
    };
    if ready > active && (change.of("ready") || change.of("active")) {
        errors.invalid(&path.child("ready"), ready, "cannot set more ready pods than active");
    }
}

fn index_lists(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (spec, status) = (&change.new["spec"], &change.new["status"]);
    let (done, failed) = (status.text("completedIndexes"), status.opt_text("failedIndexes"));
    let (done_changed, failed_changed) =
        (change.of("completedIndexes"), change.of("failedIndexes"));
    let completions = spec.int("completions");
    let mut check = |field: &str, text: &str| {
        let Some(Err(why)) = completions.map(|count| indexes::count(text, count)) else { return };
        errors.invalid(&path.child(field), text, &format!("error parsing {field}: {why}"));
    };
    if done_changed {
        check("completedIndexes", done);
    }
    if let Some(failed) = failed.filter(|_| failed_changed && spec.has("backoffLimitPerIndex")) {
        check("failedIndexes", failed);
    }
    if done_changed && !done.is_empty() && spec.text("completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&path.child("completedIndexes"), done, detail);
    }
    let Some(failed) = failed else { return };
    let place = path.child("failedIndexes");
    if failed_changed && !spec.has("backoffLimitPerIndex") {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&place, failed, detail);
    }
    if (failed_changed || done_changed)
        && let Some(at) = completions.and_then(|count| indexes::overlap(done, failed, count))
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {at}");
        errors.invalid(&place, failed, &detail);
    }
}

/// What may not be taken back.
fn succession(change: &Change<'_>, path: &Path, errors: &mut Errors) {
    let (spec, status) = (&change.new["spec"], &change.new["status"]);
    let was = &change.old["status"];
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if holds(change.old, kind) && !change.is(kind) {
            refuse(&format!("cannot disable the terminal {kind}=True condition"), path, errors);
        }
    }
    let count = |status: &Value, field: &str| status.int(field).unwrap_or_default();
    // An indexed job may be made smaller.
    let elastic = spec.text("completionMode") == "Indexed"
        && spec.int("completions") == spec.int("parallelism");
    for (field, fixed) in [("failed", true), ("succeeded", !elastic)] {
        if fixed && count(status, field) < count(was, field) {
            let detail = format!("cannot decrease the {field} counter");
            errors.invalid(&path.child(field), count(status, field), &detail);
        }
    }
    if was.has("completionTime") && status.has("completionTime") && change.of("completionTime") {
        let value = status["completionTime"].clone();
        errors.invalid(&path.child("completionTime"), value, IMMUTABLE);
    }
    let resumes = holds(change.old, "Suspended")
        && status
            .list("conditions")
            .iter()
            .any(|c| c.text("type") == "Suspended" && c.text("status") == "False");
    if was.has("startTime") && change.of("startTime") && !resumes && !spec.on("suspend") {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(&path.child("startTime"), status["startTime"].clone(), detail);
    }
    let was_met = holds(change.old, "SuccessCriteriaMet");
    if was_met && !change.is("SuccessCriteriaMet") {
        refuse("cannot disable the SuccessCriteriaMet=True condition", path, errors);
    }
    if holds(change.old, "Complete") && !was_met && change.is("SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        refuse(why, path, errors);
    }
}
