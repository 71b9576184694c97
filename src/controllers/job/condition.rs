//! The conditions of a Job.

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

pub(super) const SUCCESS: &str = "SuccessCriteriaMet";
pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILURE: &str = "FailureTarget";
pub(super) const FAILED: &str = "Failed";
pub(super) const SUSPENDED: &str = "Suspended";

/// A condition that is true.
pub(super) fn new(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition `kind` where it is true.
pub(super) fn holds<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|one| one.type_ == kind && one.status == "True")
}

/// The condition that says that the Job is over.
pub(super) fn finished(job: &Job) -> Option<&JobCondition> {
    holds(job, COMPLETE).or_else(|| holds(job, FAILED))
}

/// Puts `wanted` in the place of the condition of its type. One that is not true is not added where
/// there was none. Returns whether anything changed.
pub(super) fn set(conditions: &mut Vec<JobCondition>, wanted: JobCondition) -> bool {
    match conditions.iter_mut().find(|one| one.type_ == wanted.type_) {
        Some(one) => {
            let same = one.status == wanted.status
                && one.reason == wanted.reason
                && one.message == wanted.message;
            if !same {
                *one = wanted;
            }
            !same
        }
        None if wanted.status == "False" => false,
        None => {
            conditions.push(wanted);
            true
        }
    }
}
