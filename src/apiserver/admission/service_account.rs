//! ServiceAccount: every pod has an account of its namespace, its pull secrets, and its token
//! mounted where client libraries look for it.

use std::{sync::Arc, time::Duration};

use apimachinery::{GroupResource, Key, Object, Status, names};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{AdmissionRequest, Call, Operation, Plugin};
use crate::{
    kinds::value::{Fields as _, list_mut},
    registry::metadata::generate_name,
};

pub(super) struct ServiceAccount;

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Pods may come before the controller has made the default account of a new namespace.
const PATIENCE: Duration = Duration::from_millis(1500);

/// An hour and seven seconds: by this number the server knows tokens of pods that may be used longer
/// than they should be, by clients that do not read them anew.
const TOKEN_SECONDS: i64 = 3607;

#[async_trait]
impl Plugin for ServiceAccount {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.operation {
            Operation::Create => request.is_object("", "pods"),
            Operation::Update => {
                request.is("", "pods") && request.info.subresource == "ephemeralcontainers"
            }
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(&self, call: &Call<'_>, pod: &mut Value) -> Result<(), Status> {
        if !call.request.creates() || is_mirror(pod) {
            return Ok(());
        }
        if pod["spec"].text("serviceAccountName").is_empty() {
            for field in ["serviceAccountName", "serviceAccount"] {
                pod["spec"][field] = DEFAULT.into();
            }
        }
        let account = account_of(call, pod).await?;
        let mounts = pod["spec"]
            .flag("automountServiceAccountToken")
            .or_else(|| account.flag("automountServiceAccountToken"));
        if mounts.unwrap_or(true) {
            mount_token(pod);
        }
        let secrets = account.list("imagePullSecrets");
        if pod["spec"].list("imagePullSecrets").is_empty() && !secrets.is_empty() {
            let names = secrets.iter().map(|secret| json!({"name": secret.text("name")}));
            pod["spec"]["imagePullSecrets"] = names.collect();
        }
        Ok(())
    }

    async fn validate(&self, call: &Call<'_>, pod: &Value) -> Result<(), Status> {
        let refuse = |why: &str| call.request.forbidden(pod, why);
        if call.request.creates() && is_mirror(pod) {
            return check_mirror(pod).map_err(refuse);
        }
        if pod["spec"].text("serviceAccountName").is_empty() {
            let name = pod["metadata"].text("name");
            let namespace = &call.request.info.namespace;
            return Err(refuse(&format!(
                "no service account specified for pod {namespace}/{name}"
            )));
        }
        let account = account_of(call, pod).await?;
        let enforced = account["metadata"]["annotations"].opt_text(ENFORCE);
        if !enforced.is_some_and(|on| matches!(on, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            return Ok(());
        }
        match call.request.creates() {
            true => check_secrets(&account, pod).map_err(|why| refuse(&why)),
            false => {
                let lists = [("ephemeralContainers", "ephemeral container")];
                check_environment(&account, pod, &lists).map_err(|why| refuse(&why))
            }
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].has(MIRROR)
}

/// The account that the pod names.
async fn account_of(call: &Call<'_>, pod: &Value) -> Result<Value, Status> {
    let namespace = &call.request.info.namespace;
    let name = pod["spec"].text("serviceAccountName");
    let found = find(call, &Key::new(namespace.as_str(), name)).await;
    found.and_then(|account| super::value(&account)).ok_or_else(|| {
        let wrong = names::name_is_path_segment(name, false);
        let missing = match wrong.as_slice() {
            [] => Status::not_found(&GroupResource::new("", "serviceaccount"), name).message,
            all => format!("invalid resource name {name:?}: [{}]", all.join(" ")),
        };
        let why = format!("error looking up service account {namespace}/{name}: {missing}");
        call.request.forbidden(pod, &why)
    })
}

async fn find(call: &Call<'_>, key: &Key) -> Option<Arc<Object>> {
    let accounts = call.server.collection("", "serviceaccounts")?;
    let snapshot = accounts.snapshot();
    if let Some(account) = snapshot.get(key) {
        return Some(account.clone());
    }
    if *key.name != *DEFAULT {
        return None;
    }
    let mut watch = accounts.watch(snapshot.revision()).ok()?;
    let comes = async {
        loop {
            let event = watch.next().await.ok()?;
            if event.object.key == *key {
                return accounts.get(key);
            }
        }
    };
    timeout(PATIENCE, comes).await.ok().flatten()
}

fn mount_token(pod: &mut Value) {
    let there = pod["spec"].list("volumes").iter().map(|volume| volume.text("name"));
    let there = there.filter(|name| name.starts_with(VOLUME_PREFIX)).map(ToOwned::to_owned).next();
    let volume = there.clone().unwrap_or_else(|| generate_name(VOLUME_PREFIX));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in list_mut(&mut pod["spec"], list) {
            let mounts = container.list("volumeMounts");
            if mounts.iter().any(|mount| mount.text("mountPath") == MOUNT_PATH) {
                continue;
            }
            needed = true;
            let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            push(container, "volumeMounts", mount);
        }
    }
    if needed && there.is_none() {
        let source = token_source();
        push(&mut pod["spec"], "volumes", json!({"name": volume, "projected": source}));
    }
}

fn push(object: &mut Value, list: &str, item: Value) {
    match object.get_mut(list).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => object[list] = json!([item]),
    }
}

fn token_source() -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    })
}

