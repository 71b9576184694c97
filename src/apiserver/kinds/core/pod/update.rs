//! What of a Pod may change.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::{options, without};
use crate::kinds::{
    diff::diff,
    pod_spec::{self, pod_annotations, tolerations},
    validation::{Errors, Report as _, not_negative, spec},
    value::{Fields as _, same},
};

/// What holds for every Pod, new or changed.
pub(super) fn validate_pod(pod: &Value, errors: &mut Errors) {
    let meta = &pod["metadata"];
    let annotations = Path::root("metadata").child("annotations");
    pod_annotations(meta, &pod["spec"], &annotations, errors);
    pod_spec::validate(&pod["spec"], Some(meta), &spec(), options(), errors);
    if pod["spec"].text("serviceAccountName").is_empty() {
        for (at, volume) in pod["spec"].list("volumes").iter().enumerate() {
            for (index, source) in volume["projected"].list("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let path =
                        spec().child("volumes").index(at).child("projected").child("sources");
                    let path = path.index(index).child("serviceAccountToken");
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&path, detail);
                }
            }
        }
    }
    not_negative(&pod["spec"], "terminationGracePeriodSeconds", &spec(), errors);
}

/// Annotations that speak to a kubelet must not change under it.
pub(super) fn annotation_updates(old: &Value, new: &Value, errors: &mut Errors) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    let path = Path::root("metadata").child("annotations");
    let (old, new) = (&old["metadata"]["annotations"], &new["metadata"]["annotations"]);
    for (key, value) in old.as_object().into_iter().flatten() {
        if new.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in
        new.as_object().into_iter().flatten().filter(|(key, _)| old.get(key.as_str()).is_none())
    {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    validate_pod(new, errors);
    annotation_updates(old, new, errors);
    let (was, is) = (&old["spec"], &new["spec"]);
    for list in ["containers", "initContainers"] {
        if was.list(list).len() != is.list(list).len() {
            let detail = "pod updates may not add or remove containers";
            return errors.forbidden(&spec().child(list), detail);
        }
    }
    if !deadline(was, is, errors) {
        return;
    }
    added_tolerations(was, is, errors);
    removed_gates(was, is, errors);
    if same(was, is) {
        return;
    }
    let munged = munge(was, is, errors);
    if !same(was, &munged) {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            diff("core.PodSpec", was, &munged)
        );
        errors.forbidden(&spec(), &detail);
    }
}

/// A deadline may come, and come closer. False when the rest need not be looked at.
fn deadline(was: &Value, is: &Value, errors: &mut Errors) -> bool {
    let path = spec().child("activeDeadlineSeconds");
    match (was.int("activeDeadlineSeconds"), is.int("activeDeadlineSeconds")) {
        (_, Some(now)) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            errors.invalid(&path, now, &names::inclusive_range_error(0, i64::from(i32::MAX)));
            false
        }
        (Some(before), Some(now)) if before < now => {
            errors.invalid(&path, now, "must be less than or equal to previous value");
            false
        }
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid_nil(&path, detail);
            true
        }
        _ => true,
    }
}

fn added_tolerations(was: &Value, is: &Value, errors: &mut Errors) {
    let kept = was.list("tolerations").iter().all(|old| {
        let old = without(old, &["tolerationSeconds"]);
        is.list("tolerations").iter().any(|new| same(&old, &without(new, &["tolerationSeconds"])))
    });
    if kept {
        return tolerations_again(is, errors);
    }
    let detail = "existing toleration can not be modified except its tolerationSeconds";
    errors.forbidden(&spec().child("tolerations"), detail);
}

/// Upstream validates them a second time here; the same error twice is of use to nobody.
fn tolerations_again(is: &Value, errors: &mut Errors) {
    let mut again = Errors::new();
    tolerations(is, &spec(), &mut again);
    again.retain(|error| !errors.contains(error));
    errors.append(&mut again);
}

fn removed_gates(was: &Value, is: &Value, errors: &mut Errors) {
    let known =
        |name: &str| was.list("schedulingGates").iter().any(|gate| gate.text("name") == name);
    for (at, gate) in is.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !known(name) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let path = spec().child("schedulingGates").index(at).child("name");
            errors.forbidden(&path, &detail);
        }
    }
}

