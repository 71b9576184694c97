//! `pods/eviction`: a deletion that asks the disruption budgets first.

use std::sync::Arc;

use apimachinery::{
    GroupResource, GroupVersionKind, Object, Status, schema, selector::labels, status::StatusCause,
    time,
};
use serde_json::{Value, json};

use super::binding::set_condition;
use crate::{
    admission::{self, Operation},
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        delete::delete_object,
        direct, metadata,
        modify::stored_value,
        options::{DeleteOptions, WriteOptions},
    },
};

/// Pods whose end a budget waits for; more are not evicted until the controller has caught up.
const DISRUPTED_MAX: usize = 2000;

/// Answers the creation of an eviction.
///
/// # Errors
/// 429 when a budget does not allow it now.
pub(super) async fn evict(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let kind = GroupVersionKind::new("policy", "v1", "Eviction");
    let schema = schema::builtin("policy", "v1", "Eviction")
        .ok_or_else(|| Status::internal("no Eviction schema"))?;
    let mut eviction = call.read_object(body, options.field_validation, &kind, &schema).await?;
    metadata::match_namespace(&mut eviction, call.namespace())?;
    if metadata::name(&eviction) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let given = eviction.get("deleteOptions").filter(|options| !options.is_null()).cloned();
    let mut delete = DeleteOptions::parse(call.query, Some(given.unwrap_or_else(|| json!({}))))?;
    delete.dry_run |= options.dry_run;
    let raw = options.to_value("CreateOptions");
    let request = call.admission(Operation::Create, &kind, None, delete.dry_run, &raw);
    for warning in admission::mutate(call.server, &request, &mut eviction).await? {
        call.warnings.add(warning);
    }
    for warning in admission::validate(call.server, &request, &eviction).await? {
        call.warnings.add(warning);
    }

    let pod = find(call)?;
    let value = stored_value(&pod)?;
    let phase = value["status"]["phase"].as_str().unwrap_or_default();
    let over = pod.deleting || matches!(phase, "Succeeded" | "Failed");
    let mut guard = None;
    if over || phase == "Pending" {
        // It disrupts nothing any more, or yet; a pending pod must not have started meanwhile.
        guard = (!over).then_some(pod.revision);
    } else if let Some(budget) = budget_of(call, &pod)? {
        if unhealthy_may_go(&value, &stored_value(&budget)?) {
            guard = Some(pod.revision);
        } else {
            count_down(call, &budget, &pod.key.name, delete.dry_run).await?;
        }
    }
    remove(call, &pod, delete, guard).await?;
    Ok(Answer::created(Content::Status(Status::created())))
}

fn find(call: &Call<'_>) -> Result<Arc<Object>, Status> {
    let name = &call.info.name;
    let found = call.collection()?.get(&call.key(name));
    found.ok_or_else(|| Status::not_found(call.group_resource(), name))
}

/// The only budget that selects the pod.
fn budget_of(call: &Call<'_>, pod: &Object) -> Result<Option<Arc<Object>>, Status> {
    let Some(budgets) = call.server.collection("policy", "poddisruptionbudgets") else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for budget in budgets.snapshot().range(&pod.key.namespace) {
        let value = stored_value(budget)?;
        let selector = labels::Selector::from_object(&value["spec"]["selector"]);
        if selector.is_ok_and(|selector| selector.matches(pod)) {
            found.push(budget.clone());
        }
    }
    if found.len() > 1 {
        return Err(Status::failure(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support.",
        ));
    }
    Ok(found.pop())
}

/// Whether a pod that is not ready may go without being counted.
fn unhealthy_may_go(pod: &Value, budget: &Value) -> bool {
    let ready = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let wanted = number("desiredHealthy");
    !ready
        && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            || (number("currentHealthy") >= wanted && wanted > 0))
}

fn too_many(message: String, seconds: u32) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(text, seconds);
    if seconds == 0 {
        status.details.retry_after_seconds = None;
    }
    status.details.causes =
        vec![StatusCause { reason: "DisruptionBudget".into(), message, field: String::new() }];
    status
}

