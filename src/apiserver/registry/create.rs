//! Create: a new object, from the body to the store.

use std::sync::Arc;

use apimachinery::{Draft, Object, Status};
use serde_json::Value;
use storage::{Write, WriteError};

use crate::{
    admission::{self, Operation},
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        convert, managed, metadata, modify, normalize,
        options::WriteOptions,
    },
};

/// How often a name is generated anew because the one before was taken.
const NAME_ATTEMPTS: usize = 8;

/// Answers a POST on a collection.
///
/// # Errors
/// The Status that refuses it.
pub async fn create(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let version = call.endpoint.version();
    let object =
        call.read_object(body, options.field_validation, &version.gvk, &version.schema).await?;
    let mut object = convert::to_storage(call.server, &call.endpoint, object).await?;
    metadata::wipe_system_fields(&mut object);
    metadata::match_namespace(&mut object, call.namespace())?;
    normalize::default(&call.endpoint, &mut object);
    dedup_owners(call, &mut object);
    managed::update(call, None, &mut object, &call.manager(&options)).await?;
    let stored = store(call, object, &options, "CreateOptions").await?;
    Ok(Answer::created(stored))
}

/// Admits, checks and stores a new object of the storage version, defaulted, with managed fields.
///
/// # Errors
/// The Status that refuses it.
pub async fn store(
    call: &Call<'_>,
    mut object: Value,
    options: &WriteOptions,
    options_kind: &str,
) -> Result<Content, Status> {
    let raw_options = options.to_value(options_kind);
    let kind = &call.endpoint.version().gvk;
    let request = call.admission(Operation::Create, kind, None, options.dry_run, &raw_options);
    for warning in admission::mutate(call.server, &request, &mut object).await? {
        call.warnings.add(warning);
    }
    dedup_owners(call, &mut object);
    let generate =
        metadata::name(&object).is_empty() && !metadata::text(&object, "generateName").is_empty();
    if !generate {
        return attempt(call, object, options, &request).await;
    }
    let prefix = metadata::text(&object, "generateName").to_owned();
    let mut result = Err(Status::internal("no name generated"));
    for _ in 0..NAME_ATTEMPTS {
        let mut named = object.clone();
        metadata::of(&mut named).insert("name".into(), metadata::generate_name(&prefix).into());
        result = attempt(call, named, options, &request).await;
        match &result {
            Err(status) if status.is("AlreadyExists") => {}
            _ => break,
        }
    }
    result
}

async fn attempt(
    call: &Call<'_>,
    mut object: Value,
    options: &WriteOptions,
    request: &admission::AdmissionRequest<'_>,
) -> Result<Content, Status> {
    let resource = call.resource();
    let hooks = resource.hooks;
    let context = call.context(options.dry_run);
    metadata::fill_system_fields(&mut object);
    prepare(call, &mut object);
    hooks.prepare_create(&context, &mut object);
    hooks.allocate(&context, None, &mut object)?;
    let outcome = check_and_commit(call, &mut object, options, request).await;
    if outcome.is_err() || options.dry_run {
        hooks.release(&context, &object, None);
    }
    match outcome? {
        Some(stored) => Ok(Content::Object(stored)),
        None => Ok(Content::Value(object)),
    }
}

/// What every kind does before a create: no foreign status, the first generation.
fn prepare(call: &Call<'_>, object: &mut Value) {
    let resource = call.resource();
    let has_status = call.endpoint.version().subresource("status").is_some();
    if has_status
        && !resource.hooks.keeps_status_on_create()
        && let Some(fields) = object.as_object_mut()
    {
        match normalize::zero_status(resource) {
            Some(zero) => drop(fields.insert("status".into(), zero)),
            None => drop(fields.remove("status")),
        }
    }
    if resource.hooks.counts_generations() {
        metadata::of(object).insert("generation".into(), 1.into());
    }
}

/// Returns nothing for a dry run.
async fn check_and_commit(
    call: &Call<'_>,
    object: &mut Value,
    options: &WriteOptions,
    request: &admission::AdmissionRequest<'_>,
) -> Result<Option<Arc<Object>>, Status> {
    let resource = call.resource();
    let collection = call.collection()?;
    let mut errors = metadata::validate(object, resource.namespaced, Some(resource.hooks));
    normalize::validate(&call.endpoint, object, None, &mut errors);
    errors.extend(resource.hooks.validate_create(&call.context(options.dry_run), object));
    if !errors.is_empty() {
        return Err(call.refuse(metadata::name(object), errors));
    }
    for warning in resource.hooks.warnings(None, object) {
        call.warnings.add(warning);
    }
    for warning in admission::validate(call.server, request, object).await? {
        call.warnings.add(warning);
    }
    normalize::store(resource, object);
    let draft = Draft::new(object, collection.fields())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let taken = |existing: &Object| {
        let mut status = Status::already_exists(call.group_resource(), &existing.key.name);
        if !metadata::text(object, "generateName").is_empty() {
            status.message += ", the server was not able to generate a unique name for the object";
            status.details.retry_after_seconds = Some(1);
        }
        if existing.deleting {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    };
    if options.dry_run {
        return match collection.get(draft.key()) {
            Some(existing) => Err(taken(&existing)),
            None => Ok(None),
        };
    }
    // As in upstream the store refuses it, so that a dry run passes and what is no number does too.
    if metadata::text(object, "resourceVersion").parse().is_ok_and(|revision: u64| revision > 0) {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::failure(500, "", message));
    }
    match call.server.store.commit(collection, Write::Create(draft)).await {
        Ok(stored) => Ok(Some(stored)),
        Err(WriteError::Exists(existing)) => Err(taken(&existing)),
        Err(error) => Err(modify::storage_error(call, metadata::name(object), &error)),
    }
}

/// Drops owner references that are there twice, with a warning, as upstream does since v1.20.
pub fn dedup_owners(call: &Call<'_>, object: &mut Value) {
    let Some(owners) = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("ownerReferences"))
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    if owners.len() < 2 {
        return;
    }
    let mut seen: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in std::mem::take(owners) {
        if seen.contains(&owner) {
            let uid = owner.get("uid").and_then(Value::as_str).unwrap_or_default();
            call.warnings.add(format!(
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner \
                 references in 1.20+, and may reject such requests as early as 1.24; please fix \
                 your requests; duplicate UID(s) observed: {uid}"
            ));
        } else {
            seen.push(owner);
        }
    }
    *owners = seen;
}