/// A mirror pod shows what a node runs by itself; it must not give the node access to anything.
fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    let spec = &pod["spec"];
    if !spec.text("serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if crate::authorization::node::refers_to_secrets(spec) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources =
        spec.list("volumes").iter().flat_map(|volume| volume["projected"].list("sources"));
    if sources.into_iter().any(|source| source.has("serviceAccountToken")) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn is_among(name: &str, account: &Value, list: &str) -> bool {
    account.list(list).iter().any(|secret| secret.text("name") == name)
}

/// What an account that enforces it lets its pods mount and read.
fn check_secrets(account: &Value, pod: &Value) -> Result<(), String> {
    let name = account["metadata"].text("name");
    let spec = &pod["spec"];
    for volume in spec.list("volumes") {
        let Some(source) = volume.sub("secret") else { continue };
        let secret = source.text("secretName");
        if !is_among(secret, account, "secrets") {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account \
                 {name} does not reference that secret"
            ));
        }
    }
    let lists = [("initContainers", "init container"), ("containers", "container")];
    check_environment(account, pod, &lists)?;
    for (at, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        let secret = secret.text("name");
        if !is_among(secret, account, "imagePullSecrets") {
            return Err(format!(
                "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account \
                 {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

fn check_environment(account: &Value, pod: &Value, lists: &[(&str, &str)]) -> Result<(), String> {
    let name = account["metadata"].text("name");
    for (list, kind) in lists {
        for container in pod["spec"].list(list) {
            let of = container.text("name");
            let variables = container.list("env").iter().filter_map(|variable| {
                let secret = variable["valueFrom"].sub("secretKeyRef")?;
                Some((format!("envVar {}", variable.text("name")), secret.text("name")))
            });
            let sources = container.list("envFrom").iter().filter_map(|source| {
                Some(("envFrom".to_owned(), source.sub("secretRef")?.text("name")))
            });
            for (what, secret) in variables.chain(sources) {
                if !is_among(secret, account, "secrets") {
                    return Err(format!(
                        "{kind} {of} with {what} referencing secret.secretName=\"{secret}\" is not \
                         allowed because service account {name} does not reference that secret"
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut pod = json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [
                {"name": "own", "mountPath": MOUNT_PATH}]}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}],
        }});
        mount_token(&mut pod);
        let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap_or_default().to_owned();
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(pod["spec"]["containers"][1].list("volumeMounts").len(), 1);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"][1]["readOnly"], true);

        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before, "a second run changes nothing");
    }

    #[test]
    fn an_account_may_restrict_secrets() {
        let account = json!({"metadata": {"name": "sa"}, "secrets": [{"name": "ok"}]});
        let pod = |secret: &str| {
            json!({"spec": {"containers": [{"name": "c", "env": [
                {"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]}})
        };
        assert_eq!(check_secrets(&account, &pod("ok")), Ok(()));
        assert_eq!(
            check_secrets(&account, &pod("other")),
            Err(
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed \
                 because service account sa does not reference that secret"
                    .to_owned()
            )
        );
    }
}
