//! ResourceQuota: what a write would use more must fit into the quotas of the namespace, and is
//! charged before the write. The quota controller corrects what failed afterwards.

use std::collections::BTreeSet;

use apimachinery::{Draft, GroupResource, Object, Status, quantity::Quantity};
use async_trait::async_trait;
use quota::{Amounts, amounts, constraints, matching, scopes, usage};
use serde_json::Value;
use storage::{Collection, Write, WriteError};

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct ResourceQuota;

/// How often a charge is tried again because someone else changed the quota.
const ATTEMPTS: usize = 16;

#[async_trait]
impl Plugin for ResourceQuota {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        if request.info.namespace.is_empty() || request.is("", "events") {
            return false;
        }
        let sub = request.info.subresource.as_str();
        let written = request.creates() || request.updates();
        match (request.info.group.as_str(), request.info.resource.as_str()) {
            ("events.k8s.io", "events") | ("", "namespaces") => false,
            ("", "pods") => match sub {
                "" => written,
                "resize" => request.updates(),
                _ => false,
            },
            ("", "services") => written && sub.is_empty(),
            ("", "persistentvolumeclaims") => {
                written && sub.is_empty() || request.updates() && sub == "status"
            }
            _ => request.creates() && sub.is_empty() && stores(request),
        }
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let request = call.request;
        let is_plain_update =
            request.is_object("", "pods") && request.updates() && !changes_scope(request, object);
        let Some(collection) = call.server.collection("", "resourcequotas") else { return Ok(()) };
        let snapshot = collection.snapshot();
        if is_plain_update || snapshot.range(&request.info.namespace).next().is_none() {
            return Ok(());
        }
        // All must have room before any is charged.
        let mut charges = Vec::new();
        for current in snapshot.range(&request.info.namespace) {
            let Some(quota) = super::value(current) else { continue };
            if let Some(used) = charge(request, &quota, object)? {
                charges.push((current.clone(), quota, used));
            }
        }
        if request.dry_run {
            return Ok(());
        }
        for (current, quota, used) in charges {
            commit(call, &collection, (current, quota, used), object).await?;
        }
        Ok(())
    }
}

/// Reviews and other resources that store nothing count nowhere.
fn stores(request: &AdmissionRequest<'_>) -> bool {
    !matches!(
        request.info.group.as_str(),
        "authorization.k8s.io" | "authentication.k8s.io" | "events.k8s.io"
    ) && !request.is("", "bindings")
}

/// Whether a pod moves between the scopes of ending and not ending pods.
fn changes_scope(request: &AdmissionRequest<'_>, pod: &Value) -> bool {
    let ends =
        |pod: &Value| pod["spec"].int("activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    ends(request.old()) != ends(pod)
}

fn matches(resource: &GroupResource, quota: &Value, object: &Value) -> bool {
    scopes(quota).iter().all(|scope| scope.matches(resource, object))
}

/// What the quota will have been used after the write; nothing when the write does not concern it.
fn charge(
    request: &AdmissionRequest<'_>,
    quota: &Value,
    object: &Value,
) -> Result<Option<Amounts>, Status> {
    let resource = request.resource();
    let refuse = |why: String| request.forbidden(object, &why);
    let name = quota["metadata"].text("name");
    let (hard, used) =
        (amounts::read(&quota["status"]["hard"]), amounts::read(&quota["status"]["used"]));
    let concerned = matching(&resource, hard.keys().map(String::as_str));
    if concerned.is_empty() || !matches(&resource, quota, object) {
        return Ok(None);
    }
    constraints(&resource, &concerned, object)
        .map_err(|why| refuse(format!("failed quota: {name}: {why}")))?;
    if !concerned.iter().all(|resource| used.contains_key(*resource)) {
        let concerned: Vec<&str> = concerned.into_iter().collect();
        return Err(refuse(format!(
            "status unknown for quota: {name}, resources: {}",
            concerned.join(",")
        )));
    }
    let mut delta = usage(&resource, object);
    let negative: BTreeSet<&str> = delta
        .iter()
        .filter(|(_, amount)| **amount < Quantity::ZERO)
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        let negative: Vec<&str> = negative.into_iter().collect();
        return Err(refuse(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        )));
    }
    if let Some(old) = request.old.filter(|old| matches(&resource, quota, old)) {
        delta = amounts::increase(&delta, &usage(&resource, old));
    }
    delta.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
    if delta.is_empty() {
        return Ok(None);
    }
    let mut after = used.clone();
    amounts::add(&mut after, &delta);
    if request.info.subresource != "status" {
        let over = |name: &String| after.get(name) > hard.get(name);
        let exceeded: Vec<String> = delta.keys().filter(|name| over(name)).cloned().collect();
        if !exceeded.is_empty() {
            let masked = |all: &Amounts| {
                let mut all = all.clone();
                all.retain(|name, _| exceeded.contains(name));
                amounts::text(&all)
            };
            return Err(refuse(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                masked(&delta),
                masked(&used),
                masked(&hard)
            )));
        }
    }
    Ok(Some(after))
}

