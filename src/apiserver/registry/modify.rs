//! The one way in which stored objects change: read, transform, admit, check, compare-and-swap,
//! and again if someone else was faster. PUT, the patches, apply and subresources all come here.

use std::sync::Arc;

use apimachinery::{Draft, Object, Status};
use serde_json::Value;
use storage::{Write, WriteError};

use crate::{
    admission::{self, Operation},
    authorization::forbidden,
    registry::{
        Call,
        answer::{Answer, Content},
        convert, create, delete, managed, metadata, normalize,
        options::WriteOptions,
        parts,
    },
};

/// Which request changes the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PUT.
    Update,
    /// A patch.
    Patch,
}

/// How an object is to be changed.
pub struct Change<'a> {
    /// Which request it is.
    pub kind: Kind,
    /// Its options.
    pub options: &'a WriteOptions,
    /// Whether a missing object is created.
    pub create_if_missing: bool,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// Who will manage the changed fields; nothing where `transform` has seen to that.
    pub manager: Option<String>,
}

/// Changes the object called `name`. `transform` makes the new object from the stored one, or from
/// nothing where it is to be created, both in the version of the request; it may be called several
/// times.
///
/// # Errors
/// The Status that refuses it.
pub async fn modify(
    call: &Call<'_>,
    name: &str,
    change: &Change<'_>,
    mut transform: impl FnMut(Option<&Value>) -> Result<Value, Status>,
) -> Result<Answer, Status> {
    let collection = call.collection()?;
    let key = call.key(name);
    loop {
        let Some(current) = collection.get(&key) else {
            if !change.create_if_missing || !call.info.subresource.is_empty() {
                return Err(Status::not_found(call.group_resource(), name));
            }
            let new = prepare(call, change, None, transform(None)?).await?;
            match create_missing(call, change, new).await {
                // It came in between: change it instead.
                Err(status) if status.is("AlreadyExists") && collection.get(&key).is_some() => {
                    continue;
                }
                result => return Ok(Answer::created(result?)),
            }
        };
        // A custom object may still be in the version that was the stored one before.
        let old = stored_value(&current)?;
        let old = convert::to_storage(call.server, &call.endpoint, old).await?;
        if let Some(uid) = change.uid.as_deref().filter(|uid| **uid != *current.uid) {
            return Err(wrong_uid(call, name, uid, &current.uid));
        }
        let new = if call.endpoint.is_stored_version() {
            transform(Some(&old))?
        } else {
            transform(Some(
                &convert::from_storage(call.server, &call.endpoint, old.clone()).await?,
            ))?
        };
        let new = prepare(call, change, Some(&old), new).await?;
        if let Some(answer) = replace(call, change, &current, &old, new).await? {
            return Ok(Answer::ok(answer));
        }
    }
}

/// 409 of an object that is another one of the same name, in the words of upstream's storage.
pub fn wrong_uid(call: &Call<'_>, name: &str, asked: &str, is: &str) -> Status {
    let resource = call.resource();
    let mut key = String::from("/registry");
    if resource.is_custom() {
        key = format!("{key}/{}", resource.group_resource.group);
    }
    for step in [resource.plural(), call.namespace(), name] {
        if !step.is_empty() {
            key = format!("{key}/{step}");
        }
    }
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: \
         {is}"
    );
    Status::conflict(call.group_resource(), name, &why)
}

/// A transformed object in the stored version, with defaults and managed fields.
async fn prepare(
    call: &Call<'_>,
    change: &Change<'_>,
    old: Option<&Value>,
    new: Value,
) -> Result<Value, Status> {
    let mut new = convert::to_storage(call.server, &call.endpoint, new).await?;
    normalize::default(&call.endpoint, &mut new);
    create::dedup_owners(call, &mut new);
    if let Some(manager) = &change.manager {
        managed::update(call, old, &mut new, manager).await?;
    }
    Ok(new)
}

/// The value of a stored object.
///
/// # Errors
/// 500 when the store holds something that is not JSON.
pub fn stored_value(object: &Object) -> Result<Value, Status> {
    object.value().map_err(|error| Status::internal(format!("stored object is damaged: {error}")))
}

async fn create_missing(
    call: &Call<'_>,
    change: &Change<'_>,
    mut new: Value,
) -> Result<Content, Status> {
    let name = &call.info.name;
    if let Some(uid) = Some(metadata::text(&new, "uid")).filter(|uid| !uid.is_empty()) {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(call.group_resource(), name, &why));
    }
    // Whoever may change objects may not therefore make some.
    let mut info = call.info.clone();
    "create".clone_into(&mut info.verb);
    let decision = call.server.authorizer.authorize(call.user, &info);
    if !decision.allowed {
        return Err(forbidden(call.user, &info, &decision.reason));
    }
    metadata::wipe_system_fields(&mut new);
    metadata::of(&mut new).remove("resourceVersion");
    create::store(call, new, change.options, "CreateOptions").await
}

