//! Who owns what after a request: the changes of an update are its manager's, and whoever owned
//! what it changed or removed does so no more.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::Value;

use super::FieldManager;
use super::compare::{Comparison, compare};
use super::managers::{ManagerId, Managers, Operation, Owned};
use super::prune::reconcile;
use super::set::Set;
use super::types::Type;
use crate::schema::Schema;

/// Fields of every object that nobody owns: they name it or the server sets them.
pub(super) static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::of_fields([&["apiVersion"] as &[&str], &["kind"], &["metadata"]]);
    for name in metadata {
        set.union(Set::of_fields([&["metadata", name] as &[&str]]));
    }
    set
});

static MANAGED_FIELDS: LazyLock<Set> =
    LazyLock::new(|| Set::of_fields([&["metadata", "managedFields"] as &[&str]]));

/// What an object that does not exist yet is compared with.
pub(super) static NOTHING: LazyLock<Value> = LazyLock::new(|| serde_json::json!({}));

pub(super) fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|fields| !fields.is_null())
}

/// Sets or removes the managedFields of an object and returns the former ones.
pub(super) fn replace_managed_fields(object: &mut Value, fields: Option<Value>) -> Option<Value> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let former = match (metadata, fields) {
        (Some(metadata), Some(fields)) => metadata.insert("managedFields".to_owned(), fields),
        (Some(metadata), None) => metadata.remove("managedFields"),
        (None, Some(fields)) => {
            if let Some(object) = object.as_object_mut() {
                let metadata = serde_json::json!({ "managedFields": fields });
                object.insert("metadata".to_owned(), metadata);
            }
            None
        }
        (None, None) => None,
    };
    former.filter(|fields| !fields.is_null())
}

pub(super) fn track_update(
    request: &FieldManager<'_>,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    now: &str,
) {
    let former = old.and_then(managed_fields);
    let given = replace_managed_fields(new, None);
    let edited = request.subresource.is_empty() && given.is_some() && given.as_ref() != former;
    if edited && given.as_ref().is_some_and(is_reset) {
        return;
    }
    let edits = if edited { Managers::decode(given.as_ref()).ok() } else { None };
    let edits = edits.filter(|managers| !managers.all.is_empty());
    if edits.is_none() && former.is_none() && old.is_some() {
        // Nobody has ever been tracked here, so a first owner would own by accident.
        return;
    }
    let tracked = track(request, old, new, edits, former, manager, now);
    let fields = match tracked {
        Ok(Some(managers)) => managers.encode(),
        // Nothing has changed, or what changed cannot be told.
        Ok(None) | Err(_) => former.cloned(),
    };
    replace_managed_fields(new, fields);
}

/// None where the managers stay as they are in the old object.
fn track<'f>(
    request: &FieldManager<'_>,
    old: Option<&Value>,
    new: &Value,
    edits: Option<Managers<'f>>,
    former: Option<&'f Value>,
    manager: &str,
    now: &str,
) -> Result<Option<Managers<'f>>, String> {
    let old_object = old.unwrap_or(&NOTHING);
    let comparison = request.compare(old_object, new)?;
    if edits.is_none() && comparison.is_same() {
        return Ok(None);
    }
    let managers = match edits {
        Some(edits) => edits,
        None => Managers::decode(former).unwrap_or_default(),
    };
    if managers.all.is_empty() && old.is_some() {
        return Ok(Some(managers));
    }
    update(request, old_object, new, comparison, managers, manager, now).map(Some)
}

/// Managers after an update by `manager` that made the difference.
pub(super) fn update<'f>(
    request: &FieldManager<'_>,
    old: &Value,
    new: &Value,
    comparison: Comparison,
    mut managers: Managers<'f>,
    manager: &str,
    now: &str,
) -> Result<Managers<'f>, String> {
    request.reconcile(old, &mut managers)?;
    let owned = request.transfer(old, new, comparison, &mut managers, None, true);
    // Nobody can refuse an update.
    let comparison = owned?.map_err(|_| "update in conflict".to_owned())?;
    let mut set = comparison.modified;
    set.union(comparison.added);
    set.subtract(&UNOWNED);
    if !set.is_empty() {
        let id = request.manager_id(manager, Operation::Update);
        let owned = managers
            .all
            .entry(id)
            .or_insert_with(|| Owned::new(Set::default(), request.group_version));
        owned.set_mut().union(set);
        owned.time = Some(now.to_owned());
    }
    managers.cap();
    Ok(managers)
}

