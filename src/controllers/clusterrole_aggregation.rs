//! ClusterRole aggregation: roles such as `admin`, `edit` and `view` have the rules of all
//! ClusterRoles that their `aggregationRule` selects.

use std::sync::Arc;

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Informer, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, json};

use crate::Context;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let roles = context.informers.of::<ClusterRole>();
    let queue = Arc::new(WorkQueue::new());
    let (adding, known) = (queue.clone(), roles.clone());
    roles.on_change(move |change| {
        adding.add(change.object().key.clone());
        for role in known.list() {
            let selects = |object: &Object| selectors(&role).iter().any(|s| s.matches(object));
            if selects(change.object()) || change.previous().is_some_and(|old| selects(old)) {
                adding.add(role.key.clone());
            }
        }
    });
    roles.synced().await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (roles, client) = (roles.clone(), client.clone());
        async move {
            let Some(patch) = patch(&roles, &key)? else { return Ok(Action::Done) };
            let api = client.cluster::<ClusterRole>();
            match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(error) if !is_not_found(&error) => Err(ReconcileError::from(error)),
                _ => Ok(Action::Done),
            }
        }
    };
    context.work(queue, 1, work).await;
}

/// What a role aggregates; nothing for most.
fn selectors(role: &Object) -> Vec<Selector> {
    // Few roles aggregate: most are told by a look that costs no parse.
    let aggregates =
        std::str::from_utf8(&role.body).is_ok_and(|text| text.contains("aggregationRule"));
    let Some(value) = aggregates.then(|| role.value().ok()).flatten() else { return Vec::new() };
    let selectors = value["aggregationRule"]["clusterRoleSelectors"].as_array();
    let selectors = selectors.into_iter().flatten();
    selectors.filter_map(|selector| Selector::from_object(selector).ok()).collect()
}

/// The change that gives the role at `key` the rules that it aggregates, if it needs any.
fn patch(roles: &Informer, key: &Key) -> serde_json::Result<Option<Value>> {
    let Some(role) = roles.get(key) else { return Ok(None) };
    let selectors = selectors(&role);
    if selectors.is_empty() {
        return Ok(None);
    }
    let mut rules: Vec<Value> = Vec::new();
    // The list is in the order of names, which keeps the rules in an order that stays.
    for other in roles.list() {
        if other.key == *key || !selectors.iter().any(|selector| selector.matches(&*other)) {
            continue;
        }
        for rule in other.value()?["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    let there = role.value()?["rules"].take();
    let same = there.as_array().map_or(rules.is_empty(), |there| *there == rules);
    Ok((!same).then(|| json!({"metadata": {"uid": role.uid}, "rules": rules})))
}
