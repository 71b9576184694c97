//! `scale`: the number of replicas of anything that has some, as one kind of object.

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
    schema::{self, Schema},
    selector::labels,
};
use serde_json::{Value, json};

use crate::{
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        convert, get, metadata,
        modify::{self, Change, Kind, stored_value},
        options::WriteOptions,
        patch, update,
    },
};

/// Where a kind keeps what a Scale shows, as JSON pointers.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The wanted number.
    pub spec: String,
    /// The present number.
    pub status: String,
    /// The selector of the replicas: a text, or an object of a built-in kind.
    pub selector: Option<String>,
}

fn paths(call: &Call<'_>) -> Paths {
    let definition = call.resource().definition.as_ref();
    let version = &call.endpoint.version().gvk.version;
    definition.and_then(|definition| definition.scale(version)).unwrap_or_else(|| Paths {
        spec: "/spec/replicas".to_owned(),
        status: "/status/replicas".to_owned(),
        selector: Some("/spec/selector".to_owned()),
    })
}

/// The Scale of an object in the version of the request.
fn scale_of(call: &Call<'_>, object: &Value, paths: &Paths) -> Value {
    let text = |field: &str| metadata::text(object, field);
    let selector = match paths.selector.as_ref().and_then(|path| object.pointer(path)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        // A ReplicationController selects by plain labels, all others by a LabelSelector.
        Some(Value::Object(map)) if call.resource().plural() == "replicationcontrollers" => {
            let pairs = map.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")));
            labels::Selector::from_labels(pairs).to_string()
        }
        Some(other) => {
            labels::Selector::from_object(other).map(|s| s.to_string()).unwrap_or_default()
        }
    };
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": text("name"), "namespace": text("namespace"), "uid": text("uid"),
            "resourceVersion": text("resourceVersion"),
            "creationTimestamp": text("creationTimestamp"),
        },
        "spec": {},
        "status": { "replicas": number(&paths.status) },
    });
    // As Go writes it: none are left out here, and told in the status.
    if let replicas @ 1.. = number(&paths.spec) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

fn kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

fn scale_schema() -> Result<Schema, Status> {
    schema::builtin("autoscaling", "v1", "Scale").ok_or_else(|| Status::internal("no Scale schema"))
}

fn check(scale: &Value, name: &str) -> Result<i64, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let mut errors = Vec::new();
    if metadata::name(scale) != name {
        let path = Path::root("metadata").child("name");
        errors.push(FieldError::invalid(&path, metadata::name(scale), "field is immutable"));
    }
    if replicas < 0 {
        let path = Path::root("spec").child("replicas");
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path, replicas, detail));
    }
    if errors.is_empty() { Ok(replicas) } else { Err(Status::invalid(&kind(), name, &errors)) }
}

/// Answers a request on the subresource.
///
/// # Errors
/// The Status that refuses it.
pub async fn scale(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let paths = paths(call);
    let name = &call.info.name;
    match &*call.info.verb {
        "get" => {
            let Content::Object(object) = get::get(call)?.content else {
                return Err(Status::not_found(call.group_resource(), name));
            };
            let object =
                convert::from_storage(call.server, &call.endpoint, stored_value(&object)?).await?;
            Ok(Answer::ok(Content::Other(scale_of(call, &object, &paths))))
        }
        "update" => {
            let options = WriteOptions::parse(call.query, "UpdateOptions")?;
            let scale =
                call.read_object(body, options.field_validation, &kind(), &scale_schema()?).await?;
            update::check_name(&scale, name)?;
            write(call, &options, &paths, |_| Ok(scale.clone())).await
        }
        _ => {
            let (patcher, options) = patch::Patcher::read(call, body).await?;
            let schema = scale_schema()?;
            write(call, &options, &paths, |current| {
                patcher.apply(call, &current, &schema, &kind(), &options)
            })
            .await
        }
    }
}

/// Changes the number of replicas of the stored object to that of the Scale which `transform` makes
/// of the present one.
async fn write(
    call: &Call<'_>,
    options: &WriteOptions,
    paths: &Paths,
    transform: impl Fn(Value) -> Result<Value, Status>,
) -> Result<Answer, Status> {
    let name = &call.info.name;
    let change = Change {
        kind: Kind::Patch,
        options,
        create_if_missing: false,
        uid: None,
        manager: Some(call.manager(options)),
    };
    let answer = modify::modify(call, name, &change, |old| {
        let Some(old) = old else { return Err(Status::not_found(call.group_resource(), name)) };
        let mut object = old.clone();
        let wanted = transform(scale_of(call, &object, paths))?;
        let replicas = check(&wanted, name)?;
        if let Some(uid) = Some(metadata::text(&wanted, "uid")).filter(|uid| !uid.is_empty())
            && uid != metadata::text(old, "uid")
        {
            return Err(modify::wrong_uid(call, name, uid, metadata::text(old, "uid")));
        }
        set(&mut object, &paths.spec, replicas.into());
        let revision = metadata::text(&wanted, "resourceVersion").to_owned();
        let fields = metadata::of(&mut object);
        match revision.is_empty() {
            true => fields.remove("resourceVersion"),
            false => fields.insert("resourceVersion".into(), revision.into()),
        };
        Ok(object)
    })
    .await?;
    let object = match answer.content {
        Content::Object(object) => stored_value(&object)?,
        Content::Value(value) => value,
        _ => return Err(Status::internal("a scale made no object")),
    };
    let object = convert::from_storage(call.server, &call.endpoint, object).await?;
    Ok(Answer::ok(Content::Other(scale_of(call, &object, paths))))
}

/// Sets the value at a JSON pointer, making the objects on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for step in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}