/// One attempt to replace `current`. `None` when it has changed meanwhile and a new attempt is due.
async fn replace(
    call: &Call<'_>,
    change: &Change<'_>,
    current: &Arc<Object>,
    old: &Value,
    mut new: Value,
) -> Result<Option<Content>, Status> {
    let resource = call.resource();
    let hooks = resource.hooks;
    let name = &*current.key.name;
    let dry_run = change.options.dry_run;
    let context = call.context(dry_run);
    let gvk = &call.endpoint.version().gvk;

    parts::keep(resource, &call.info.subresource, old, &mut new);
    let options = change.options.to_value("UpdateOptions");
    let request = call.admission(Operation::Update, gvk, Some(old), dry_run, &options);
    for warning in admission::mutate(call.server, &request, &mut new).await? {
        call.warnings.add(warning);
    }
    create::dedup_owners(call, &mut new);

    match metadata::text(&new, "resourceVersion") {
        "" if resource.traits.unconditional_update || change.kind == Kind::Patch => {}
        "" | "0" => {
            let path = apimachinery::field::Path::root("metadata").child("resourceVersion");
            let error = apimachinery::field::FieldError::invalid(
                &path,
                0,
                "must be specified for an update",
            );
            // Upstream names the resource where it otherwise names the kind.
            let mut kind = gvk.clone();
            kind.kind = call.group_resource().resource.clone();
            return Err(Status::invalid(&kind, name, &[error]));
        }
        given => match given.parse::<u64>() {
            Ok(revision) if revision == current.revision => {}
            Ok(_) => return Err(Status::modified(call.group_resource(), name)),
            Err(_) => {
                let why = format!("strconv.ParseUint: parsing {given:?}: invalid syntax");
                return Err(Status::failure(500, "", why));
            }
        },
    }

    metadata::keep_system_fields(old, &mut new);
    parts::keep(resource, &call.info.subresource, old, &mut new);
    hooks.prepare_update(&context, old, &mut new);
    if hooks.counts_generations()
        && parts::generation_moves(resource, &call.info.subresource, old, &new)
    {
        metadata::of(&mut new).insert("generation".into(), (metadata::generation(old) + 1).into());
    }
    hooks.allocate(&context, Some(old), &mut new)?;
    let outcome = check_and_commit(call, change, current, old, &mut new, &request).await;
    match &outcome {
        // What the new version took and the old one did not have goes back.
        Err(_) | Ok(Outcome::Again | Outcome::DryRun) => hooks.release(&context, &new, Some(old)),
        Ok(Outcome::Stored(_) | Outcome::Deleted) => hooks.release(&context, old, Some(&new)),
        Ok(Outcome::Unchanged) => {}
    }
    Ok(match outcome? {
        Outcome::Again => None,
        Outcome::Stored(object) => Some(Content::Object(object)),
        Outcome::Unchanged => Some(Content::Object(current.clone())),
        Outcome::DryRun | Outcome::Deleted => Some(Content::Value(new)),
    })
}

enum Outcome {
    Stored(Arc<Object>),
    Unchanged,
    Deleted,
    DryRun,
    Again,
}

async fn check_and_commit(
    call: &Call<'_>,
    change: &Change<'_>,
    current: &Arc<Object>,
    old: &Value,
    new: &mut Value,
    request: &admission::AdmissionRequest<'_>,
) -> Result<Outcome, Status> {
    let resource = call.resource();
    let collection = call.collection()?;
    let context = call.context(change.options.dry_run);
    let name = &*current.key.name;
    let mut errors = metadata::validate(new, resource.namespaced, None);
    errors.extend(metadata::validate_update(old, new));
    normalize::validate(&call.endpoint, new, Some(old), &mut errors);
    errors.extend(resource.hooks.validate_update(&context, old, new));
    if !errors.is_empty() {
        return Err(call.refuse(name, errors));
    }
    if call.info.subresource.is_empty() {
        for warning in resource.hooks.warnings(Some(old), new) {
            call.warnings.add(warning);
        }
    }
    managed::ignore_timestamps(old, new);
    for warning in admission::validate(call.server, request, new).await? {
        call.warnings.add(warning);
    }
    normalize::store(resource, new);
    let revision = Value::from(current.revision.to_string());
    metadata::of(new).insert("resourceVersion".into(), revision);

    if delete::emptied(resource, old, new) {
        if !change.options.dry_run {
            let last = draft(call, new)?;
            let write = Write::Delete { expected: current.revision, last };
            match call.server.store.commit(collection, write).await {
                Ok(_) | Err(WriteError::NotFound) => {}
                Err(WriteError::Conflict(_)) => return Ok(Outcome::Again),
                Err(error) => return Err(storage_error(call, name, &error)),
            }
        }
        return Ok(Outcome::Deleted);
    }
    if new == old {
        return Ok(Outcome::Unchanged);
    }
    if change.options.dry_run {
        return Ok(Outcome::DryRun);
    }
    let write = Write::Update { draft: draft(call, new)?, expected: current.revision };
    match call.server.store.commit(collection, write).await {
        Ok(stored) => Ok(Outcome::Stored(stored)),
        Err(WriteError::Conflict(_) | WriteError::NotFound) => Ok(Outcome::Again),
        Err(error) => Err(storage_error(call, name, &error)),
    }
}

/// The draft of `object` for the store.
///
/// # Errors
/// 400 when it cannot be indexed.
pub fn draft(call: &Call<'_>, object: &Value) -> Result<Draft, Status> {
    Draft::new(object, call.collection()?.fields())
        .map_err(|error| Status::bad_request(error.to_string()))
}

/// What a client is told of a failed write.
pub fn storage_error(call: &Call<'_>, name: &str, error: &WriteError) -> Status {
    match error {
        WriteError::Exists(_) => Status::already_exists(call.group_resource(), name),
        WriteError::NotFound => Status::not_found(call.group_resource(), name),
        WriteError::Conflict(_) => Status::modified(call.group_resource(), name),
        WriteError::Closed => Status::unavailable("the server is shutting down"),
        WriteError::Backend(error) => {
            tracing::error!(%error, "write failed");
            Status::internal(error)
        }
    }
}
