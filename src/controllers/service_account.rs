//! ServiceAccount: every namespace has the account `default`.

use std::sync::Arc;

use apimachinery::Key;
use client::{
    Change, Informers, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_already_exists,
};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::json;

use crate::{Context, pod_control::is_terminating};

const DEFAULT: &str = "default";

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let accounts = context.informers.of::<ServiceAccount>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    namespaces.on_change(move |change| adding.add(change.object().key.clone()));
    let adding = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Delete(account) = change
            && &*account.key.name == DEFAULT
        {
            adding.add(Key::new("", account.key.namespace.clone()));
        }
    });
    Informers::synced(&[&namespaces, &accounts]).await;
    let client = context.client.clone();
    let reconcile = move |key: Key| {
        let (client, namespaces, accounts) = (client.clone(), namespaces.clone(), accounts.clone());
        async move {
            let there = accounts.get(&Key::new(key.name.clone(), DEFAULT)).is_some();
            if there || namespaces.get(&key).is_none_or(|namespace| namespace.deleting) {
                return Ok(Action::Done);
            }
            let account: ServiceAccount =
                serde_json::from_value(json!({"metadata": {"name": DEFAULT}}))?;
            let api = client.namespaced::<ServiceAccount>(&key.name);
            match api.create(&PostParams::default(), &account).await {
                Ok(_) => Ok(Action::Done),
                Err(e) if is_already_exists(&e) || is_terminating(&e) => Ok(Action::Done),
                Err(error) => Err(ReconcileError::from(error)),
            }
        }
    };
    context.work(queue, 1, reconcile).await;
}
