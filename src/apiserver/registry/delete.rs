//! Delete: at once, gracefully, or when the last finalizer is gone.

use std::sync::Arc;

use apimachinery::{Object, Status, time};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use storage::{Write, WriteError};

use crate::{
    admission::{self, Operation},
    http::decode::{self, Payload},
    registry::{
        Call,
        answer::{Answer, Content},
        metadata::{self, FOREGROUND, ORPHAN},
        modify::{draft, storage_error, stored_value},
        normalize,
        options::{DeleteOptions, Propagation},
        resource::Resource,
    },
};

/// Finalizer of a custom resource definition: its objects go first.
pub const INSTANCE_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Answers a DELETE of an object.
///
/// # Errors
/// The Status that refuses it.
pub async fn delete(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = read_options(call, body).await?;
    let name = &call.info.name;
    let current = call
        .collection()?
        .get(&call.key(name))
        .ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    let (content, gone) = delete_object(call, current, &options).await?;
    let mut answer = Answer::ok(content);
    if !gone && options.orphan_dependents == Some(false) {
        answer.code = StatusCode::ACCEPTED;
    }
    Ok(answer)
}

/// Reads DeleteOptions from the body or the query.
///
/// # Errors
/// 400, 413, 415 or 422.
pub async fn read_options(call: &Call<'_>, body: Payload) -> Result<DeleteOptions, Status> {
    let body = body.read().await?;
    if body.is_empty() {
        return DeleteOptions::parse(call.query, None);
    }
    let media = decode::media_type(call.headers, true)?;
    let value = normalize::delete_options(media, &body)?;
    DeleteOptions::parse(call.query, Some(value))
}

/// What is to be done with an object that is to go.
enum Plan {
    /// Its deletion is under way already.
    Pending,
    /// It is marked and waits for someone: a kubelet, a finalizer.
    Mark(Value),
    /// It goes now; this is its last state.
    Remove(Value),
}

/// Deletes one object. Returns the answer and whether the object is gone.
///
/// # Errors
/// The Status that refuses it.
pub async fn delete_object(
    call: &Call<'_>,
    mut current: Arc<Object>,
    options: &DeleteOptions,
) -> Result<(Content, bool), Status> {
    let resource = call.resource();
    let collection = call.collection()?;
    let name = current.key.name.clone();
    loop {
        check_preconditions(call, &current, options)?;
        let old = stored_value(&current)?;
        admit(call, &old, options).await?;
        let (write, last, gone) = match plan(resource, &old, options) {
            Plan::Pending => return Ok((answer(resource, &current, old, false), false)),
            Plan::Mark(new) if new == old => {
                return Ok((answer(resource, &current, old, false), false));
            }
            Plan::Mark(new) => {
                let write = Write::Update { draft: draft(call, &new)?, expected: current.revision };
                (write, new, false)
            }
            Plan::Remove(last) => {
                let write = Write::Delete { last: draft(call, &last)?, expected: current.revision };
                (write, last, true)
            }
        };
        if options.dry_run {
            return Ok((answer(resource, &current, last, gone), gone));
        }
        match call.server.store.commit(collection, write).await {
            Ok(_) if gone => {
                resource.hooks.release(&call.context(false), &last, None);
                return Ok((answer(resource, &current, last, true), true));
            }
            Ok(stored) => return Ok((Content::Object(stored), false)),
            Err(WriteError::Conflict(newer)) => current = newer,
            Err(error) => return Err(storage_error(call, &name, &error)),
        }
    }
}

/// What a deletion answers: the object where the kind does so or it is still there, else a Status.
fn answer(resource: &Resource, current: &Object, last: Value, gone: bool) -> Content {
    if !gone || resource.traits.returns_deleted {
        return Content::Value(last);
    }
    Content::Status(Status::success(&resource.group_resource, &current.key.name, &current.uid))
}

fn check_preconditions(
    call: &Call<'_>,
    current: &Object,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let conflict = |why: String| {
        // Upstream names the kind here where it otherwise names the resource.
        let mut resource = call.group_resource().clone();
        resource.resource = call.endpoint.version().gvk.kind.clone();
        Status::conflict(&resource, &current.key.name, &why)
    };
    if let Some(uid) = options.preconditions.uid.as_deref().filter(|uid| **uid != *current.uid) {
        return Err(conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object \
             might have been deleted and then recreated",
            current.uid
        )));
    }
    let revision = options.preconditions.resource_version.as_deref();
    if let Some(asked) = revision.filter(|asked| asked.parse() != Ok(current.revision)) {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion \
             in record ({}). The object might have been modified",
            current.revision
        )));
    }
    Ok(())
}