/// Writes the charge; looks again at a quota that someone else has changed.
async fn commit(
    call: &Call<'_>,
    collection: &Collection,
    first: (std::sync::Arc<Object>, Value, Amounts),
    object: &Value,
) -> Result<(), Status> {
    let (mut current, mut quota, mut used) = first;
    for _ in 0..ATTEMPTS {
        if let Some(status) = object_at(&mut quota, "status") {
            status.insert("used".to_owned(), amounts::write(&used));
        }
        let draft = Draft::new(&quota, collection.fields()).map_err(Status::internal)?;
        let write = Write::Update { draft, expected: current.revision };
        match call.server.store.commit(collection, write).await {
            Ok(_) | Err(WriteError::NotFound) => return Ok(()),
            Err(WriteError::Conflict(newer)) => {
                let Some(value) = super::value(&newer) else { return Ok(()) };
                let Some(after) = charge(call.request, &value, object)? else { return Ok(()) };
                (current, quota, used) = (newer, value, after);
            }
            Err(error) => return Err(Status::internal(error)),
        }
    }
    let resource = GroupResource::new("", "resourcequotas");
    Err(Status::modified(&resource, &current.key.name))
}

#[cfg(test)]
mod tests {
    use apimachinery::GroupVersionKind;
    use serde_json::json;

    use super::*;
    use crate::{
        admission::Operation,
        request::{RequestInfo, UserInfo},
    };

    fn charged(
        operation: Operation,
        old: Option<&Value>,
        quota: &Value,
        pod: &Value,
    ) -> Result<Option<String>, String> {
        let info = RequestInfo {
            namespace: "n".to_owned(),
            resource: "pods".to_owned(),
            name: "p".to_owned(),
            ..RequestInfo::default()
        };
        let request = AdmissionRequest {
            user: &UserInfo::default(),
            info: &info,
            operation,
            kind: &GroupVersionKind::new("", "v1", "Pod"),
            old,
            dry_run: false,
            options: &Value::Null,
        };
        charge(&request, quota, pod)
            .map(|used| used.map(|used| amounts::text(&used)))
            .map_err(|status| status.message)
    }

    fn quota(hard: &Value, used: &Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {}, "status": {"hard": hard, "used": used}})
    }

    fn pod(cpu: &str) -> Value {
        json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[test]
    fn what_fits_is_charged() {
        let quota =
            quota(&json!({"cpu": "2", "services": "1"}), &json!({"cpu": "1", "services": "1"}));
        let create = Operation::Create;
        assert_eq!(charged(create, None, &quota, &pod("1")), Ok(Some("cpu=2,services=1".into())));
        assert_eq!(
            charged(create, None, &quota, &pod("1500m")),
            Err("pods \"p\" is forbidden: exceeded quota: q, requested: cpu=1500m, used: cpu=1, \
                 limited: cpu=2"
                .into())
        );
        assert_eq!(
            charged(Operation::Update, Some(&pod("1")), &quota, &pod("1200m")),
            Ok(Some("cpu=1200m,services=1".into()))
        );
        assert_eq!(charged(Operation::Update, Some(&pod("1")), &quota, &pod("500m")), Ok(None));
    }

    #[test]
    fn a_quota_that_does_not_concern_the_pod_is_left_alone() {
        let services = quota(&json!({"services": "1"}), &json!({"services": "1"}));
        assert_eq!(charged(Operation::Create, None, &services, &pod("1")), Ok(None));
        let mut ending = quota(&json!({"pods": "0"}), &json!({"pods": "0"}));
        ending["spec"]["scopes"] = json!(["Terminating"]);
        assert_eq!(charged(Operation::Create, None, &ending, &pod("1")), Ok(None));
    }

    #[test]
    fn a_quota_demands_what_it_limits() {
        let limits = quota(&json!({"limits.cpu": "1"}), &json!({"limits.cpu": "0"}));
        assert_eq!(
            charged(Operation::Create, None, &limits, &pod("1")),
            Err("pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: c".into())
        );
        let unknown = quota(&json!({"pods": "1"}), &json!({}));
        assert_eq!(
            charged(Operation::Create, None, &unknown, &pod("1")),
            Err("pods \"p\" is forbidden: status unknown for quota: q, resources: pods".into())
        );
    }
}
