//! Follows the APIServices: keeps those of this server, asks the others whether they are there.

use std::{sync::Arc, time::Duration};

use apimachinery::{Object, Status, time};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use storage::{Collection, Watch};
use tracing::{info, warn};

use super::{Remote, registration};
use crate::{
    Shared,
    http::client::{self, Trust},
    proxy::service::endpoint,
    registry::direct,
};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
/// How often servers that are there are asked again, and others, as upstream does.
const AGAIN: Duration = Duration::from_secs(30);
/// Changes come in bursts: so long is waited for the rest of one.
const BURST: Duration = Duration::from_millis(200);
/// A server must say what it serves within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the APIServices until the server stops.
pub async fn run(server: Arc<Shared>) {
    let Some(services) = server.collection(GROUP, PLURAL) else { return };
    let mut generation = server.resources.changes();
    loop {
        generation.mark_unchanged();
        let begin = services.snapshot().revision();
        registration::reconcile(&server, &services, &server.resources.table_owned()).await;
        let (found, verdicts) = remotes(&server, &services).await;
        let some = !found.is_empty();
        server.aggregator.remotes.store(Arc::new(found));
        // After that: who reads in a status what is served finds it served.
        for verdict in verdicts {
            if let Err(error) = tell(&server, &verdict).await {
                warn!(service = %verdict.service.key, %error, "status not written");
            }
        }
        let Ok(mut changes) = services.watch(begin) else { continue };
        // What is behind the Services only matters while there is one to ask.
        let mut slices = match some {
            true => server
                .collection("discovery.k8s.io", "endpointslices")
                .and_then(|slices| slices.watch(begin).ok()),
            false => None,
        };
        tokio::select! {
            () = server.stop.cancelled() => return,
            () = foreign(&mut changes) => {}
            () = any(&mut slices) => {}
            _ = generation.changed() => {}
            () = tokio::time::sleep(AGAIN), if some => {}
        }
        tokio::time::sleep(BURST).await;
    }
}

/// Waits for a change of the specification of an APIService: the status is written here.
async fn foreign(changes: &mut Watch) {
    loop {
        let Ok(event) = changes.next().await else { return };
        let spec = |object: &Arc<Object>| object.value().ok().map(|value| value["spec"].clone());
        let before = event.previous.as_ref().and_then(spec);
        if event.kind == storage::EventKind::Deleted || before != spec(&event.object) {
            return;
        }
    }
}

async fn any(changes: &mut Option<Watch>) {
    match changes {
        Some(changes) => drop(changes.next().await),
        None => std::future::pending().await,
    }
}

/// What is found out about an APIService, for its status.
struct Verdict {
    service: Arc<Object>,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// The APIServices of other servers, each asked whether it answers.
async fn remotes(server: &Shared, services: &Collection) -> (Vec<Arc<Remote>>, Vec<Verdict>) {
    let (mut all, mut verdicts) = (Vec::new(), Vec::new());
    for object in services.snapshot().iter() {
        let Ok(value) = object.value() else { continue };
        if !value["spec"]["service"].is_object() {
            continue;
        }
        let mut remote = match remote(server, &value) {
            Ok(remote) => remote,
            Err(why) => {
                warn!(service = %object.key, why, "api service cannot be used");
                continue;
            }
        };
        let (status, reason, message) = match check(server, &remote).await {
            Ok(resources) => {
                remote.resources = resources;
                remote.available = true;
                ("True", "Passed", "all checks passed".to_owned())
            }
            Err((reason, message)) => ("False", reason, message),
        };
        verdicts.push(Verdict { service: object.clone(), status, reason, message });
        all.push(Arc::new(remote));
    }
    (all, verdicts)
}

fn remote(server: &Shared, value: &Value) -> Result<Remote, String> {
    let spec = &value["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let identity = server.config.front_proxy.as_ref();
    let bundle = STANDARD.decode(text(&spec["caBundle"])).map_err(|error| error.to_string())?;
    let trust = match spec["insecureSkipTLSVerify"] == true {
        true => Trust::Anyone,
        false => Trust::Authorities(&bundle),
    };
    Ok(Remote {
        name: text(&value["metadata"]["name"]),
        group: text(&spec["group"]),
        version: text(&spec["version"]),
        namespace: text(&spec["service"]["namespace"]),
        service: text(&spec["service"]["name"]),
        port: spec["service"]["port"].as_u64().unwrap_or(443).to_string(),
        tls: client::tls(&trust, identity)?,
        available: false,
        resources: Value::Null,
    })
}

/// Asks a server what it serves.
async fn check(server: &Shared, remote: &Remote) -> Result<Value, (&'static str, String)> {
    let Remote { namespace, service, port, group, version, .. } = remote;
    if server.get("", "services", namespace, service).is_none() {
        let message = format!("service/{service} in {namespace:?} is not present");
        return Err(("ServiceNotFound", message));
    }
    if let Err(status) = endpoint(server, namespace, service, port, false) {
        return Err(if status.message.starts_with("no service port") {
            let message =
                format!("service/{service} in {namespace:?} is not listening on port {port}");
            ("ServicePortError", message)
        } else {
            let message = format!(
                "endpointslices for service/{service} in {namespace:?} have no addresses with port \
                 name \"\""
            );
            ("MissingEndpoints", message)
        });
    }
    let path = format!("/apis/{group}/{version}");
    let asked = tokio::time::timeout(PATIENCE, discover(server, remote, &path)).await;
    let answer = asked.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    answer.map_err(|why| {
        let message = format!(
            "failing or missing response from https://{service}.{namespace}.svc:{port}{path}: {why}"
        );
        ("FailedDiscoveryCheck", message)
    })
}

async fn discover(server: &Shared, remote: &Remote, path: &str) -> Result<Value, String> {
    let target = remote.target(server, path).map_err(|status| status.message)?;
    let user = crate::request::UserInfo {
        name: "system:kube-aggregator".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..Default::default()
    };
    let response = client::get(&target, "application/json", super::identity(&user))
        .await
        .map_err(|status| status.message)?;
    if !response.status().is_success() {
        return Err(format!("bad status: {}", response.status().as_u16()));
    }
    let bytes = client::read(response.into_body()).await?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Sets the condition `Available`.
async fn tell(server: &Shared, verdict: &Verdict) -> Result<(), Status> {
    let Verdict { service, status, reason, message } = verdict;
    let table = server.resources.table_owned();
    let resource = table.resource(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    direct::edit(server, resource, &service.key, false, |_, value| {
        let mut known = value["status"]["conditions"].as_array().into_iter().flatten();
        let known = known.find(|condition| condition["type"] == "Available").cloned();
        let same = |field: &str, wanted: &str| known.as_ref().is_some_and(|k| k[field] == wanted);
        if same("status", status) && same("reason", reason) && same("message", message) {
            return Ok(false);
        }
        let since = match same("status", status) {
            true => known.as_ref().map(|known| known["lastTransitionTime"].clone()),
            false => None,
        };
        info!(service = %service.key, status, reason, "api service");
        value["status"] = json!({ "conditions": [{
            "type": "Available", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| time::now().into()),
        }] });
        Ok(true)
    })
    .await
    .map(drop)
}
