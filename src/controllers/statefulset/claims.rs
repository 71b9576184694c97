//! The claims of a StatefulSet's pods: made with them, and gone with them or with the set where
//! `persistentVolumeClaimRetentionPolicy` says so, by owner references.

use apimachinery::Key;
use client::{
    Error, Patch, PatchParams, PostParams, controller::ReconcileError, events::reference,
    is_already_exists, is_conflict, is_not_found,
};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::PersistentVolumeClaim,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::json;

use super::{Controller, identity};
use crate::{ownership::controller_reference, pod_control::text_of};

/// When claims go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// With the set.
    pub(super) when_deleted: bool,
    /// With a pod that the set shrinks by.
    pub(super) when_scaled: bool,
}

impl Policy {
    pub(super) fn of(spec: &StatefulSetSpec) -> Self {
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
        Self {
            when_deleted: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }
}

/// A set and one of its pods as the owners of claims.
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) set: OwnerReference,
    /// Without a UID while the pod is not there.
    pub(super) pod: OwnerReference,
    /// Whether the set has become too small for the pod.
    pub(super) condemned: bool,
}

impl Owners {
    /// The references that a claim with `there` should have; nothing if they are right. `Err` where
    /// somebody else controls the claim.
    fn corrected(
        &self,
        there: &[OwnerReference],
        policy: Policy,
    ) -> Result<Option<Vec<OwnerReference>>, Conflict> {
        let named = |reference: &OwnerReference, owner: &OwnerReference| {
            (&reference.api_version, &reference.kind, &reference.name)
                == (&owner.api_version, &owner.kind, &owner.name)
        };
        let ours =
            |reference: &OwnerReference| named(reference, &self.set) || named(reference, &self.pod);
        let stale = |reference: &OwnerReference| {
            (named(reference, &self.set) && reference.uid != self.set.uid)
                || (named(reference, &self.pod) && reference.uid != self.pod.uid)
        };
        // The claim of a former namesake goes with it.
        if there.iter().any(stale) {
            return Ok(None);
        }
        let foreign =
            there.iter().any(|reference| !ours(reference) && reference.controller == Some(true));
        let mut wanted: Vec<OwnerReference> =
            there.iter().filter(|reference| !ours(reference)).cloned().collect();
        if foreign && policy != Policy::default() {
            return if wanted.len() == there.len() {
                Err(Conflict(None))
            } else {
                Err(Conflict(Some(wanted)))
            };
        }
        let with_pod = policy.when_scaled && self.condemned;
        if policy.when_deleted && !with_pod {
            wanted.push(self.set.clone());
        }
        if with_pod {
            wanted.push(self.pod.clone());
        }
        let holds = |reference: &OwnerReference| {
            there
                .iter()
                .any(|one| one.uid == reference.uid && one.controller == reference.controller)
        };
        let same = wanted.len() == there.len() && wanted.iter().all(holds);
        Ok((!same).then_some(wanted))
    }
}

/// Somebody else controls a claim; the references without ours, if there were any.
#[derive(Debug, PartialEq)]
struct Conflict(Option<Vec<OwnerReference>>);

impl Controller {
    /// Whether a claim still belongs to a former pod with this ordinal: it will go, and a new pod
    /// must not get it.
    pub(super) fn has_stale_claim(&self, set: &StatefulSet, policy: Policy, ordinal: i32) -> bool {
        if !policy.when_scaled {
            return false;
        }
        let pod = identity::pod_name(set, ordinal);
        identity::claims(set, ordinal).iter().any(|(_, claim)| {
            let Some(there) = self.claim(claim) else { return false };
            let owners = there.metadata.owner_references.unwrap_or_default();
            owners.iter().any(|owner| owner.kind == "Pod" && owner.name == pod)
        })
    }

    fn claim(&self, claim: &PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        self.claims.get(&Key::new(namespace, name))?.parse().ok()
    }

