//! `pods/binding`: the scheduler puts a pod on a node.

use apimachinery::{
    GroupVersionKind, Key, Status,
    field::{FieldError, Path},
    schema, time,
};
use serde_json::{Map, Value, json};

use crate::{
    admission::{self, Operation},
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        direct, metadata,
        options::WriteOptions,
    },
};

/// Answers a creation of a binding, through the pod or on its own.
///
/// # Errors
/// 404 for an unknown pod, 409 for one that has a node already.
pub(super) async fn bind(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let kind = GroupVersionKind::new("", "v1", "Binding");
    let schema = schema::builtin("", "v1", "Binding")
        .ok_or_else(|| Status::internal("no Binding schema"))?;
    let mut binding = call.read_object(body, options.field_validation, &kind, &schema).await?;
    metadata::match_namespace(&mut binding, &call.info.namespace)?;
    let name = metadata::name(&binding).to_owned();
    if !call.info.name.is_empty() && name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let raw_options = options.to_value("CreateOptions");
    let request = call.admission(Operation::Create, &kind, None, options.dry_run, &raw_options);
    for warning in admission::mutate(call.server, &request, &mut binding).await? {
        call.warnings.add(warning);
    }
    validate(&binding)?;
    for warning in admission::validate(call.server, &request, &binding).await? {
        call.warnings.add(warning);
    }
    let table = call.server.resources.table_owned();
    let pods = table.resource("", "pods").ok_or_else(Status::unknown_resource)?;
    let key = Key::new(&*call.info.namespace, name);
    direct::edit(call.server, pods, &key, options.dry_run, |current, pod| {
        let mut resource = pods.group_resource.clone();
        resource.resource = "pods/binding".into();
        let refuse = |why: String| Err(Status::conflict(&resource, &key.name, &why));
        let uid = metadata::text(&binding, "uid");
        if !uid.is_empty() && *uid != *current.uid {
            return refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                current.uid
            ));
        }
        let revision = metadata::text(&binding, "resourceVersion");
        if !revision.is_empty() && revision.parse() != Ok(current.revision) {
            return refuse(format!(
                "Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion \
                 in object meta: {}",
                current.revision
            ));
        }
        if current.deleting {
            return refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                key.name
            ));
        }
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            return refuse(format!("pod {} is already assigned to node {node:?}", key.name));
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return refuse(format!("pod {} has non-empty .spec.schedulingGates", key.name));
        }
        assign(pod, &binding);
        Ok(true)
    })
    .await?;
    Ok(Answer::created(Content::Status(Status::created())))
}

fn validate(binding: &Value) -> Result<(), Status> {
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    let path = Path::root("target");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if target["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match errors.first() {
        None => Ok(()),
        // Upstream answers the plain text of the errors here.
        Some(error) => Err(Status::failure(500, "", error.to_string())),
    }
}

fn assign(pod: &mut Value, binding: &Value) {
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for field in ["annotations", "labels"] {
        let Some(extra) = binding["metadata"][field].as_object().filter(|m| !m.is_empty()) else {
            continue;
        };
        let metadata = metadata::of(pod);
        let map = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
        if let Some(map) = map.as_object_mut() {
            map.extend(extra.clone());
        }
    }
    set_condition(pod, "PodScheduled", "True", None);
}

/// Sets a condition of a pod; reason and message go with `why`.
pub(super) fn set_condition(pod: &mut Value, kind: &str, status: &str, why: Option<(&str, &str)>) {
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let old = list.iter().position(|condition| condition["type"] == kind);
    let mut condition = json!({
        "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": time::now(),
    });
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    // Unchanged states keep their time.
    match old {
        Some(at) => {
            if list[at]["status"] == status {
                condition["lastTransitionTime"] = list[at]["lastTransitionTime"].clone();
            }
            list[at] = condition;
        }
        None => list.push(condition),
    }
}
