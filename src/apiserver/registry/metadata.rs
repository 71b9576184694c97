//! The rules of `metadata` that all kinds share: system fields, names, namespaces, validation.

use apimachinery::{
    Status,
    field::{FieldError, Path},
    names, resource, time,
};
use rand::RngExt;
use serde_json::{Map, Value};

use crate::{kinds::Hooks, registry::options::validate_manager};

/// Finalizer of an object whose dependents are to be orphaned.
pub const ORPHAN: &str = "orphan";
/// Finalizer of an object whose dependents are to be deleted first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// All annotations of an object together may have this many bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// `metadata` of `object`, made if it is not there.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// A text field of the metadata; empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// Whether `metadata.deletionTimestamp` is set.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn grace_period(object: &Value) -> Option<i64> {
    object.get("metadata")?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// `metadata.generation`, 0 when absent.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(0)
}

/// Drops what only the server sets.
pub fn wipe_system_fields(object: &mut Value) {
    let metadata = of(object);
    for field in
        ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
    {
        metadata.remove(field);
    }
}

/// Gives a new object its UID and creation time.
pub fn fill_system_fields(object: &mut Value) {
    let metadata = of(object);
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), time::now().into());
}

/// Makes the object's namespace that of the request.
///
/// # Errors
/// 400 when they contradict each other.
pub fn match_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let given = text(object, "namespace");
    if given == namespace {
        // An explicit empty namespace is not stored.
        if given.is_empty() {
            of(object).remove("namespace");
        }
        return Ok(());
    }
    if given.is_empty() {
        of(object).insert("namespace".into(), namespace.into());
    } else if namespace.is_empty() {
        of(object).remove("namespace");
    } else {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// A name for `generateName`: five characters that make no words.
pub fn generate_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Upstream's limit leaves room for the suffix in a DNS label.
    let mut end = prefix.len().min(58);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    for _ in 0..5 {
        name.push(char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
    }
    name
}

/// Before an update: what an update cannot change is as it was.
pub fn keep_system_fields(old: &Value, new: &mut Value) {
    let was = old.get("metadata").and_then(Value::as_object);
    let metadata = of(new);
    let mut keep = |field: &str| match was.and_then(|m| m.get(field)) {
        Some(value) => {
            metadata.insert(field.to_owned(), value.clone());
        }
        None => {
            metadata.remove(field);
        }
    };
    keep("generation");
    keep("creationTimestamp");
    if is_deleting(old) {
        keep("deletionTimestamp");
        if grace_period(old).is_some() && !metadata.contains_key("deletionGracePeriodSeconds") {
            let was = was.and_then(|m| m.get("deletionGracePeriodSeconds")).cloned();
            metadata.insert("deletionGracePeriodSeconds".into(), was.unwrap_or_default());
        }
    }
    if metadata.get("uid").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let uid = was.and_then(|m| m.get("uid")).cloned().unwrap_or_default();
        metadata.insert("uid".into(), uid);
    }
    metadata.remove("selfLink");
}

/// Validates the metadata of a new or changed object.
pub fn validate(object: &Value, namespaced: bool, hooks: Option<&dyn Hooks>) -> Vec<FieldError> {
    let path = Path::root("metadata");
    let mut errors = Vec::new();
    let valid = |name: &str, prefix: bool| match hooks {
        Some(hooks) => hooks.validate_name(name, prefix),
        None => names::name_is_path_segment(name, prefix),
    };
    let generate = text(object, "generateName");
    if !generate.is_empty() {
        for message in valid(generate, true) {
            errors.push(FieldError::invalid(&path.child("generateName"), generate, &message));
        }
    }
    let name = name(object);
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        for message in valid(name, false) {
            errors.push(FieldError::invalid(&path.child("name"), name, &message));
        }
    }
    let namespace = text(object, "namespace");
    if namespaced && namespace.is_empty() {
        errors.push(FieldError::required(&path.child("namespace"), ""));
    } else if namespaced {
        for message in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid(&path.child("namespace"), namespace, &message));
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(&path.child("namespace"), "not allowed on this type"));
    }
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return errors };
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g < 0)
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("generation"), generation, detail));
    }
    validate_labels(metadata.get("labels"), &path.child("labels"), &mut errors);
    validate_annotations(metadata.get("annotations"), &path.child("annotations"), &mut errors);
    validate_owners(metadata.get("ownerReferences"), &path.child("ownerReferences"), &mut errors);
    validate_finalizers(object, &path.child("finalizers"), &mut errors);
    validate_managed(metadata.get("managedFields"), &path.child("managedFields"), &mut errors);
    errors
}

