//! The apply request: merge the configuration, remove what it no longer has, settle ownership.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::conflict::{ApplyError, Conflict};
use super::element::equal_values;
use super::extract::field_set;
use super::managers::{ManagerId, Managers, Operation, Owned};
use super::ownership::{self, Conflicts, NOTHING, UNOWNED, managed_fields, replace_managed_fields};
use super::prune::{remove, with_named_parents};
use super::set::Set;
use super::types::Type;
use super::validate::validate;
use super::{FieldManager, last_applied};
use crate::{GroupVersionKind, schema::Schema};

/// The manager of everything that an object had before its fields were tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

pub(super) fn apply(
    request: &FieldManager<'_>,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<Value, ApplyError> {
    check_kind(request, config)?;
    let managers = Managers::decode(live.and_then(managed_fields))
        .map_err(|e| ApplyError::Internal(format!("failed to decode managed fields: {e}")))?;
    let live_object = live.unwrap_or(&NOTHING);
    let attempt = |mut managers: Managers<'_>, force: bool| {
        if managers.all.is_empty() {
            managers = before_first_apply(request, live_object, now)?;
        }
        configure(request, live_object, config, managers, manager, force, now)
    };
    // Only kubectl may get a second attempt.
    let again = (manager == "kubectl" && !force).then(|| managers.clone());
    let (mut object, fields) = match attempt(managers, force)? {
        Ok(applied) => applied,
        Err(mut conflicts) => {
            let allowed = match &again {
                Some(_) => last_applied::unchanged(request, live_object),
                None => None,
            };
            // What client-side apply set and nobody changed is kubectl's to take over.
            for (_, set) in conflicts.iter_mut() {
                set.subtract(allowed.as_ref().unwrap_or(&Set::default()));
            }
            conflicts.retain(|(_, set)| !set.is_empty());
            let (true, Some(managers)) = (conflicts.is_empty(), again) else {
                return Err(ApplyError::Conflict(paths(conflicts)));
            };
            match attempt(managers, true)? {
                Ok(applied) => applied,
                Err(conflicts) => return Err(ApplyError::Conflict(paths(conflicts))),
            }
        }
    };
    if manager == "kubectl" {
        last_applied::refresh(&mut object, config);
    }
    replace_managed_fields(&mut object, fields);
    Ok(object)
}

/// The configuration must be of the kind and version of the request and leave managedFields to
/// the server.
fn check_kind(request: &FieldManager<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version != request.group_version || kind != request.kind {
        let shown = GroupVersionKind::from_api_version(version, kind);
        return Err(ApplyError::BadRequest(format!("invalid object type: {shown}")));
    }
    let given = config.get("metadata").and_then(|metadata| metadata.get("managedFields"));
    if given.is_some_and(Value::is_array) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    let schema = request.schema;
    validate(config, Type::of(schema)).map_err(|why| {
        let metadata = |field: &str| {
            let value = config.get("metadata").and_then(|m| m.get(field)?.as_str());
            value.unwrap_or_default()
        };
        ApplyError::Internal(format!(
            "failed to create typed patch object ({}/{}; {}): {why}",
            metadata("namespace"),
            metadata("name"),
            GroupVersionKind::from_api_version(version, kind)
        ))
    })
}

fn before_first_apply(
    request: &FieldManager<'_>,
    live: &Value,
    now: &str,
) -> Result<Managers<'static>, ApplyError> {
    let nobody = Managers::default();
    let tracked = request.compare(&NOTHING, live).and_then(|comparison| {
        let name = BEFORE_FIRST_APPLY;
        ownership::update(request, &NOTHING, live, comparison, nobody, name, now)
    });
    tracked.map_err(|e| {
        ApplyError::Internal(format!("failed to create manager for existing fields: {e}"))
    })
}

/// The object with the configuration, and its managedFields; or what is in the way.
type Applied = Result<(Value, Option<Value>), Conflicts>;

fn configure(
    request: &FieldManager<'_>,
    live: &Value,
    config: &Value,
    mut managers: Managers<'_>,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<Applied, ApplyError> {
    let internal = |what: &str, why: String| ApplyError::Internal(format!("{what}: {why}"));
    let ty = Type::of(request.schema);
    let id = request.manager_id(manager, Operation::Apply);
    request.reconcile(live, &mut managers).map_err(ApplyError::Internal)?;
    let mut merged = without_managed_fields(live);
    super::merge::merge(&mut merged, config, ty)
        .map_err(|e| internal("failed to merge config", e))?;
    let mut set = field_set(config, ty);
    request.filter.filter(&mut set);
    let last = managers.all.insert(id.clone(), Owned::new(set, request.group_version));
    if let Some(last) = last.as_ref().filter(|last| gives_up(last, &managers, &id)) {
        merged = prune(request, merged, &managers, last)
            .map_err(|e| internal("failed to prune fields", e))?;
    }
    if managers.all.len() > 1 {
        let comparison = request.compare(live, &merged).map_err(ApplyError::Internal)?;
        let transferred = request
            .transfer(live, &merged, comparison, &mut managers, Some(&id), force)
            .map_err(ApplyError::Internal)?;
        if let Err(conflicts) = transferred {
            return Ok(Err(conflicts));
        }
    }
    let changed = !same_but_managers(live, &merged);
    if let Some(owned) = managers.all.get_mut(&id) {
        owned.subtract(&UNOWNED);
        owned.time = match &last {
            _ if changed => Some(now.to_owned()),
            Some(last) => last.time.clone(),
            None => None,
        };
        if let Some(last) = &last {
            owned.reuse(last);
        }
    }
    managers.drop_empty();
    Ok(Ok((merged, managers.encode())))
}