/// Takes one disruption from the budget, if it allows any.
async fn count_down(
    call: &Call<'_>,
    budget: &Object,
    pod: &str,
    dry_run: bool,
) -> Result<(), Status> {
    let table = call.server.resources.table_owned();
    let budgets =
        table.resource("policy", "poddisruptionbudgets").ok_or_else(Status::unknown_resource)?;
    direct::edit(call.server, budgets, &budget.key, dry_run, |_, value| {
        allow(value, &budget.key.name)?;
        let status = &mut value["status"];
        let left = status["disruptionsAllowed"].as_i64().unwrap_or(0) - 1;
        status["disruptionsAllowed"] = left.into();
        if !status["disruptedPods"].is_object() {
            status["disruptedPods"] = json!({});
        }
        status["disruptedPods"][pod] = time::now().into();
        if left == 0 {
            insufficient(status);
        }
        Ok(true)
    })
    .await
    .map(drop)
}

/// The condition of a budget that has nothing left.
fn insufficient(status: &mut Value) {
    let Some(list) = status["conditions"].as_array_mut() else { return };
    for condition in list.iter_mut().filter(|c| c["type"] == "DisruptionAllowed") {
        if condition["status"] != "False" {
            condition["lastTransitionTime"] = time::now().into();
        }
        condition["status"] = "False".into();
        condition["reason"] = "InsufficientPods".into();
        condition["message"] = "".into();
    }
}

/// Whether the budget allows a disruption.
fn allow(budget: &Value, name: &str) -> Result<(), Status> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if number("observedGeneration") < metadata::generation(budget) {
        return Err(too_many(
            format!("The disruption budget {name} is still being processed by the server."),
            10,
        ));
    }
    let forbidden = |why: &str, short: &str| {
        let resource = GroupResource::new("policy", "poddisruptionbudget");
        let mut refused = Status::forbidden(&resource, name, why);
        refused.details.causes = vec![StatusCause {
            reason: "DisruptionBudget".into(),
            message: format!(
                "The disruption budget {name} does not allow evicting pods currently: {short}"
            ),
            field: String::new(),
        }];
        refused
    };
    if number("disruptionsAllowed") < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(forbidden(why, why));
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        ));
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let conditions = status["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|condition| {
        condition["type"] == "DisruptionAllowed" && condition["status"] == "False"
    });
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let (healthy, wanted) = (number("currentHealthy"), number("desiredHealthy"));
    Err(too_many(
        if reason == "SyncFailed" && !message.is_empty() {
            format!(
                "The disruption budget {name} does not allow evicting pods currently because it \
                 failed sync: {message}"
            )
        } else if healthy <= wanted {
            format!(
                "The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
            )
        } else if !message.is_empty() {
            format!(
                "The disruption budget {name} does not allow evicting pods currently ({reason}): \
                 {message}"
            )
        } else {
            format!("The disruption budget {name} does not allow evicting pods currently")
        },
        0,
    ))
}

/// Notes why the pod goes, and deletes it.
async fn remove(
    call: &Call<'_>,
    pod: &Object,
    mut options: DeleteOptions,
    guard: Option<u64>,
) -> Result<(), Status> {
    let name = &call.info.name;
    if let Some(revision) = guard
        && options.preconditions.resource_version.is_none()
    {
        options.preconditions.resource_version = Some(revision.to_string());
    }
    let mut current = find(call)?;
    if !options.dry_run {
        let wanted = options.preconditions.clone();
        let edited = direct::edit(call.server, call.resource(), &pod.key, false, |current, value| {
            let mut resource = call.group_resource().clone();
            resource.resource = "Pod".into();
            let refuse = |what: &str, asked: &str, is: &str, how: &str| {
                let why = format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record \
                     ({is}). The object might have been {how}"
                );
                Err(Status::conflict(&resource, name, &why))
            };
            if let Some(uid) = wanted.uid.as_deref().filter(|uid| **uid != *current.uid) {
                return refuse("UID", uid, &current.uid, "deleted and then recreated");
            }
            let revision = wanted.resource_version.as_deref();
            if let Some(asked) = revision.filter(|r| r.parse() != Ok(current.revision)) {
                let is = current.revision.to_string();
                return refuse("ResourceVersion", asked, &is, "modified");
            }
            let why = ("EvictionByEvictionAPI", "Eviction API: evicting");
            set_condition(value, "DisruptionTarget", "True", Some(why));
            Ok(true)
        })
        .await;
        current = match edited {
            Err(status) if status.is("Conflict") && guard.is_some() => {
                return Err(too_many(
                    "The disruption budget is still being processed by the server.".to_owned(),
                    10,
                ));
            }
            other => other?,
        };
        // The mark is our own change.
        if options.preconditions.resource_version.is_some() {
            options.preconditions.resource_version = Some(current.revision.to_string());
        }
    }
    delete_object(call, current, &options).await.map(drop)
}
