//! An object as the cluster keeps it: canonical JSON bytes with a small index beside them.
//!
//! The bytes are what a client reads; the index is what the server needs to answer without parsing
//! (key, revision, labels, owners, selectable fields). Both are immutable and shared: a 3.5 KB pod
//! costs 3.5 KB here and 27 KB as a typed struct.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Where an object lives within its resource. Cluster-scoped objects have an empty namespace.
///
/// Keys order by namespace, then name, the order in which LIST returns them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace, empty for a cluster-scoped object.
    pub namespace: Box<str>,
    /// The name within the namespace.
    pub name: Box<str>,
}

impl Key {
    /// The key of `name` in `namespace` (empty for cluster-scoped objects).
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    /// `namespace/name`, or `name` alone: the form in which controllers log and upstream words it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// The part of an owner reference that garbage collection and informer indexes need.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner, in the namespace of the dependent or cluster-scoped.
    pub name: Box<str>,
    /// UID of the owner.
    pub uid: Box<str>,
    /// Whether this owner is the managing controller.
    #[serde(default)]
    pub controller: bool,
}

/// One version of one object. Cheap to share (`Arc<Object>`), never changed.
#[derive(Debug)]
pub struct Object {
    /// Canonical JSON, `metadata.resourceVersion` included: what GET answers.
    pub body: Bytes,
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion` as a number: the store's revision of the last write.
    pub revision: u64,
    /// Labels, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Owner references.
    pub owners: Box<[Owner]>,
    /// Values of the resource's selectable fields, in the order of its table.
    pub fields: Box<[Box<str>]>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

impl Object {
    /// Parses the index out of `body`. `paths` are the dotted selectable fields beyond
    /// `metadata.name` and `metadata.namespace`, e.g. `spec.nodeName`.
    ///
    /// # Errors
    /// When `body` is not a JSON object with metadata.
    pub fn parse_index(body: Bytes, paths: &[impl AsRef<str>]) -> serde_json::Result<Self> {
        let index: Index = serde_json::from_slice(&body)?;
        let fields = if paths.is_empty() {
            Box::default()
        } else {
            let value: Value = serde_json::from_slice(&body)?;
            select_fields(&value, paths)
        };
        Ok(index.metadata.into_object(body, fields))
    }

    /// The object as a typed struct. Costs about 4 us per KB: parse late and once.
    ///
    /// # Errors
    /// When the bytes do not fit the type.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body).or_else(|error| {
            // Rare, so paid for only by the objects that have it.
            let mut value = self.value()?;
            if date_conditions(&mut value) == 0 {
                return Err(error);
            }
            typed(&value)
        })
    }

    /// The object as a JSON value.
    ///
    /// # Errors
    /// When the bytes are not JSON, which the store never lets in.
    pub fn value(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.body)
    }

    /// The value of the label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner that manages this object, if any.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// Bytes of memory that this version holds, roughly: what history bounds count.
    pub fn weight(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(k, v)| k.len() + v.len() + 32).sum();
        size_of::<Self>() + self.body.len() + labels + self.owners.len() * 96
    }
}

/// Reads the selectable fields at `paths` out of `value`; an absent one is the empty string, and
/// booleans and numbers are written as JSON writes them (upstream compares them as strings). Of
/// paths joined by `|` the first that is not empty counts.
pub fn select_fields(value: &Value, paths: &[impl AsRef<str>]) -> Box<[Box<str>]> {
    let one = |path: &str| -> Box<str> {
        match path.split('.').try_fold(value, |at, step| at.get(step)) {
            None | Some(Value::Null) => Box::default(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(other) => other.to_string().into(),
        }
    };
    let select =
        |paths: &str| paths.split('|').map(one).find(|found| !found.is_empty()).unwrap_or_default();
    paths.iter().map(|path| select(path.as_ref())).collect()
}

#[derive(Deserialize)]
struct Index {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: Box<str>,
    name: Box<str>,
    #[serde(default)]
    uid: Box<str>,
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
    #[serde(default)]
    owner_references: Option<Box<[Owner]>>,
    #[serde(default)]
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

impl Metadata {
    fn into_object(self, body: Bytes, fields: Box<[Box<str>]>) -> Object {
        Object {
            body,
            key: Key { namespace: self.namespace, name: self.name },
            uid: self.uid,
            revision: self.resource_version.parse().unwrap_or(0),
            labels: self.labels.unwrap_or_default().into_iter().collect(),
            owners: self.owner_references.unwrap_or_default(),
            fields,
            deleting: self.deletion_timestamp.is_some(),
        }
    }
}

/// An object on its way into the store: canonical JSON with a gap where its revision goes, which
/// only the commit knows.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    gap: usize,
    object: Object,
}

impl Draft {
    /// Serializes `value`, whatever `metadata.resourceVersion` it carries, and indexes it.
    ///
    /// # Errors
    /// When `value` has no `metadata.name`.
    pub fn new(value: &Value, paths: &[impl AsRef<str>]) -> serde_json::Result<Self> {
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let object =
            Metadata::deserialize(metadata)?.into_object(Bytes::new(), select_fields(value, paths));
        let mut bytes = Vec::with_capacity(1024);
        let empty = Map::new();
        let gap = write_with_gap(value.as_object().unwrap_or(&empty), &mut bytes)?;
        Ok(Self { bytes, gap, object })
    }

    /// The key that the object will be stored under.
    pub fn key(&self) -> &Key {
        &self.object.key
    }

    /// Fills the gap: the object as of `revision`.
    pub fn seal(self, revision: u64) -> Arc<Object> {
        let Self { mut bytes, gap, mut object } = self;
        let mut digits = itoa::Buffer::new();
        bytes.splice(gap..gap, digits.format(revision).bytes());
        // A copy of just its size, and not the buffer cut short: what is cut off would stay between
        // this object and the next, too small for another buffer.
        object.body = Bytes::copy_from_slice(&bytes);
        object.revision = revision;
        Arc::new(object)
    }
}

/// Writes the top level and the metadata by hand, so that the place of the revision is known and
/// no text inside the object can be mistaken for it. Returns that place.
fn write_with_gap(object: &Map<String, Value>, out: &mut Vec<u8>) -> serde_json::Result<usize> {
    let mut gap = 0;
    out.push(b'{');
    for (at, (name, value)) in object.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        match value {
            Value::Object(metadata) if name == "metadata" => gap = write_metadata(metadata, out)?,
            other => serde_json::to_writer(&mut *out, other)?,
        }
    }
    out.push(b'}');
    Ok(gap)
}

fn write_metadata(metadata: &Map<String, Value>, out: &mut Vec<u8>) -> serde_json::Result<usize> {
    const REVISION: &str = "resourceVersion";
    let mut gap = None;
    let mut separator = b'{';
    let place = |out: &mut Vec<u8>, separator: u8| {
        out.push(separator);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        let gap = out.len();
        out.push(b'"');
        gap
    };
    for (name, value) in metadata.iter().filter(|(name, _)| *name != REVISION) {
        if gap.is_none() && name.as_str() > REVISION {
            gap = Some(place(out, separator));
            separator = b',';
        }
        out.push(separator);
        separator = b',';
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)?;
    }
    let gap = gap.unwrap_or_else(|| place(out, separator));
    out.push(b'}');
    Ok(gap)
}

/// A value as a typed struct. By way of text, as every other object is read: code that reads a kind
/// out of values as well would be as large again, more than 1 MB for all kinds.
///
/// # Errors
/// When the value does not fit the type.
pub fn typed<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}

/// The time that Go's types have where a client gave none.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Gives each condition without a `lastTransitionTime` Go's zero time: the API takes and stores such
/// conditions, but the generated types refuse to be without. Answers how many there were.
fn date_conditions(value: &mut Value) -> usize {
    match value {
        Value::Object(fields) => {
            let mut dated = 0;
            let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
            for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
                let time = condition.entry("lastTransitionTime").or_insert(Value::Null);
                if time.is_null() {
                    *time = ZERO_TIME.into();
                    dated += 1;
                }
            }
            dated + fields.values_mut().map(date_conditions).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(date_conditions).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seal(value: Value) -> Arc<Object> {
        Draft::new(&value, &["spec.nodeName", "spec.hostNetwork"]).unwrap().seal(42)
    }

    #[test]
    fn the_revision_lands_in_metadata_and_nowhere_else() {
        let object = seal(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "annotations": {"x": "\"resourceVersion\":\"\""}, "labels": {"b": "2", "a": "1"}},
            "spec": {"nodeName": "one", "hostNetwork": true, "ref": {"resourceVersion": ""}},
        }));
        let value = object.value().unwrap();
        assert_eq!(value["metadata"]["resourceVersion"], "42");
        assert_eq!(value["spec"]["ref"]["resourceVersion"], "");
        assert_eq!(object.revision, 42);
        assert_eq!(object.label("b"), Some("2"));
        assert_eq!(*object.fields, ["one".into(), "true".into()]);
        assert_eq!(object.body, serde_json::to_vec(&value).unwrap(), "canonical");
    }

    #[test]
    fn a_condition_without_a_time_is_read_as_go_reads_it() {
        #[derive(Debug, Deserialize)]
        struct Service {
            status: Status,
        }
        #[derive(Debug, Deserialize)]
        struct Status {
            conditions: Vec<Condition>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Condition {
            last_transition_time: String,
        }
        for condition in [
            json!({"type": "Ready", "status": "True", "reason": "r", "message": ""}),
            json!({"type": "Ready", "status": "True", "lastTransitionTime": null}),
        ] {
            let object = seal(json!({
                "metadata": {"name": "a", "uid": "u"}, "status": {"conditions": [condition]},
            }));
            let service: Service = object.parse().unwrap();
            assert_eq!(service.status.conditions[0].last_transition_time, ZERO_TIME);
        }
        let wrong = seal(json!({"metadata": {"name": "a", "uid": "u"}, "status": 1}));
        assert!(wrong.parse::<Service>().is_err());
    }

    #[test]
    fn a_parsed_index_equals_the_one_of_the_draft() {
        let sealed = seal(json!({
            "metadata": {"name": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "rs", "uid": "o",
                    "apiVersion": "apps/v1", "controller": true}]},
        }));
        let parsed =
            Object::parse_index(sealed.body.clone(), &["spec.nodeName", "spec.hostNetwork"])
                .unwrap();
        assert_eq!(parsed.revision, 42);
        assert_eq!(parsed.fields, sealed.fields);
        assert_eq!(parsed.controller().map(|o| &*o.uid), Some("o"));
        assert!(parsed.deleting && sealed.deleting);
    }

    #[test]
    fn metadata_that_sorts_before_or_after_the_revision_keeps_canonical_order() {
        for metadata in [json!({"name": "a"}), json!({"name": "a", "uid": "u", "zone": 1})] {
            let object = seal(json!({ "metadata": metadata }));
            assert_eq!(object.body, serde_json::to_vec(&object.value().unwrap()).unwrap());
        }
    }
}