/// A copy of the object that spares the copy of what will be replaced.
fn without_managed_fields(object: &Value) -> Value {
    let Some(fields) = object.as_object() else { return object.clone() };
    let copy = fields.iter().map(|(name, value)| match value {
        Value::Object(metadata) if name == "metadata" => {
            let kept = metadata.iter().filter(|(name, _)| *name != "managedFields");
            let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
            (name.clone(), Value::Object(kept.collect()))
        }
        value => (name.clone(), value.clone()),
    });
    Value::Object(copy.collect())
}

/// Whether an object without managedFields is otherwise the live one.
fn same_but_managers(live: &Value, object: &Value) -> bool {
    let (Some(live), Some(object)) = (live.as_object(), object.as_object()) else {
        return equal_values(live, object);
    };
    live.len() == object.len()
        && live.iter().zip(object).all(|((name, a), (other, b))| {
            name == other
                && match (a, b) {
                    (Value::Object(a), Value::Object(b)) if name == "metadata" => {
                        let a = a.iter().filter(|(name, _)| *name != "managedFields");
                        a.eq(b.iter())
                    }
                    _ => equal_values(a, b),
                }
        })
}

/// Whether the manager applied fields last time that it does not apply now: only then can there
/// be anything to remove.
fn gives_up(last: &Owned<'_>, managers: &Managers<'_>, id: &ManagerId) -> bool {
    let Some(now) = managers.all.get(id) else { return true };
    if last.api_version != now.api_version {
        return !last.set.is_empty();
    }
    !last.set.is_subset(&now.set)
}

/// Removes the fields, list items and map entries that the manager applied last time, does not
/// apply this time, and that nobody else owns.
fn prune(
    request: &FieldManager<'_>,
    merged: Value,
    managers: &Managers<'_>,
    last: &Owned<'_>,
) -> Result<Value, String> {
    let Some((base, schema)) = request.at_version(&merged, &last.api_version)? else {
        return Ok(merged);
    };
    let mut pruned = base.clone().into_owned();
    let lost = with_named_parents(last.set.clone(), Type::of(&schema));
    remove(&mut pruned, &lost, Type::of(&schema));
    let pruned = keep_owned(request, &base, pruned, managers, &last.api_version)?;
    let pruned = keep_dangling(&base, &schema, pruned, last);
    if last.api_version == request.group_version {
        return Ok(pruned);
    }
    Ok(match convert(request, &pruned, &last.api_version, request.group_version)? {
        Some((Cow::Owned(converted), _)) => converted,
        _ => pruned,
    })
}

/// Puts back what was removed but somebody owns, at each of the versions that things are owned
/// at: first at that of the removal, because what is missing there might fail conversion.
fn keep_owned(
    request: &FieldManager<'_>,
    merged: &Value,
    mut pruned: Value,
    managers: &Managers<'_>,
    first: &str,
) -> Result<Value, String> {
    let mut owned_at: BTreeMap<&str, Set> = BTreeMap::new();
    for owned in managers.all.values() {
        owned_at.entry(&owned.api_version).or_default().union(owned.set.clone());
    }
    let mut versions: Vec<(&str, Set)> = owned_at.into_iter().collect();
    versions.sort_by_key(|(version, _)| *version != first);
    for (version, owned) in versions {
        let Some((merged, schema)) = convert(request, merged, first, version)? else { continue };
        let Some((at_version, _)) = convert(request, &pruned, first, version)? else { continue };
        let ty = Type::of(&schema);
        let mut gone = with_named_parents(field_set(&merged, ty), ty);
        let mut kept = with_named_parents(field_set(&at_version, ty), ty);
        kept.union(with_named_parents(owned, ty));
        gone.subtract(&kept);
        let mut again = merged.into_owned();
        remove(&mut again, &gone, ty);
        pruned = match convert(request, &again, version, first)? {
            Some((Cow::Owned(back), _)) => back,
            _ => again,
        };
    }
    Ok(pruned)
}

/// Puts back what was removed with its parent but was not the manager's: defaulted fields of a
/// list item, say, that somebody else keeps.
fn keep_dangling(merged: &Value, schema: &Schema, pruned: Value, last: &Owned<'_>) -> Value {
    let ty = Type::of(schema);
    let kept = with_named_parents(field_set(&pruned, ty), ty);
    let mut gone = with_named_parents(field_set(merged, ty), ty);
    gone.subtract(&kept);
    let gone = gone.intersection(&with_named_parents(last.set.clone(), ty));
    let mut result = merged.clone();
    remove(&mut result, &gone, ty);
    result
}

/// As [`FieldManager::at_version`] for an object that is at the version `from`.
fn convert<'o>(
    request: &FieldManager<'_>,
    object: &'o Value,
    from: &str,
    to: &str,
) -> Result<Option<(Cow<'o, Value>, Schema)>, String> {
    if from == to {
        let schema = request.at_version(object, to)?.map(|(_, schema)| schema);
        return Ok(schema.map(|schema| (Cow::Borrowed(object), schema)));
    }
    if to == request.group_version {
        let Some(convert) = request.convert else { return Ok(None) };
        let converted = convert(object, to)?;
        return Ok(converted.map(|(object, schema)| (Cow::Owned(object), schema)));
    }
    request.at_version(object, to)
}

/// The single fields of conflicts.
fn paths(conflicts: Conflicts) -> Vec<Conflict> {
    let single = |(manager, set): (ManagerId, Set)| {
        let paths = set.paths().into_iter();
        paths.map(move |path| Conflict { manager: manager.clone(), path }).collect::<Vec<_>>()
    };
    conflicts.into_iter().flat_map(single).collect()
}
