//! StatefulSets.

use apimachinery::{field::Path, names};
use serde_json::{Value, json};

use super::workload::{self, Counts, Workload, at_most_all, int_or_percent, number};
use crate::kinds::{
    Column,
    columns::{self, age, containers, name},
    core::persistent_volume_claim,
    pod_spec,
    validation::{Errors, Report as _, dns_label, immutable, not_negative, spec},
    value::{Fields as _, list_mut, object_at, remove, set_default},
};

pub(crate) struct StatefulSet;

impl Workload for StatefulSet {
    const STATUS: Counts = Counts {
        all: &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        parts: &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        ready: "status.readyReplicas",
    };

    fn default(&self, set: &mut Value) {
        let Some(spec) = set.get_mut("spec") else { return };
        let Some(strategy) = object_at(spec, "updateStrategy") else { return };
        if strategy.get("type").is_none_or(Value::is_null) {
            strategy.insert("type".to_owned(), "RollingUpdate".into());
            let rolling = strategy.entry("rollingUpdate").or_insert(Value::Null);
            if rolling.is_null() {
                *rolling = json!({});
            }
        }
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate").filter(|r| r.is_object())
        {
            set_default(rolling, "partition", 0);
            set_default(rolling, "maxUnavailable", 1);
        }
        for claim in list_mut(spec, "volumeClaimTemplates") {
            // Each is a claim of its own, shown with its kind.
            set_default(claim, "apiVersion", "v1");
            set_default(claim, "kind", "PersistentVolumeClaim");
            if let Some(status) = object_at(claim, "status") {
                status.entry("phase").or_insert("Pending".into());
            }
        }
    }

    fn validate(&self, set: &Value, errors: &mut Errors) {
        validate(set, true, errors);
    }

    fn validate_change(&self, old: &Value, new: &Value, errors: &mut Errors) {
        validate(new, false, errors);
        for field in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
            immutable(&old["spec"], &new["spec"], field, &spec(), errors);
        }
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_dns_label(name, prefix)
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apps/statefulsets")
    }

    fn cells(&self, set: &Value) -> Vec<Value> {
        let spec = &set["spec"];
        let ready = set["status"].int("readyReplicas").unwrap_or_default();
        let ready = format!("{ready}/{}", spec.int("replicas").unwrap_or_default());
        let [names, images] = containers(&spec["template"]["spec"]);
        vec![name(set), ready.into(), age(set), names, images]
    }
}

/// Validates a set: all of it where it is `new`, else what may still change.
fn validate(set: &Value, new: bool, errors: &mut Errors) {
    let path = spec();
    let inner = &set["spec"];
    match inner.text("podManagementPolicy") {
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&path.child("podManagementPolicy"), other, detail);
        }
    }
    strategy(&inner["updateStrategy"], &path.child("updateStrategy"), errors);
    if let Some(policy) = inner.sub("persistentVolumeClaimRetentionPolicy") {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let when = policy.text(field);
            if !matches!(when, "Retain" | "Delete") {
                errors.unsupported(&path.child(field), when, &["Retain", "Delete"]);
            }
        }
    }
    for (at, claim) in inner.list("volumeClaimTemplates").iter().enumerate().filter(|_| new) {
        let path = path.child("volumeClaimTemplates").index(at).child("spec");
        persistent_volume_claim::validate_spec(&claim["spec"], &path, errors);
    }
    not_negative(inner, "replicas", &path, errors);
    not_negative(inner, "minReadySeconds", &path, errors);
    if let Some(ordinals) = inner.sub("ordinals") {
        let start = ordinals.int("start").unwrap_or_default();
        if start < 0 {
            let detail = crate::kinds::validation::NOT_NEGATIVE;
            errors.invalid(&path.child("ordinals.start"), start, detail);
        }
    }
    let service = inner.text("serviceName");
    if new && !service.is_empty() {
        dns_label(service, &path.child("serviceName"), errors);
    }
    workload::selector(set, "statefulset", errors);
    let place = path.child("template");
    if workload::selects(set, "", errors) {
        if !workload::matches(&inner["selector"], &inner["template"]) {
            workload::mismatch(inner, &place, errors);
        }
        pod_spec::template(&with_claims(inner), &place, errors);
    }
    workload::always(&inner["template"], "StatefulSet", &place, errors);
}

/// The template as its pods will be: with the claims as volumes, and without the names that the
/// controller gives them.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let Some(pod) = template.get_mut("spec") else { return template };
    remove(pod, "subdomain");
    remove(pod, "hostname");
    let claims = spec.list("volumeClaimTemplates");
    if claims.is_empty() {
        return template;
    }
    let claimed: Vec<&str> = claims.iter().map(|claim| claim["metadata"].text("name")).collect();
    let own = claimed
        .iter()
        .enumerate()
        // One called as another is no volume of its own.
        .filter(|(at, name)| !claimed[..*at].contains(name))
        .map(|(_, name)| name)
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let rest = pod.list("volumes").iter().filter(|volume| !claimed.contains(&volume.text("name")));
    let volumes: Vec<Value> = own.chain(rest.cloned()).collect();
    pod["volumes"] = Value::Array(volumes);
    template
}

fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    let update = strategy.sub("rollingUpdate");
    match (strategy.text("type"), update) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(update)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.invalid(&rolling, update.clone(), detail);
        }
        ("RollingUpdate", Some(update)) => {
            not_negative(update, "partition", &rolling, errors);
            if let Some(most) = update.sub("maxUnavailable") {
                let path = rolling.child("maxUnavailable");
                int_or_percent(most, &path, errors);
                if number(most) == 0 {
                    errors.invalid(&path, most.clone(), "cannot be 0");
                }
                at_most_all(most, &path, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid(path, strategy.clone(), detail);
        }
    }
}
