//! CronJobs.

use apimachinery::field::{FieldError, Path};
use cron::Schedule;
use serde_json::Value;

use super::job::validate_template;
use crate::kinds::{
    Column, Context, Hooks,
    apps::workload,
    columns::{self, age, containers, name, selector, since},
    pod_spec,
    validation::{Errors, Report as _, not_negative, one_of, spec},
    value::Fields as _,
};

pub(crate) struct CronJob;

/// Names of jobs end with `-` and the time in minutes, ten digits.
const LONGEST_NAME: usize = 52;

impl Hooks for CronJob {
    fn default(&self, job: &mut Value) {
        // The template is not a job: most of its defaults come when one is made of it.
        if let Some(template) = job.pointer_mut("/spec/jobTemplate/spec/template") {
            pod_spec::default_template(template);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, job: &mut Value) {
        pod_spec::drop_from_template(&mut job["spec"]["jobTemplate"], None);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            let old = &old["spec"]["jobTemplate"];
            pod_spec::drop_from_template(&mut new["spec"]["jobTemplate"], Some(old));
        }
    }

    fn validate_create(&self, _context: &Context<'_>, job: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&job["spec"], None, &spec(), &mut errors);
        let job_name = job["metadata"].text("name");
        if job_name.len() > LONGEST_NAME {
            let detail = "must be no more than 52 characters";
            errors.invalid(&Path::root("metadata").child("name"), job_name, detail);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource.is_empty() {
            validate(&new["spec"], Some(&old["spec"]), &spec(), &mut errors);
        }
        errors
    }

    fn warnings(&self, old: Option<&Value>, job: &Value) -> Vec<String> {
        workload::pod_name_warning(old, job)
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("batch/cronjobs")
    }

    fn cells(&self, job: &Value) -> Vec<Value> {
        let (spec, status) = (&job["spec"], &job["status"]);
        let template = &spec["jobTemplate"]["spec"];
        let [names, images] = containers(&template["template"]["spec"]);
        let last = status.opt_text("lastScheduleTime").map(since);
        let suspended = match spec.flag("suspend") {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        vec![
            name(job),
            spec.text("schedule").into(),
            spec.opt_text("timeZone").unwrap_or("<none>").into(),
            suspended.into(),
            status.list("active").len().into(),
            last.unwrap_or_else(|| "<none>".to_owned()).into(),
            age(job),
            names,
            images,
            selector(&template["selector"]),
        ]
    }
}

fn validate(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let schedule = spec.text("schedule");
    let place = path.child("schedule");
    if !schedule.is_empty() {
        if let Err(error) = Schedule::parse(schedule) {
            errors.invalid(&place, schedule, &error.to_string());
        }
        // Schedules that name their zone are from before there was a field for it.
        let may = old.is_some_and(|old| old.text("schedule").contains("TZ"));
        let names_zone = schedule.contains("TZ");
        if names_zone && may && spec.has("timeZone") {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            errors.invalid(&place, schedule, detail);
        }
        if names_zone && !may {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.invalid(&place, schedule, detail);
        }
    }
    not_negative(spec, "startingDeadlineSeconds", path, errors);
    if old.is_none_or(|old| old.opt_text("timeZone") != spec.opt_text("timeZone"))
        && let Some(zone) = spec.opt_text("timeZone")
    {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    one_of(spec, "concurrencyPolicy", path, &["Allow", "Forbid", "Replace"], errors);
    let template = &spec["jobTemplate"]["spec"];
    let place = path.child("jobTemplate").child("spec");
    validate_template(template, &place, errors);
    if let Some(selector) = template.sub("selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&place.child("selector"), selector.clone(), detail);
    }
    if template.on("manualSelector") {
        errors.unsupported(&place.child("manualSelector"), true, &["nil", "false"]);
    }
    not_negative(spec, "successfulJobsHistoryLimit", path, errors);
    not_negative(spec, "failedJobsHistoryLimit", path, errors);
    // Upstream looks at this declaratively, which is last.
    if schedule.is_empty() {
        errors.required(&path.child("schedule"), "");
    }
}

fn time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        return errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    let good = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !zone.split('/').all(good) {
        return errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    }
    if zone != "Local"
        && let Err(error) = cron::zone(zone)
    {
        errors.invalid(path, zone, &error.to_string());
    }
}