async fn admit(call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let kind = &call.endpoint.version().gvk;
    let request = call.admission(Operation::Delete, kind, Some(old), options.dry_run, &options.raw);
    let mut nothing = Value::Null;
    let warnings = admission::mutate(call.server, &request, &mut nothing).await?;
    let more = admission::validate(call.server, &request, &nothing).await?;
    warnings.into_iter().chain(more).for_each(|warning| call.warnings.add(warning));
    Ok(())
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions) -> Plan {
    let deleting = metadata::is_deleting(old);
    let mut new = old.clone();
    if let Some(plan) = plan_terminating(resource, deleting, &mut new, options) {
        return plan;
    }

    // The grace that this deletion gives, if the kind dies gracefully.
    let mut grace = None;
    if let Some(seconds) = resource.hooks.grace_period(old, options.grace_period) {
        if !deleting {
            mark(&mut new, seconds.max(0));
            grace = Some(seconds.max(0));
        } else if let Some(left) = metadata::grace_period(old).filter(|left| *left != 0) {
            match options.grace_period {
                Some(asked) if asked < left => grace = Some(shorten(&mut new, left, asked)),
                _ => return Plan::Pending,
            }
        }
    }

    set_collector_finalizers(resource, &mut new, options);
    let waits = metadata::finalizers(&new).next().is_some();
    match grace {
        Some(seconds) if waits || seconds > 0 => Plan::Mark(new),
        Some(_) => Plan::Remove(new),
        None if waits => {
            mark_without_grace(&mut new, deleting);
            Plan::Mark(new)
        }
        None => Plan::Remove(new),
    }
}

/// Namespaces and custom resource definitions: their contents go first.
fn plan_terminating(
    resource: &Resource,
    deleting: bool,
    new: &mut Value,
    options: &DeleteOptions,
) -> Option<Plan> {
    let waits = has_inner_finalizers(resource, new);
    match (&*resource.group_resource.group, &*resource.group_resource.resource) {
        ("", "namespaces") if !deleting => {
            metadata::of(new).insert("deletionTimestamp".into(), time::now().into());
            new["status"]["phase"] = "Terminating".into();
            set_collector_finalizers(resource, new, options);
            Some(Plan::Mark(new.take()))
        }
        ("", "namespaces") if waits => Some(Plan::Pending),
        ("apiextensions.k8s.io", "customresourcedefinitions") if !deleting => {
            mark_without_grace(new, false);
            let metadata = metadata::of(new);
            let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.contains(&json!(INSTANCE_CLEANUP))
            {
                list.push(INSTANCE_CLEANUP.into());
            }
            crate::crd::conditions::set(
                new,
                "Terminating",
                "True",
                "InstanceDeletionPending",
                "CustomResourceDefinition marked for deletion; CustomResource deletion will begin \
                 soon",
            );
            Some(Plan::Mark(new.take()))
        }
        _ => None,
    }
}

/// A namespace has finalizers in its spec as well.
fn has_inner_finalizers(resource: &Resource, object: &Value) -> bool {
    (&*resource.group_resource.group, &*resource.group_resource.resource) == ("", "namespaces")
        && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Marks an object that is to die in `seconds`.
fn mark(object: &mut Value, seconds: i64) {
    let generation = metadata::generation(object);
    let due = Timestamp::now().saturating_add(SignedDuration::from_secs(seconds));
    let metadata = metadata::of(object);
    if let Ok(due) = due {
        metadata.insert("deletionTimestamp".into(), time::format_seconds(due).into());
    }
    metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
    if generation > 0 {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// Brings a deletion that is under way forward. Returns the grace that is left.
fn shorten(object: &mut Value, left: i64, asked: i64) -> i64 {
    let now = Timestamp::now();
    let mut period = asked;
    let due = time::parse_seconds(metadata::text(object, "deletionTimestamp")).ok().and_then(|t| {
        t.checked_sub(SignedDuration::from_secs(left))
            .and_then(|t| t.checked_add(SignedDuration::from_secs(asked)))
            .ok()
    });
    let mut due = due.unwrap_or(now);
    if due < now {
        due = now;
        // It was to be graceful: someone else still makes the end.
        if period != 0 {
            period = 1;
        }
    }
    let metadata = metadata::of(object);
    metadata.insert("deletionTimestamp".into(), time::format_seconds(due).into());
    metadata.insert("deletionGracePeriodSeconds".into(), period.into());
    period
}

/// Marks an object that waits for its finalizers.
fn mark_without_grace(object: &mut Value, deleting: bool) {
    if deleting {
        metadata::of(object).insert("deletionGracePeriodSeconds".into(), 0.into());
    } else {
        mark(object, 0);
    }
}

/// Sets the finalizers with which the garbage collector is asked to orphan the dependents, or to
/// delete them first.
fn set_collector_finalizers(resource: &Resource, object: &mut Value, options: &DeleteOptions) {
    if resource.traits.no_garbage_collection {
        return;
    }
    let wanted = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) | (None, Some(Propagation::Orphan)) => Some(ORPHAN),
        (None, Some(Propagation::Foreground)) => Some(FOREGROUND),
        (Some(false), _) | (None, Some(Propagation::Background)) => None,
        // A finalizer that is there already says what was wanted.
        (None, None) => return,
    };
    let mut finalizers: Vec<Value> = metadata::finalizers(object)
        .filter(|finalizer| *finalizer != ORPHAN && *finalizer != FOREGROUND)
        .map(Value::from)
        .collect();
    finalizers.extend(wanted.map(Value::from));
    let metadata = metadata::of(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), Value::Array(finalizers));
    }
}

/// Whether an update took the last finalizer of an object that was to be deleted, so that it goes.
pub fn emptied(resource: &Resource, old: &Value, new: &Value) -> bool {
    metadata::is_deleting(old)
        && metadata::finalizers(new).next().is_none()
        && metadata::grace_period(old).unwrap_or(0) == 0
        && !has_inner_finalizers(resource, new)
}