fn entries(map: Option<&Value>) -> impl Iterator<Item = (&String, &str)> {
    map.and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

/// The rules of labels, wherever they stand.
pub fn validate_labels(labels: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for (key, value) in entries(labels) {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid(path, key.as_str(), &message));
        }
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(path, value, &message));
        }
    }
}

/// Validates the metadata of an object within another, which needs no name.
pub fn validate_embedded(object: &Value, path: &Path) -> Vec<FieldError> {
    if !object["metadata"].is_object() {
        return Vec::new();
    }
    let mut whole = serde_json::json!({"metadata": object["metadata"]});
    if name(&whole).is_empty() {
        of(&mut whole).insert("name".into(), "some".into());
    }
    let namespaced = !text(&whole, "namespace").is_empty();
    let mut errors = validate(&whole, namespaced, None);
    for error in &mut errors {
        error.path = path.child(error.path.as_str());
    }
    errors
}

/// Validates a map of annotations.
pub fn validate_annotations(
    annotations: Option<&Value>,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let mut size = 0;
    for (key, value) in entries(annotations) {
        size += key.len() + value.len();
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, key.as_str(), &message));
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
}

fn validate_owners(owners: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let list = owners.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut controller: Option<String> = None;
    for (at, owner) in list.iter().enumerate() {
        let path_here = path.index(at);
        let field = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let api_version = field("apiVersion");
        let (group, version) = resource::split_api_version(api_version);
        if api_version.is_empty() {
            errors.push(FieldError::required(&path_here.child("apiVersion"), "must not be empty"));
        } else if version.is_empty() || version.contains('/') {
            errors.push(FieldError::invalid(
                &path_here.child("apiVersion"),
                api_version,
                "must be <group>/<version> or <version>",
            ));
        }
        for name in ["kind", "name", "uid"] {
            if field(name).is_empty() {
                errors.push(FieldError::required(&path_here.child(name), "must not be empty"));
            }
        }
        if (group, version, field("kind")) == ("", "v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&path_here, owner.clone(), detail));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", field("kind"), field("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(path, Value::from(list), &detail));
                }
                None => controller = Some(this),
            }
        }
    }
}

/// API groups whose finalizers without a domain must be among the well-known ones.
const STRICT_FINALIZERS: [&str; 11] = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

fn validate_finalizers(object: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let (mut orphan, mut foreground) = (false, false);
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let strict = STRICT_FINALIZERS.contains(&resource::split_api_version(api_version).0);
    for (at, finalizer) in finalizers(object).enumerate() {
        for message in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(path, finalizer, &message));
        }
        let standard = [ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer);
        if strict && !standard && !finalizer.contains('/') {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(at), finalizer, detail));
        }
        orphan |= finalizer == ORPHAN;
        foreground |= finalizer == FOREGROUND;
    }
    if orphan && foreground {
        let list: Vec<&str> = finalizers(object).collect();
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path, list, &detail));
    }
}

fn validate_managed(managed: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for (at, entry) in managed.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = path.index(at);
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("operation") {
            "" => {
                errors.push(FieldError::required(&path.child("operation"), "must not be empty"));
            }
            "Apply" | "Update" => {}
            other => {
                let supported = ["Apply", "Update"];
                let path = path.child("operation");
                errors.push(FieldError::not_supported(&path, other, &supported));
            }
        }
        if !matches!(field("fieldsType"), "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            let path = path.child("fieldsType");
            errors.push(FieldError::invalid(&path, field("fieldsType"), detail));
        }
        validate_manager(field("manager"), &path.child("manager"), errors);
        if field("subresource").len() > 256 {
            errors.push(FieldError::too_long(&path.child("subresource"), 256));
        }
    }
}

