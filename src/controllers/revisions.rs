//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, for rollbacks.
//!
//! Each holds the template as a strategic merge patch that would bring it back. The one equal to
//! the present template is the current one, and the pods made from it carry a label that tells.

use apimachinery::object::typed;
use client::{Api, DeleteParams, Error, Informer, Patch, PatchParams, PostParams};
use client::{informer::parse_or_warn, is_already_exists, is_not_found};
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube_core::{NamespaceResourceScope, Resource};
use serde_json::{Value, json};

use crate::{
    deployment::hash,
    ownership::{claim, controller_reference},
};

/// The label of pods: the revision that they are of. Also that of a DaemonSet's revisions.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// The revisions of one owner.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) current: ControllerRevision,
    /// Others with the current template, which should not be.
    pub(crate) duplicates: Vec<ControllerRevision>,
    pub(crate) old: Vec<ControllerRevision>,
}

impl History {
    /// The hash of the current revision.
    pub(crate) fn hash(&self) -> &str {
        hash_of(&self.current)
    }

    /// The oldest revisions beyond `limit` of which no pod is left.
    pub(crate) fn surplus(
        &self,
        limit: usize,
        is_live: impl Fn(&ControllerRevision) -> bool,
    ) -> Vec<&ControllerRevision> {
        let mut old: Vec<_> = self.old.iter().collect();
        old.sort_by_key(|revision| revision.revision);
        let surplus = old.len().saturating_sub(limit);
        old.into_iter().filter(|revision| !is_live(revision)).take(surplus).collect()
    }
}

/// The name of a revision.
pub(crate) fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// The template that a revision would bring back.
pub(crate) fn template_of(revision: &ControllerRevision) -> serde_json::Result<PodTemplateSpec> {
    typed(revision.data.0.pointer("/spec/template").unwrap_or(&Value::Null))
}

/// The hash that the pods of a DaemonSet's revision carry.
pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH_LABEL)).map_or("", String::as_str)
}

/// Deletes `revision`, unless it is gone already.
pub(crate) async fn delete(
    api: &Api<ControllerRevision>,
    revision: &ControllerRevision,
) -> Result<(), Error> {
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    match api.delete(name, &DeleteParams::default()).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// What makes a revision.
pub(crate) struct Snapshot<'a> {
    pub(crate) template: &'a PodTemplateSpec,
    /// `status.collisionCount`.
    pub(crate) collisions: i32,
    /// The label of the revision with the template's hash.
    pub(crate) label: &'static str,
}

impl Snapshot<'_> {
    fn data(&self) -> serde_json::Result<Value> {
        let mut template = serde_json::to_value(self.template)?;
        template["$patch"] = json!("replace");
        Ok(json!({"spec": {"template": template}}))
    }

    fn revision<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        data: Value,
        number: i64,
    ) -> ControllerRevision {
        let hash = hash(self.template, self.collisions);
        let meta = owner.meta();
        let labels = self.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        let mut labels = labels.unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", meta.name.as_deref().unwrap_or_default())),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                annotations: meta.annotations.clone(),
                owner_references: Some(vec![controller_reference(owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(data),
            revision: Some(number),
        }
    }
}

/// Makes sure that `owner` has a revision of its template with the highest number. `None` where
/// another template has taken the name: the owner's collision count has to go up.
pub(crate) async fn renew<K>(
    owner: &K,
    selector: &apimachinery::selector::labels::Selector,
    snapshot: &Snapshot<'_>,
    informer: &Informer,
    api: &Api<ControllerRevision>,
) -> Result<Option<History>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let claimed = claim(owner, selector, informer, api).await?;
    let all = claimed.iter().filter_map(|revision| parse_or_warn::<ControllerRevision>(revision));
    let data = snapshot.data().map_err(Error::SerdeError)?;
    let (mut same, old): (Vec<_>, Vec<_>) = all.partition(|revision| revision.data.0 == data);
    let next = old.iter().filter_map(|revision| revision.revision).max().unwrap_or(0) + 1;
    same.sort_by_key(|revision| revision.revision);
    let Some(mut current) = same.pop() else {
        let wanted = snapshot.revision(owner, data, next);
        let current = match api.create(&PostParams::default(), &wanted).await {
            Ok(created) => created,
            Err(error) if is_already_exists(&error) => {
                let there = api.get(wanted.metadata.name.as_deref().unwrap_or_default()).await?;
                if there.data != wanted.data {
                    return Ok(None);
                }
                there
            }
            Err(error) => return Err(error),
        };
        return Ok(Some(History { current, duplicates: Vec::new(), old }));
    };
    let name = current.metadata.name.clone().unwrap_or_default();
    let raised = current.revision.unwrap_or(0) < next;
    let labels = current.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(snapshot.label));
    if raised || hash.is_none() {
        let number = current.revision.unwrap_or(0).max(next);
        let patch = json!({"metadata": {"uid": current.metadata.uid,
            "labels": {snapshot.label: hash.unwrap_or(&name)}}, "revision": number});
        current = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(Some(History { current, duplicates: same, old }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;

    use super::*;

    fn revision(number: i64) -> ControllerRevision {
        serde_json::from_value(json!({"revision": number, "data": {},
            "metadata": {"name": number.to_string(), "labels": {HASH_LABEL: number.to_string()}}}))
        .unwrap()
    }

    #[test]
    fn the_oldest_revisions_without_pods_go() {
        let history = History { old: [4, 2, 3, 1].map(revision).into(), ..History::default() };
        let going = |limit, live: &str| -> Vec<i64> {
            let surplus = history.surplus(limit, |revision| hash_of(revision) == live);
            surplus.iter().filter_map(|revision| revision.revision).collect()
        };
        assert_eq!(going(2, ""), [1, 2]);
        assert_eq!(going(2, "1"), [2, 3]);
        assert_eq!(going(9, ""), [] as [i64; 0]);
    }

    #[test]
    fn a_revision_brings_its_template_back() {
        let owner: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "agent",
            "namespace": "n", "uid": "u"}, "spec": {"selector": {}, "template": {
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c"}]}}}}))
        .unwrap();
        let template = &owner.spec.template;
        let snapshot = Snapshot { template, collisions: 0, label: HASH_LABEL };
        let made = snapshot.revision(&owner, snapshot.data().unwrap(), 7);
        let other = Snapshot { collisions: 1, ..snapshot };
        let collided = other.revision(&owner, other.data().unwrap(), 7);
        assert_eq!(made.data.0["spec"]["template"]["$patch"], "replace");
        assert_eq!(made.data, collided.data);
        assert_ne!(made.metadata.name, collided.metadata.name);
        assert_eq!(made.metadata.name.clone().unwrap(), format!("agent-{}", hash_of(&made)));
        assert_eq!(template_of(&made).unwrap(), owner.spec.template);
        assert_eq!(made.metadata.labels.unwrap()["app"], "a");
    }
}