    /// Makes the claims of a pod that are missing.
    pub(super) async fn create_claims(
        &self,
        set: &StatefulSet,
        policy: Policy,
        ordinal: i32,
    ) -> Result<(), ReconcileError> {
        let (recorder, about) = (&self.context.recorder, reference(set));
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let pod = identity::pod_name(set, ordinal);
        for (_, mut claim) in identity::claims(set, ordinal) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if let Some(there) = self.claim(&claim) {
                if there.metadata.deletion_timestamp.is_some() {
                    return Err(ReconcileError::Other(format!("pvc {name} is being deleted")));
                }
                continue;
            }
            if policy.when_deleted {
                claim.metadata.owner_references = Some(vec![controller_reference(set)]);
            }
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            let api = self.context.client.namespaced::<PersistentVolumeClaim>(namespace);
            match api.create(&PostParams::default(), &claim).await {
                Ok(_) => {
                    let text =
                        format!("Create Claim {name} Pod {pod} in StatefulSet {set_name} success");
                    recorder.normal(&about, "SuccessfulCreate", text);
                }
                Err(error) if is_already_exists(&error) => {}
                Err(error) => {
                    let why = text_of(&error);
                    let text = format!(
                        "Create Claim {name} for Pod {pod} in StatefulSet {set_name} failed \
                         error: {why}"
                    );
                    recorder.warning(&about, "FailedCreate", text);
                    let text = format!("failed to create PVC {name}: {why}");
                    return Err(ReconcileError::Other(text));
                }
            }
        }
        Ok(())
    }

    /// Corrects the owners of a pod's claims.
    pub(super) async fn own_claims(
        &self,
        set: &StatefulSet,
        policy: Policy,
        ordinal: i32,
        owners: &Owners,
    ) -> Result<(), Error> {
        for (_, claim) in identity::claims(set, ordinal) {
            let Some(there) = self.claim(&claim) else { continue };
            let references = there.metadata.owner_references.clone().unwrap_or_default();
            let wanted = match owners.corrected(&references, policy) {
                Ok(None) => continue,
                Ok(Some(wanted)) => wanted,
                Err(Conflict(wanted)) => {
                    let name = there.metadata.name.as_deref().unwrap_or_default();
                    let text = format!(
                        "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts \
                         as a manging controller, the retention policy is ignored for this claim"
                    );
                    self.context.recorder.warning(&reference(set), "ConflictingController", text);
                    let Some(wanted) = wanted else { continue };
                    wanted
                }
            };
            let meta = &there.metadata;
            let patch = json!({"metadata": {"uid": meta.uid,
                "resourceVersion": meta.resource_version, "ownerReferences": wanted}});
            let (name, namespace) = (meta.name.as_deref(), meta.namespace.as_deref());
            let api = self
                .context
                .client
                .namespaced::<PersistentVolumeClaim>(namespace.unwrap_or_default());
            let name = name.unwrap_or_default();
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // The cache lags behind; the newer version brings the set back.
                Err(error) if !is_not_found(&error) && !is_conflict(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: if kind == "Pod" { "v1" } else { "apps/v1" }.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn owners(condemned: bool) -> Owners {
        let (set, pod) = (owner("StatefulSet", "web", "s"), owner("Pod", "web-0", "p"));
        Owners { set, pod, condemned }
    }

    fn uids(references: Option<Vec<OwnerReference>>) -> Option<String> {
        references.map(|all| all.into_iter().map(|owner| owner.uid).collect())
    }

    #[test]
    fn claims_belong_to_what_they_go_with() {
        let of = |when_deleted, when_scaled, condemned, there: &str| {
            let set = owners(condemned);
            let there: Vec<OwnerReference> = there
                .chars()
                .map(|uid| if uid == 's' { set.set.clone() } else { set.pod.clone() })
                .collect();
            let policy = Policy { when_deleted, when_scaled };
            uids(set.corrected(&there, policy).expect("no conflict"))
        };
        assert_eq!(of(false, false, true, ""), None);
        assert_eq!(of(false, false, true, "sp").as_deref(), Some(""));
        assert_eq!(of(true, false, true, "").as_deref(), Some("s"));
        assert_eq!(of(true, false, false, "s"), None);
        assert_eq!(of(false, true, false, "p").as_deref(), Some(""));
        assert_eq!(of(false, true, true, "").as_deref(), Some("p"));
        assert_eq!(of(true, true, true, "s").as_deref(), Some("p"));
        assert_eq!(of(true, true, false, "p").as_deref(), Some("s"));
    }

    #[test]
    fn foreign_and_former_owners_are_left_alone() {
        let set = owners(false);
        let policy = Policy { when_deleted: true, when_scaled: false };
        let former = [owner("StatefulSet", "web", "older")];
        assert_eq!(set.corrected(&former, policy), Ok(None));
        let foreign = [owner("Other", "o", "x"), set.set.clone()];
        let rest = Conflict(Some(vec![foreign[0].clone()]));
        assert_eq!(set.corrected(&foreign, policy), Err(rest));
        assert_eq!(set.corrected(&foreign[..1], policy), Err(Conflict(None)));
        assert_eq!(set.corrected(&foreign[..1], Policy::default()), Ok(None));
    }
}
