//! Which volume suits which claim.

use std::collections::BTreeMap;

use apimachinery::{quantity::Quantity, selector::labels::Selector};
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::api::resource,
};
use placement::affinity;

use crate::daemonset::placement::NodeFacts;

/// The annotation that named the class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The claim's storage class, empty if it wants none.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let old = claim.metadata.annotations.as_ref().and_then(|all| all.get(OLD_CLASS));
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(class).map_or("", String::as_str)
}

/// Whether the claim says which class it wants, if only that it wants none.
pub(super) fn names_class(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_CLASS))
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let old = volume.metadata.annotations.as_ref().and_then(|all| all.get(OLD_CLASS));
    let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    old.or(class).map_or("", String::as_str)
}

/// Whether the volume names the claim as its own; before it was bound it may leave the UID out.
pub(super) fn refers_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| {
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && reference
                .uid
                .as_ref()
                .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
    })
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    amount(resources.and_then(|resources| resources.requests.as_ref()))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    amount(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn amount(list: Option<&BTreeMap<String, resource::Quantity>>) -> Quantity {
    let storage = list.and_then(|list| list.get("storage"));
    storage.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or(Quantity::ZERO)
}

/// Whether one is a file system and the other a device.
pub(super) fn modes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let or_default = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    or_default(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
        != or_default(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

fn attributes_differ(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let or_empty = |class: Option<&String>| class.cloned().unwrap_or_default();
    or_empty(volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
        != or_empty(claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
}

fn accesses(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

fn can_be_accessed(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    wanted.unwrap_or_default().iter().all(|mode| accesses(volume).contains(mode))
}

/// Why a volume that the claim asks for by name does not do, in upstream's words.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion \"{name}\""));
    }
    let reason = if capacity(volume).value() < requested(claim).value() {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes_differ(volume, claim) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(volume, claim) {
        "incompatible volumeMode"
    } else if !can_be_accessed(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Whether pods on `node` can use the volume.
pub(super) fn is_within_reach(volume: &PersistentVolume, node: &NodeFacts) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required.as_ref())
        .is_none_or(|required| affinity::matches(required, node))
}

/// The volume that suits the claim best: one that was kept for it, else the smallest of those that
/// can be accessed in the fewest more ways than it asks for. Where binding waits for a consumer
/// (`delayed`) only the former.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [PersistentVolume],
    delayed: bool,
) -> Option<&'a PersistentVolume> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector.map(serde_json::to_value) {
        Some(value) => Some(Selector::from_object(&value.ok()?).ok()?),
        None => None,
    };
    let fits = |volume: &&PersistentVolume| {
        let bound_elsewhere = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
            && !refers_to(volume, claim);
        !bound_elsewhere
            && volume.metadata.deletion_timestamp.is_none()
            && can_be_accessed(volume, claim)
            && capacity(volume) >= requested(claim)
            && !modes_differ(volume, claim)
            && !attributes_differ(volume, claim)
    };
    let phase = |volume: &PersistentVolume| volume.status.as_ref()?.phase.clone();
    let fitting = || volumes.iter().filter(fits);
    if let Some(kept) = fitting().find(|volume| refers_to(volume, claim)) {
        return Some(kept);
    }
    if delayed {
        return None;
    }
    let none = BTreeMap::new();
    fitting()
        .filter(|volume| phase(volume).as_deref() == Some("Available"))
        .filter(|volume| {
            let labels = volume.metadata.labels.as_ref().unwrap_or(&none);
            selector.as_ref().is_none_or(|selector| selector.matches(labels))
        })
        .filter(|volume| class_of_volume(volume) == class_of_claim(claim))
        .min_by(|a, b| {
            let ways = accesses(a).len().cmp(&accesses(b).len());
            ways.then_with(|| capacity(a).cmp(&capacity(b)))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "resources": {"requests": {"storage": "1Gi"}}}});
        for (field, value) in spec.as_object().unwrap() {
            claim["spec"][field] = value.clone();
        }
        serde_json::from_value(claim).unwrap()
    }

    fn volume(name: &str, size: &str, spec: Value) -> PersistentVolume {
        let mut volume = json!({"metadata": {"name": name, "labels": {"name": name}},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}},
            "status": {"phase": "Available"}});
        for (field, value) in spec.as_object().unwrap() {
            volume["spec"][field] = value.clone();
        }
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn the_smallest_volume_that_suits_is_taken() {
        let volumes = [
            volume("big", "5Gi", json!({})),
            volume("small", "512Mi", json!({})),
            volume("fits", "2Gi", json!({})),
            volume("shared", "1Gi", json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]})),
            volume("device", "1Gi", json!({"volumeMode": "Block"})),
            volume("classy", "1Gi", json!({"storageClassName": "gold"})),
            volume("taken", "1Gi", json!({"claimRef": {"name": "x", "namespace": "n"}})),
            volume(
                "kept",
                "9Gi",
                json!({"storageClassName": "other",
                "claimRef": {"name": "kept", "namespace": "n"}}),
            ),
        ];
        let best_of = |claim: &PersistentVolumeClaim, delayed| {
            let found = best(claim, &volumes, delayed)?;
            found.metadata.name.clone()
        };
        let of = |spec: Value| best_of(&claim(spec), false);
        assert_eq!(of(json!({})).as_deref(), Some("fits"));
        assert_eq!(of(json!({"accessModes": ["ReadWriteMany"]})).as_deref(), Some("shared"));
        assert_eq!(of(json!({"volumeMode": "Block"})).as_deref(), Some("device"));
        assert_eq!(of(json!({"storageClassName": "gold"})).as_deref(), Some("classy"));
        let selector = json!({"selector": {"matchLabels": {"name": "big"}}});
        assert_eq!(of(selector).as_deref(), Some("big"));
        assert_eq!(of(json!({"volumeAttributesClassName": "fast"})), None);
        assert_eq!(best_of(&claim(json!({})), true), None, "binding waits");
        let mut kept = claim(json!({}));
        kept.metadata.name = Some("kept".to_owned());
        assert_eq!(best_of(&kept, true).as_deref(), Some("kept"));
    }

    #[test]
    fn a_volume_asked_for_by_name_says_why_it_does_not_do() {
        let claim = claim(json!({"storageClassName": "gold"}));
        let why = |size: &str, spec: Value| mismatch(&volume("v", size, spec), &claim);
        assert_eq!(why("1Mi", json!({})).as_deref(), Some("requested PV is too small"));
        assert_eq!(why("1Gi", json!({})).as_deref(), Some("storageClassName does not match"));
        assert_eq!(why("1Gi", json!({"storageClassName": "gold"})), None);
    }
}