/// Validates a change of the metadata.
pub fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let path = Path::root("metadata");
    let mut errors = Vec::new();
    for (field, was) in ["name", "namespace", "uid"].map(|field| (field, text(old, field))) {
        if text(new, field) != was {
            let detail = "field is immutable";
            errors.push(FieldError::invalid(&path.child(field), text(new, field), detail));
        }
    }
    let (was, now) =
        (old["metadata"].get("creationTimestamp"), new["metadata"].get("creationTimestamp"));
    if was != now {
        let path = path.child("creationTimestamp");
        errors.push(FieldError::invalid(
            &path,
            now.cloned().unwrap_or_default(),
            "field is immutable",
        ));
    }
    if is_deleting(old) {
        let known: Vec<&str> = finalizers(old).collect();
        let mut added: Vec<&str> = finalizers(new).filter(|f| !known.contains(f)).collect();
        added.sort_unstable();
        if !added.is_empty() {
            let list = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{list}}}"
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), &detail));
        }
    }
    if generation(new) < generation(old) {
        let detail = "must not be decremented";
        errors.push(FieldError::invalid(&path.child("generation"), generation(new), detail));
    }
    if !is_deleting(old) && is_deleting(new) {
        let path = path.child("deletionTimestamp");
        errors.push(FieldError::invalid(
            &path,
            text(new, "deletionTimestamp"),
            "field is immutable",
        ));
    }
    let (was, now) = (grace_period(old), grace_period(new));
    // A grace period may come or become shorter with a deletion, never by an update.
    if now.is_some() && was != now {
        let path = path.child("deletionGracePeriodSeconds");
        errors.push(FieldError::invalid(&path, now, "field is immutable"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn namespaces_of_object_and_request_must_agree() {
        let mut object = json!({"metadata": {"name": "a"}});
        match_namespace(&mut object, "ns").unwrap();
        assert_eq!(object["metadata"]["namespace"], "ns");
        assert_eq!(match_namespace(&mut object, "other").unwrap_err().code, 400);
        match_namespace(&mut object, "").unwrap();
        assert_eq!(object["metadata"].get("namespace"), None);
    }

    #[test]
    fn generated_names_are_labels() {
        let name = generate_name(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(names::dns1123_label(&name).is_empty());
        assert_ne!(generate_name("a-"), generate_name("a-"));
        generate_name(&"ü".repeat(40));
    }

    #[test]
    fn an_update_keeps_what_the_server_set() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "deletionGracePeriodSeconds": 30}});
        let mut new = json!({"metadata": {"name": "a", "generation": 9, "selfLink": "/x"}});
        keep_system_fields(&old, &mut new);
        assert_eq!(new, old);
        assert!(validate_update(&old, &new).is_empty());
    }

    #[test]
    fn bad_metadata_is_named() {
        let object = json!({"metadata": {
            "name": "a/b", "namespace": "N", "labels": {"-": "ok", "a": "b c"},
            "annotations": {"k": "x".repeat(ANNOTATIONS_MAX)},
            "finalizers": ["orphan", "foregroundDeletion", "bad finalizer"],
            "ownerReferences": [{"controller": true}, {"apiVersion": "v1", "kind": "Event",
                "name": "n", "uid": "u", "controller": true}],
            "managedFields": [{"operation": "Guess", "fieldsType": "V9"}],
        }});
        let errors: Vec<String> =
            validate(&object, true, None).iter().map(ToString::to_string).collect();
        for path in [
            "name",
            "namespace",
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "managedFields[0].operation",
            "managedFields[0].fieldsType",
            "ownerReferences[0].apiVersion",
        ] {
            let path = format!("metadata.{path}: ");
            assert!(errors.iter().any(|e| e.starts_with(&path)), "{path} in {errors:?}");
        }
        assert!(validate(&json!(null), true, None).len() == 2);
    }

    #[test]
    fn a_deleted_object_takes_no_new_finalizers() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "finalizers": ["a/b"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a/b", "a/c"]);
        let errors = validate_update(&old, &new);
        assert!(errors[0].message.ends_with("found new finalizers []string{\"a/c\"}"));
    }
}
