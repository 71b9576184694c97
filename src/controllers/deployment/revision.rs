//! ReplicaSets as revisions of a Deployment: names, hashes, annotations, history.

use std::{cmp::Ordering, collections::BTreeMap};

use apimachinery::Key;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::rolling;

pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];
/// The letters of generated names: no vowels and no digits that look like them, so that no words
/// come about.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The revision that a ReplicaSet is.
pub(super) fn of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether two templates make the same pods.
fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let bare = |template: Option<&PodTemplateSpec>| {
        let mut template = template?.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        Some(template)
    };
    bare(a) == bare(b)
}

/// Older before newer, by creation and then by name.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

/// Where in `sets` the ReplicaSet of the current template is; the oldest, should there be several.
pub(super) fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let wanted = Some(&deployment.spec.template);
    (0..sets.len())
        .filter(|at| same_template(sets[*at].spec.template.as_ref(), wanted))
        .min_by(|a, b| by_age(&sets[*a], &sets[*b]))
}

/// A short name for the template: the same for the same template and collision count.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let json = serde_json::to_value(template).as_ref().map(Value::to_string).unwrap_or_default();
    // FNV-1a: it needs to be stable and short, not strong; collisions are counted and avoided.
    let bytes = json.bytes().chain(collisions.to_le_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (0..10)
        .map(|_| {
            let letter = LETTERS[(hash % 27) as usize];
            hash /= 27;
            char::from(letter)
        })
        .collect()
}

/// The ReplicaSet of the current template, not yet created and without replicas.
pub(super) fn make_new(deployment: &Deployment, revision: i64) -> ReplicaSet {
    let collisions =
        deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = hash(&deployment.spec.template, collisions);
    let mut template = deployment.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut end = name.len().min(253 - 1 - hash.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("{}-{hash}", &name[..end]));
    set.metadata.namespace.clone_from(&deployment.metadata.namespace);
    set.metadata.labels = Some(labels);
    set.spec.replicas = Some(0);
    set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    set.spec.selector = selector;
    set.spec.template = Some(template);
    annotate(deployment, &mut set, revision);
    annotate_sizes(deployment, &mut set);
    set
}

/// Brings the annotations of the current ReplicaSet up to date: those of the Deployment and the
/// revision. The sizes stay: they tell how large it was before the Deployment was scaled. Returns
/// whether anything changed.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let before = set.metadata.annotations.clone();
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    if old.as_deref().and_then(|old| old.parse().ok()).unwrap_or(0) < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        // A template that comes back keeps the numbers it had (kubectl rollout history).
        if let Some(old) = old {
            let history = annotations.entry(HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&old);
        }
    }
    set.metadata.annotations != before
}

/// Notes on a ReplicaSet how large the Deployment is to be: by this a later pass sees that the
/// Deployment was scaled, and by how much each ReplicaSet has to follow.
pub(super) fn annotate_sizes(deployment: &Deployment, set: &mut ReplicaSet) {
    let desired = rolling::desired(deployment);
    let maximum = desired + rolling::max_surge(deployment);
    let annotations: &mut BTreeMap<_, _> = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAXIMUM.to_owned(), maximum.to_string());
}

/// The size of the Deployment that a ReplicaSet was last told.
pub(super) fn noted_desired(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, DESIRED)?.parse().ok()
}

/// The largest size of the Deployment that a ReplicaSet was last told.
pub(super) fn noted_maximum(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, MAXIMUM)?.parse().ok()
}

/// The key of a ReplicaSet, for messages and requests.
pub(super) fn key(set: &ReplicaSet) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Key::new(text(&set.metadata.namespace), text(&set.metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "annotations": {"team": "a", REVISION: "9"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_new_replica_set_is_found_again_by_its_template() {
        let first = make_new(&deployment("a"), 1);
        let second = make_new(&deployment("b"), 2);
        assert_ne!(first.metadata.name, second.metadata.name);
        assert_eq!(find_new(&deployment("b"), &[first.clone(), second]), Some(1));
        assert_eq!(find_new(&deployment("c"), &[first]), None);
    }

    #[test]
    fn a_template_that_comes_back_remembers_its_old_revision() {
        let mut set = make_new(&deployment("a"), 1);
        assert!(annotate(&deployment("a"), &mut set, 3));
        let annotations = set.metadata.annotations.clone().unwrap();
        assert_eq!((annotations[REVISION].as_str(), annotations[HISTORY].as_str()), ("3", "1"));
        assert_eq!(annotations["team"], "a");
        assert!(!annotate(&deployment("a"), &mut set, 3), "nothing left to change");
    }
}