/// The new spec with all that may change as it was.
fn munge(was: &Value, is: &Value, errors: &mut Errors) -> Value {
    let mut munged = is.clone();
    for list in ["containers", "initContainers"] {
        let all = munged.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (new, old) in all.zip(was.list(list)) {
            copy(old, new, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy(was, &mut munged, field);
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    if was.int(GRACE).is_some_and(|grace| grace < 0) && is.int(GRACE) == Some(1) {
        copy(was, &mut munged, GRACE);
    }
    // What a gate holds back may still be told where to go.
    if !was.list("schedulingGates").is_empty() {
        if !same(&was["nodeSelector"], &munged["nodeSelector"]) {
            let kept = was
                .strings("nodeSelector")
                .all(|(key, value)| munged["nodeSelector"].opt_text(key) == Some(value));
            if !kept {
                let detail =
                    "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
                let value = munged["nodeSelector"].clone();
                errors.invalid(&spec().child("nodeSelector"), value, detail);
            }
            copy(was, &mut munged, "nodeSelector");
        }
        node_affinity(was, &mut munged, errors);
    }
    munged
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// A gated pod's required node affinity may become narrower.
fn node_affinity(was: &Value, munged: &mut Value, errors: &mut Errors) {
    let old = was["affinity"]["nodeAffinity"].clone();
    let new = munged["affinity"]["nodeAffinity"].clone();
    if same(&old, &new) {
        return;
    }
    let path = spec().child("affinity").child("nodeAffinity");
    let terms = path.child(REQUIRED).child("nodeSelectorTerms");
    let (before, after) =
        (old[REQUIRED].list("nodeSelectorTerms"), new[REQUIRED].list("nodeSelectorTerms"));
    if !before.is_empty() {
        if before.len() != after.len() {
            let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.invalid(&terms, after.to_vec(), detail);
        } else {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                let empty = before.list("matchExpressions").is_empty()
                    && before.list("matchFields").is_empty();
                let starts = |field: &str| after.list(field).starts_with(before.list(field));
                if empty && !same(before, after)
                    || !starts("matchExpressions")
                    || !starts("matchFields")
                {
                    let detail = "only additions are allowed (no mutations or deletions)";
                    errors.invalid(&terms.index(at), after.clone(), detail);
                }
            }
        }
    }
    let others = ["podAffinity", "podAntiAffinity"];
    let only_node = others.iter().all(|field| !munged["affinity"].has(field));
    if !was.has("affinity") && only_node {
        crate::kinds::value::remove(munged, "affinity");
    } else if let Some(affinity) = crate::kinds::value::object_at(munged, "affinity") {
        affinity.insert("nodeAffinity".to_owned(), old);
    }
}

/// Only the ephemeral containers come from the client.
pub(super) fn keep_all_but_ephemeral_containers(old: &Value, new: &mut Value) {
    let own = new["spec"]["ephemeralContainers"].clone();
    copy(old, new, "spec");
    copy(old, new, "status");
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("ephemeralContainers".to_owned(), own);
    }
}

pub(super) fn ephemeral_containers(old: &Value, new: &Value, errors: &mut Errors) {
    validate_pod(new, errors);
    annotation_updates(old, new, errors);
    if old["metadata"]["annotations"].has("kubernetes.io/config.mirror") {
        errors.clear();
        let detail = "static pods do not support ephemeral containers";
        errors.push(FieldError::forbidden(&Path::root(""), detail));
        return;
    }
    let path = spec().child("ephemeralContainers");
    let all = new["spec"].list("ephemeralContainers");
    for container in old["spec"].list("ephemeralContainers") {
        let name = container.text("name");
        match all.iter().find(|other| other.text("name") == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, &detail);
            }
            Some(other) if !same(container, other) => {
                let detail = format!(
                    "existing ephemeral containers {name:?} may not be changed\n{}",
                    diff("core.EphemeralContainer", container, other)
                );
                errors.forbidden(&path, &detail);
            }
            Some(_) => {}
        }
    }
}
