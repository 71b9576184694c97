//! What makes a StatefulSet's pods distinct: ordinals, names, and the claims of their own.

use std::ops::Range;

use apimachinery::Object;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{ownership::controller_reference, revisions::HASH_LABEL};

/// Label of a pod: its name, by which a Service can select one.
pub(super) const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Label of a pod: its ordinal.
pub(super) const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// `spec.replicas`.
pub(super) fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1).max(0)
}

/// The ordinals that the set is to have.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    start..start.saturating_add(replicas(set))
}

/// The ordinal of a pod of the set named `parent`; nothing for other names.
pub(super) fn ordinal(parent: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(parent)?.strip_prefix('-')?;
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Larger numbers and those with zeros in front are no names that this would give.
    digits.parse().ok().filter(|number: &i32| only_digits && number.to_string() == digits)
}

/// The name of the set's pod with this ordinal.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The claims of the pod with this ordinal, each with the volume that it is for.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let templates = set.spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let volume = template.metadata.name.clone().unwrap_or_default();
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{volume}-{}", pod_name(set, ordinal))),
                    namespace: set.metadata.namespace.clone(),
                    labels: Some(labels).filter(|labels| !labels.is_empty()),
                    annotations: template.metadata.annotations.clone(),
                    finalizers: template.metadata.finalizers.clone(),
                    ..ObjectMeta::default()
                },
                spec: template.spec.clone(),
                status: None,
            };
            (volume, claim)
        })
        .collect()
}

/// The pod with this ordinal, made from `template`, which `revision` keeps.
pub(super) fn pod(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let name = pod_name(set, ordinal);
    let mut labels = meta.labels.unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.service_name.clone();
    let mut volumes: Vec<Volume> = claims(set, ordinal)
        .into_iter()
        .map(|(volume, claim)| Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.metadata.name.unwrap_or_default(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        })
        .collect();
    let own = volumes.len();
    let others = spec.volumes.take().unwrap_or_default();
    let hides = |volume: &Volume| volumes[..own].iter().any(|mine| mine.name == volume.name);
    let others: Vec<Volume> = others.into_iter().filter(|volume| !hides(volume)).collect();
    volumes.extend(others);
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Whether a pod has the labels that tell it from its siblings.
pub(super) fn is_labelled(pod: &Object) -> bool {
    pod.label(NAME_LABEL) == Some(&*pod.key.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_names_of_the_set_have_ordinals() {
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-", None),
            ("web-a", None),
            ("web--1", None),
            ("webs-1", None),
            ("web-1-2", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(ordinal("web", name), expected, "{name}");
        }
    }

    #[test]
    fn a_pod_has_its_name_and_its_claims() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"serviceName": "nginx", "replicas": 2, "ordinals": {"start": 5},
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [],
                    "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"a": "b"}},
                    "spec": {}}]}}))
        .unwrap();
        assert_eq!(ordinals(&set), 5..7);
        let pod = pod(&set, &set.spec.template, "web-abc", 5);
        assert_eq!(
            serde_json::to_value(&pod).unwrap(),
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web-5", "namespace": "n", "labels": {"app": "web",
                    NAME_LABEL: "web-5", INDEX_LABEL: "5", HASH_LABEL: "web-abc"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet",
                        "name": "web", "uid": "u", "controller": true,
                        "blockOwnerDeletion": true}]},
                "spec": {"containers": [], "hostname": "web-5", "subdomain": "nginx", "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-5"}},
                    {"name": "tmp"}]}})
        );
        let [(_, claim)] = claims(&set, 5).try_into().unwrap();
        let labels = claim.metadata.labels.unwrap();
        assert_eq!((labels["a"].as_str(), labels["app"].as_str()), ("b", "web"));
    }
}
