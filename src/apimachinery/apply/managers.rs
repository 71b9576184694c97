//! `metadata.managedFields`: who owns which fields.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields_v1;
use super::set::Set;
use crate::quote::go_quote;
use crate::time;

/// Managers by update that an object keeps; the fields of older ones go to "ancient-changes".
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// What a manager did. The order is that of managedFields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// What tells one manager from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerId {
    /// The name: `kubectl`.
    pub manager: String,
    /// Whether it applies or updates: the same name may do both.
    pub operation: Operation,
    /// For updates the group version; an applier is the same at every version.
    pub api_version: String,
    /// The subresource that it writes to, or the empty string.
    pub subresource: String,
}

/// Upstream keeps managers by their JSON, so the order is that of JSON texts: names as if a quote
/// followed them, and those without a subresource last.
impl Ord for ManagerId {
    fn cmp(&self, other: &Self) -> Ordering {
        let quoted = |a: &str, b: &str| a.bytes().chain([b'"']).cmp(b.bytes().chain([b'"']));
        quoted(&self.manager, &other.manager)
            .then_with(|| self.operation.cmp(&other.operation))
            .then_with(|| quoted(&self.api_version, &other.api_version))
            .then_with(|| self.subresource.is_empty().cmp(&other.subresource.is_empty()))
            .then_with(|| quoted(&self.subresource, &other.subresource))
    }
}

impl PartialOrd for ManagerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The fields of a manager.
#[derive(Clone, Debug)]
pub(super) struct Owned<'a> {
    pub(super) set: Set,
    pub(super) api_version: String,
    /// RFC 3339 in UTC and whole seconds.
    pub(super) time: Option<String>,
    /// The set as it was read, while it is unchanged.
    raw: Option<&'a Value>,
}

impl<'a> Owned<'a> {
    pub(super) fn new(set: Set, api_version: &str) -> Self {
        Owned { set, api_version: api_version.to_owned(), time: None, raw: None }
    }

    /// Puts another set at another version in its place.
    pub(super) fn replace(&mut self, set: Set, api_version: &str) {
        *self = Owned { time: self.time.take(), ..Owned::new(set, api_version) };
    }

    /// Takes over the text of a set that is the same.
    pub(super) fn reuse(&mut self, former: &Owned<'a>) {
        if former.raw.is_some() && self.set == former.set {
            self.raw = former.raw;
        }
    }

    /// Removes fields from the set.
    pub(super) fn subtract(&mut self, fields: &Set) {
        if self.set.intersects(fields) {
            self.raw = None;
            self.set.subtract(fields);
        }
    }

    /// Changes the set by a function that most often leaves it as it is.
    pub(super) fn fit(&mut self, change: impl FnOnce(&mut Set) -> bool) {
        if change(&mut self.set) {
            self.raw = None;
        }
    }

    /// Changes the set in any way.
    pub(super) fn set_mut(&mut self) -> &mut Set {
        self.raw = None;
        &mut self.set
    }
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers<'a> {
    pub(super) all: BTreeMap<ManagerId, Owned<'a>>,
}

impl<'a> Managers<'a> {
    /// Reads managedFields; what is missing is nobody.
    pub(super) fn decode(managed_fields: Option<&'a Value>) -> Result<Self, String> {
        let entries = match managed_fields {
            None | Some(Value::Null) => return Ok(Managers::default()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields is no list".to_owned()),
        };
        let mut all = BTreeMap::new();
        for (i, entry) in entries.iter().enumerate() {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => {
                    return Err(format!(
                        "invalid fieldsType {} in managed fields entry {i}",
                        go_quote(other)
                    ));
                }
            }
            let id = ManagerId {
                manager: text("manager").to_owned(),
                operation,
                api_version: match operation {
                    Operation::Apply => String::new(),
                    Operation::Update => api_version.to_owned(),
                },
                subresource: text("subresource").to_owned(),
            };
            let raw = entry.get("fieldsV1").unwrap_or(&Value::Null);
            let set = fields_v1::decode(raw).map_err(|e| format!("error decoding set: {e}"))?;
            let raw = Some(raw).filter(|raw| raw.is_object());
            let time = time::canonical_seconds(text("time")).ok().flatten();
            all.insert(id, Owned { set, api_version: api_version.to_owned(), time, raw });
        }
        Ok(Managers { all })
    }

    /// Writes managedFields, sorted as upstream sorts them; None where there is no manager.
    pub(super) fn encode(self) -> Option<Value> {
        if self.all.is_empty() {
            return None;
        }
        let mut all: Vec<(ManagerId, Owned<'_>)> = self.all.into_iter().collect();
        all.sort_by(|(a, x), (b, y)| {
            let key = |id: &ManagerId| id.operation;
            key(a)
                .cmp(&key(b))
                .then_with(|| x.time.cmp(&y.time))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| x.api_version.cmp(&y.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let entry = |(id, owned): (ManagerId, Owned<'_>)| {
            let operation = match id.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            };
            let fields = match owned.raw {
                Some(raw) => raw.clone(),
                None => fields_v1::encode(&owned.set),
            };
            let mut entry = Map::new();
            let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
            put("apiVersion", owned.api_version.into());
            put("fieldsType", "FieldsV1".into());
            put("fieldsV1", fields);
            put("manager", id.manager.into());
            put("operation", operation.into());
            if !id.subresource.is_empty() {
                put("subresource", id.subresource.into());
            }
            if let Some(time) = owned.time {
                put("time", time.into());
            }
            Value::Object(entry)
        };
        Some(Value::Array(all.into_iter().map(entry).collect()))
    }

    /// Removes managers that own nothing.
    pub(super) fn drop_empty(&mut self) {
        self.all.retain(|_, owned| !owned.set.is_empty());
    }

    /// Puts the oldest managers by update of a version together while there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<ManagerId> =
            self.all.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
        let mut excess = updaters.len().saturating_sub(MAX_UPDATE_MANAGERS);
        if excess == 0 {
            return;
        }
        updaters.sort_by(|a, b| {
            let time = |id| self.all.get(id).and_then(|owned| owned.time.as_deref());
            time(a).cmp(&time(b)).then_with(|| a.cmp(b))
        });
        let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
        for id in updaters {
            if excess == 0 {
                return;
            }
            let Some(version) = self.all.get(&id).map(|owned| owned.api_version.clone()) else {
                continue;
            };
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = ManagerId {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: version,
                subresource: String::new(),
            };
            if !self.all.contains_key(&bucket)
                && let Some(owned) = self.all.remove(first)
            {
                self.all.insert(bucket.clone(), owned);
            }
            let Some(owned) = self.all.remove(&id) else { continue };
            match self.all.get_mut(&bucket) {
                Some(ancient) => {
                    ancient.set_mut().union(owned.set);
                    // The later of the two.
                    ancient.time = owned.time;
                }
                None => {
                    self.all.insert(bucket, owned);
                }
            }
            excess -= 1;
        }
    }
}
