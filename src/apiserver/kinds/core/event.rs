//! Events, of the core group and of `events.k8s.io`: stored in the older form.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, since},
    validation::{Errors, IMMUTABLE, Report as _, label_name},
    value::{Fields as _, same},
};

pub(crate) struct Event;

/// Where an event says who tells it: older and newer clients use different fields.
pub(crate) const SOURCE: &str = "source.component|reportingComponent";

const GROUP: &str = "events.k8s.io";

impl Hooks for Event {
    fn validate_create(&self, context: &Context<'_>, event: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        legacy(context, event, &mut errors);
        if context.group == GROUP {
            let name = event["metadata"].text("name");
            let path = Path::root("metadata").child("name");
            if !name.is_empty() {
                errors.messages(&path, name, names::name_is_dns_subdomain(name, false));
            }
            series(event, &mut errors);
            if !event.has("eventTime") {
                errors.required(&Path::root("eventTime"), "");
            }
            let kind = event.text("type");
            if !matches!(kind, "Normal" | "Warning") {
                let detail = format!("has invalid value: {kind}");
                errors.invalid(&Path::root("type"), "", &detail);
            }
            let sourced = ["component", "host"].iter().any(|p| !event["source"].text(p).is_empty());
            for (field, set) in [
                ("firstTimestamp", event.has("firstTimestamp")),
                ("lastTimestamp", event.has("lastTimestamp")),
                ("count", event.int("count").unwrap_or_default() != 0),
                ("source", sourced),
            ] {
                if set {
                    errors.invalid(&Path::root(field), "", "needs to be unset");
                }
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        legacy(context, new, &mut errors);
        if context.group != GROUP {
            return errors;
        }
        if !same(&old["series"], &new["series"]) {
            series(new, &mut errors);
        }
        for (stored, field) in [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
        ] {
            if !same(&old[stored], &new[stored]) {
                errors.invalid(&Path::root(field), new[stored].clone(), IMMUTABLE);
            }
        }
        for (stored, field) in [
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            if old.text(stored) != new.text(stored) {
                errors.invalid(&Path::root(field), new.text(stored), IMMUTABLE);
            }
        }
        errors
    }

    /// Older clients may call an event what they like.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_path_segment(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            SOURCE,
            "type",
        ]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/events")
    }

    fn cells(&self, event: &Value) -> Vec<Value> {
        let first = event.opt_text("firstTimestamp").unwrap_or_else(|| event.text("eventTime"));
        let mut last = event.opt_text("lastTimestamp").unwrap_or(first);
        let mut count = event.int("count").filter(|count| *count != 0).unwrap_or(1);
        if let Some(series) = event.sub("series") {
            last = series.text("lastObservedTime");
            count = series.int("count").unwrap_or_default();
        }
        let object = &event["involvedObject"];
        let kind = object.text("kind").to_lowercase();
        let target = match object.text("name") {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        let pick = |part: &str, other: &str| match event["source"].text(part) {
            "" => event.text(other).to_owned(),
            text => text.to_owned(),
        };
        let (component, host) =
            (pick("component", "reportingComponent"), pick("host", "reportingInstance"));
        let source = if host.is_empty() { component } else { format!("{component}, {host}") };
        vec![
            since(last).into(),
            event.text("type").into(),
            event.text("reason").into(),
            target.into(),
            object.text("fieldPath").into(),
            source.into(),
            event.text("message").trim().into(),
            since(first).into(),
            count.into(),
            event["metadata"].text("name").into(),
        ]
    }
}

/// What has always been asked of events.
fn legacy(context: &Context<'_>, event: &Value, errors: &mut Errors) {
    let namespace = event["metadata"].text("namespace");
    let about = event["involvedObject"].text("namespace");
    let place = Path::root("involvedObject").child("namespace");
    let elsewhere = "does not match event.namespace";
    if !event.has("eventTime") {
        let cluster_scoped = about.is_empty() && matches!(namespace, "" | "default");
        if about != namespace && !cluster_scoped {
            errors.invalid(&place, about, elsewhere);
        }
        return;
    }
    if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.invalid(&place, about, elsewhere);
    }
    let controller = match context.group {
        "" => Path::root("reportingComponent"),
        _ => Path::root("reportingController"),
    };
    let reporter = event.text("reportingComponent");
    if reporter.is_empty() {
        errors.required(&controller, "");
    }
    label_name(reporter, &controller, errors);
    for field in ["reportingInstance", "action", "reason"] {
        let text = event.text(field);
        if text.is_empty() {
            errors.required(&Path::root(field), "");
        }
        if text.len() > 128 {
            errors.invalid(&Path::root(field), "", "can have at most 128 characters");
        }
    }
    if event.text("message").len() > 1024 {
        errors.invalid(&Path::root("message"), "", "can have at most 1024 characters");
    }
}

fn series(event: &Value, errors: &mut Errors) {
    let Some(series) = event.sub("series") else { return };
    if series.int("count").unwrap_or_default() < 2 {
        errors.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&Path::root("series.lastObservedTime"), "");
    }
}
