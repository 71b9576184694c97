//! Deployments.

use apimachinery::field::Path;
use serde_json::{Value, json};

use super::workload::{self, Counts, Workload, at_most_all, int_or_percent, number};
use crate::kinds::{
    Column,
    columns::{self, age, containers, name, selector_text},
    validation::{Errors, Report as _, not_negative, spec},
    value::{Fields as _, object_at, same, set_default},
};

pub(crate) struct Deployment;

impl Workload for Deployment {
    const STATUS: Counts = Counts {
        all: &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        parts: &["updatedReplicas", "readyReplicas", "availableReplicas"],
        ready: "readyReplicas",
    };

    fn default(&self, deployment: &mut Value) {
        let Some(spec) = deployment.get_mut("spec") else { return };
        let Some(strategy) = object_at(spec, "strategy") else { return };
        strategy.entry("type").or_insert("RollingUpdate".into());
        if strategy["type"] == "RollingUpdate" {
            let rolling = strategy.entry("rollingUpdate").or_insert(Value::Null);
            if rolling.is_null() {
                *rolling = json!({});
            }
            set_default(rolling, "maxUnavailable", "25%");
            set_default(rolling, "maxSurge", "25%");
        }
    }

    fn prepare(&self, old: Option<&Value>, new: &mut Value) {
        // Annotations are copied to the replica sets: a change of them is one for the controller.
        if let Some(old) = old
            && !same(&old["metadata"]["annotations"], &new["metadata"]["annotations"])
        {
            let generation = old["metadata"].int("generation").unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
    }

    fn validate(&self, deployment: &Value, errors: &mut Errors) {
        let path = spec();
        let inner = &deployment["spec"];
        not_negative(inner, "replicas", &path, errors);
        workload::selector(deployment, "deployment", errors);
        workload::template(deployment, "ReplicaSet", errors);
        strategy(&inner["strategy"], &path.child("strategy"), errors);
        for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            not_negative(inner, field, &path, errors);
        }
        if let Some(deadline) = inner.int("progressDeadlineSeconds")
            && deadline <= inner.int("minReadySeconds").unwrap_or_default()
        {
            let path = path.child("progressDeadlineSeconds");
            errors.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }

    fn validate_change(&self, old: &Value, new: &Value, errors: &mut Errors) {
        self.validate(new, errors);
        workload::same_selector(old, new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apps/deployments")
    }

    fn cells(&self, deployment: &Value) -> Vec<Value> {
        let (spec, status) = (&deployment["spec"], &deployment["status"]);
        let count = |field: &str| status.int(field).unwrap_or_default();
        let ready =
            format!("{}/{}", count("readyReplicas"), spec.int("replicas").unwrap_or_default());
        let [names, images] = containers(&spec["template"]["spec"]);
        let selector = selector_text(&spec["selector"]).unwrap_or_else(|| "<invalid>".to_owned());
        vec![
            name(deployment),
            ready.into(),
            count("updatedReplicas").into(),
            count("availableReplicas").into(),
            age(deployment),
            names,
            images,
            selector.into(),
        ]
    }
}

fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if strategy.has("rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&rolling, detail);
            }
        }
        "RollingUpdate" => {
            let Some(update) = strategy.sub("rollingUpdate") else {
                return errors.required(&rolling, "this should be defaulted and never be nil");
            };
            let (unavailable, surge) = (&update["maxUnavailable"], &update["maxSurge"]);
            let path = rolling.child("maxUnavailable");
            int_or_percent(unavailable, &path, errors);
            int_or_percent(surge, &rolling.child("maxSurge"), errors);
            if number(unavailable) == 0 && number(surge) == 0 {
                errors.invalid(&path, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(unavailable, &path, errors);
        }
        _ => {
            errors.unsupported(path, strategy.clone(), &["Recreate", "RollingUpdate"]);
        }
    }
}