/// Whether a client asks to forget all managers: with an empty list, or a list of an empty entry.
fn is_reset(fields: &Value) -> bool {
    match fields.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

/// What others own of the fields that are to change.
pub(super) type Conflicts = Vec<(ManagerId, Set)>;

impl FieldManager<'_> {
    pub(super) fn manager_id(&self, manager: &str, operation: Operation) -> ManagerId {
        ManagerId {
            manager: if manager.is_empty() { "unknown" } else { manager }.to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.group_version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }

    /// The difference between two objects at the version of the request, less what does not count.
    pub(super) fn compare(&self, old: &Value, new: &Value) -> Result<Comparison, String> {
        self.compare_with(old, new, self.schema)
    }

    fn compare_with(
        &self,
        old: &Value,
        new: &Value,
        schema: &Schema,
    ) -> Result<Comparison, String> {
        let mut comparison = compare(old, new, Type::of(schema))
            .map_err(|e| format!("failed to compare objects: {e}"))?;
        for set in [&mut comparison.added, &mut comparison.modified, &mut comparison.removed] {
            set.subtract(&MANAGED_FIELDS);
            self.filter.filter(set);
        }
        Ok(comparison)
    }

    /// The object at a version, with the schema there; none where the version is gone.
    pub(super) fn at_version<'o>(
        &self,
        object: &'o Value,
        version: &str,
    ) -> Result<Option<(Cow<'o, Value>, Schema)>, String> {
        if version == self.group_version {
            return Ok(Some((Cow::Borrowed(object), self.schema.clone())));
        }
        let Some(convert) = self.convert else { return Ok(None) };
        let converted = convert(object, version)?;
        Ok(converted.map(|(object, schema)| (Cow::Owned(object), schema)))
    }

    /// Fits what is owned to the schemas, which may have changed since.
    pub(super) fn reconcile(
        &self,
        live: &Value,
        managers: &mut Managers<'_>,
    ) -> Result<(), String> {
        let versions: Vec<String> = {
            let mut versions: Vec<&String> =
                managers.all.values().map(|owned| &owned.api_version).collect();
            versions.sort_unstable();
            versions.dedup();
            versions.into_iter().cloned().collect()
        };
        for version in versions {
            let schema = match version == self.group_version {
                true => Some(self.schema.clone()),
                false => self.at_version(live, &version)?.map(|(_, schema)| schema),
            };
            match schema {
                Some(schema) => {
                    for owned in managers.all.values_mut().filter(|o| o.api_version == version) {
                        owned.fit(|set| reconcile(set, Type::of(&schema)));
                    }
                }
                None => managers.all.retain(|_, owned| owned.api_version != version),
            }
        }
        Ok(())
    }

    /// Takes what the difference touches from all managers but `except`, or reports what is in
    /// the way of it. Returns the difference.
    pub(super) fn transfer(
        &self,
        old: &Value,
        new: &Value,
        comparison: Comparison,
        managers: &mut Managers<'_>,
        except: Option<&ManagerId>,
        force: bool,
    ) -> Result<Result<Comparison, Conflicts>, String> {
        let mut conflicts = Conflicts::new();
        let mut comparisons = vec![(self.group_version.to_owned(), Some(comparison))];
        let mut gone = Vec::new();
        for (id, owned) in managers.all.iter_mut().filter(|(id, _)| Some(*id) != except) {
            let known = comparisons.iter().position(|(version, _)| *version == owned.api_version);
            let at = match known {
                Some(at) => at,
                None => {
                    let version = &owned.api_version;
                    let pair = (self.at_version(old, version)?, self.at_version(new, version)?);
                    let comparison = match pair {
                        (Some((old, schema)), Some((new, _))) => {
                            Some(self.compare_with(&old, &new, &schema)?)
                        }
                        _ => None,
                    };
                    comparisons.push((version.clone(), comparison));
                    comparisons.len() - 1
                }
            };
            let Some(comparison) = &comparisons[at].1 else {
                gone.push(id.clone());
                continue;
            };
            let changed = [&comparison.modified, &comparison.added];
            if changed.iter().any(|set| owned.set.intersects(set)) {
                let [modified, added] = changed.map(|set| owned.set.intersection(set));
                let mut conflict = modified;
                conflict.union(added);
                if force {
                    owned.subtract(&conflict);
                } else {
                    conflicts.push((id.clone(), conflict));
                }
            }
            owned.subtract(&comparison.removed);
        }
        if !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        for id in gone {
            managers.all.remove(&id);
        }
        managers.drop_empty();
        Ok(Ok(comparisons.swap_remove(0).1.unwrap_or_default()))
    }
}
