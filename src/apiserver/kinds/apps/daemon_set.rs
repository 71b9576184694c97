//! DaemonSets.

use apimachinery::field::Path;
use serde_json::{Value, json};

use super::workload::{self, Counts, Workload, at_most_all, int_or_percent, number};
use crate::kinds::{
    Column,
    columns::{self, age, containers, labels, name, selector},
    pod_spec,
    validation::{Errors, Report as _, label_selector, not_negative, selects_everything, spec},
    value::{Fields as _, object_at, same, set_default},
};

pub(crate) struct DaemonSet;

/// Counts the templates that a DaemonSet has had.
const GENERATION: &str = "deprecated.daemonset.template.generation";

impl Workload for DaemonSet {
    const STATUS: Counts = Counts {
        all: &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        parts: &[],
        ready: "",
    };

    fn default(&self, set: &mut Value) {
        // Upstream's own form has the count beside the spec: it is always there.
        if let Some(metadata) = set.get_mut("metadata")
            && let Some(annotations) = object_at(metadata, "annotations")
        {
            annotations.entry(GENERATION).or_insert("0".into());
        }
        let Some(spec) = set.get_mut("spec") else { return };
        let Some(strategy) = object_at(spec, "updateStrategy") else { return };
        strategy.entry("type").or_insert("RollingUpdate".into());
        if strategy["type"] == "RollingUpdate" {
            let rolling = strategy.entry("rollingUpdate").or_insert(Value::Null);
            if rolling.is_null() {
                *rolling = json!({});
            }
            set_default(rolling, "maxUnavailable", 1);
            set_default(rolling, "maxSurge", 0);
        }
    }

    fn prepare(&self, old: Option<&Value>, new: &mut Value) {
        let count = old.map_or(1, |old| {
            let was = old["metadata"]["annotations"].text(GENERATION).parse().unwrap_or(0_i64);
            was + i64::from(!same(&old["spec"]["template"], &new["spec"]["template"]))
        });
        count_template(new, count);
    }

    fn validate(&self, set: &Value, errors: &mut Errors) {
        let path = spec();
        let inner = &set["spec"];
        label_selector(inner, "selector", &path, errors);
        let place = path.child("template");
        if !workload::matches(&inner["selector"], &inner["template"])
            || inner.sub("selector").is_none()
        {
            workload::mismatch(inner, &place, errors);
        }
        if let Some(selector) =
            inner.sub("selector").filter(|selector| selects_everything(selector))
        {
            let detail = "empty selector is invalid for daemonset";
            errors.invalid(&path.child("selector"), selector.clone(), detail);
        }
        pod_spec::template(&inner["template"], &place, errors);
        workload::always(&inner["template"], "DaemonSet", &place, errors);
        not_negative(inner, "minReadySeconds", &path, errors);
        strategy(&inner["updateStrategy"], &path.child("updateStrategy"), errors);
        not_negative(inner, "revisionHistoryLimit", &path, errors);
    }

    fn validate_change(&self, old: &Value, new: &Value, errors: &mut Errors) {
        workload::same_selector(old, new, errors);
        self.validate(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apps/daemonsets")
    }

    fn cells(&self, set: &Value) -> Vec<Value> {
        let (spec, status) = (&set["spec"], &set["status"]);
        let count = |field: &str| status.int(field).unwrap_or_default().into();
        let pod = &spec["template"]["spec"];
        let [names, images] = containers(pod);
        vec![
            name(set),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            labels(pod, "nodeSelector"),
            age(set),
            names,
            images,
            selector(&spec["selector"]),
        ]
    }
}

fn count_template(set: &mut Value, generation: i64) {
    let Some(metadata) = set.get_mut("metadata") else { return };
    if let Some(annotations) = object_at(metadata, "annotations") {
        annotations.insert(GENERATION.to_owned(), generation.to_string().into());
    }
}

fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let Some(update) = strategy.sub("rollingUpdate") else {
                return errors.required(&path, "");
            };
            let both = ["maxUnavailable", "maxSurge"];
            for field in both {
                int_or_percent(&update[field], &path.child(field), errors);
            }
            for field in both {
                at_most_all(&update[field], &path.child(field), errors);
            }
            match both.map(|field| number(&update[field]) != 0) {
                [true, true] => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&path.child("maxSurge"), update["maxSurge"].clone(), detail);
                }
                [false, false] => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.required(&path.child("maxUnavailable"), detail);
                }
                _ => {}
            }
        }
        _ => {
            errors.unsupported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]);
        }
    }
}
