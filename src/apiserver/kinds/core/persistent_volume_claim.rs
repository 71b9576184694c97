//! PersistentVolumeClaims.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    diff::diff,
    resource_names,
    validation::{
        Errors, IMMUTABLE, POSITIVE, Report as _, label_selector, optional_one_of, quantity,
        quantity_text, spec,
    },
    value::{Fields as _, same},
};

pub(crate) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// What came before the field `storageClassName`.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) struct PersistentVolumeClaim;

impl Hooks for PersistentVolumeClaim {
    fn prepare_create(&self, _context: &Context<'_>, claim: &mut Value) {
        claim["status"] = json!({"phase": "Pending"});
        normalize_sources(&Value::Null, claim);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            normalize_sources(&old["spec"], new);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, claim: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(&claim["spec"], &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            validate_status(new, &mut errors);
        } else {
            // A claim that names the group of its source goes on with whatever that is called.
            let source = |field: &str| !old["spec"][field].text("apiGroup").is_empty();
            let lenient = source("dataSource") || source("dataSourceRef");
            validate_changed(&new["spec"], lenient, &spec(), &mut errors);
            validate_change(old, new, &mut errors);
        }
        errors
    }

    fn warnings(&self, _old: Option<&Value>, claim: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if claim["metadata"]["annotations"].has(CLASS_ANNOTATION) {
            warnings.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \
                 \"storageClassName\" attribute instead"
            ));
        }
        for part in ["requests", "limits"] {
            let size = &claim["spec"]["resources"][part]["storage"];
            if quantity(size).milli_value() % 1000 != 0 {
                warnings.push(format!(
                    "spec.resources.{part}[storage]: fractional byte value {:?} is invalid, must \
                     be an integer",
                    quantity_text(size)
                ));
            }
        }
        warnings
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/persistentvolumeclaims")
    }

    fn cells(&self, claim: &Value) -> Vec<Value> {
        let (spec, status) = (&claim["spec"], &claim["status"]);
        let terminating = claim["metadata"].has("deletionTimestamp");
        let phase = if terminating { "Terminating" } else { status.text("phase") };
        let bound = !spec.text("volumeName").is_empty();
        let capacity = match bound {
            true => quantity_text(&status["capacity"]["storage"]),
            false => String::new(),
        };
        let modes = if bound { access_modes(&status["accessModes"]) } else { String::new() };
        let unset = |field: &str| spec.opt_text(field).unwrap_or("<unset>");
        vec![
            name(claim),
            phase.into(),
            spec.text("volumeName").into(),
            capacity.into(),
            modes.into(),
            storage_class(claim).into(),
            unset("volumeAttributesClassName").into(),
            age(claim),
            unset("volumeMode").into(),
        ]
    }
}

/// The old reference to a data source and the new one say the same. What the old one could never
/// name is dropped from it, and so are references to other namespaces.
fn normalize_sources(old: &Value, claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let namespaced = |source: &Value| !source.text("namespace").is_empty();
    if spec.get("dataSourceRef").is_some_and(namespaced) && !old.has("dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    let known = |source: &Value| {
        matches!(
            (source.text("apiGroup"), source.text("kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    let given = |field: &str| spec.get(field).filter(|source| !source.is_null()).cloned();
    match (given("dataSource"), given("dataSourceRef")) {
        (Some(source), None) => {
            if known(&source) || old.has("dataSource") || old.has("dataSourceRef") {
                spec.insert("dataSourceRef".into(), source);
            } else {
                spec.remove("dataSource");
            }
        }
        (None, Some(source)) if !namespaced(&source) => {
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

/// The storage class of a claim or volume, by the annotation that came before the field, too.
pub(crate) fn storage_class(object: &Value) -> &str {
    let annotation = object["metadata"]["annotations"].opt_text(CLASS_ANNOTATION);
    annotation.unwrap_or_else(|| object["spec"].text("storageClassName"))
}

/// Access modes in short, in a fixed order: `RWO,ROX`.
pub(crate) fn access_modes(modes: &Value) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| modes.as_array().is_some_and(|list| list.iter().any(|m| m == mode));
    let found: Vec<&str> = short.iter().filter(|(mode, _)| has(mode)).map(|(_, s)| *s).collect();
    found.join(",")
}

/// Validates the spec of a claim or of a claim template.
pub(crate) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    validate_changed(spec, false, path, errors);
}

/// As [`validate_spec`]; `any_group` lets the source be of a group that cannot be.
fn validate_changed(spec: &Value, any_group: bool, path: &Path, errors: &mut Errors) {
    let modes = path.child("accessModes");
    if spec.list("accessModes").is_empty() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    label_selector(spec, "selector", path, errors);
    let (mut single, mut other) = (false, false);
    for mode in spec.texts("accessModes") {
        if !ACCESS_MODES.contains(&mode) {
            errors.unsupported(&modes, mode, &ACCESS_MODES);
        } else if mode == "ReadWriteOncePod" {
            single = true;
        } else {
            other = true;
        }
    }
    if single && other {
        errors.forbidden(&modes, "may not use ReadWriteOncePod with other access modes");
    }
    let storage = path.child("resources").key("storage");
    match spec["resources"]["requests"].sub("storage") {
        None => errors.required(&storage, ""),
        Some(size) if quantity(size).signum() <= 0 => {
            errors.invalid(&storage, quantity_text(size), POSITIVE);
        }
        Some(size) => resource_names::amount("storage", size, &storage, errors),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.text(field);
        if !class.is_empty() {
            errors.messages(&path.child(field), class, names::dns1123_subdomain(class));
        }
    }
    optional_one_of(spec, "volumeMode", path, &["Block", "Filesystem"], errors);
    data_sources(spec, any_group, path, errors);
}

fn data_sources(spec: &Value, any_group: bool, path: &Path, errors: &mut Errors) {
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.sub(field) else { continue };
        let path = path.child(field);
        for part in ["name", "kind"] {
            if source.text(part).is_empty() {
                errors.required(&path.child(part), "");
            }
        }
        let (group, kind) = (source.text("apiGroup"), source.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&path, kind, detail);
        }
        if !group.is_empty() && !any_group {
            errors.messages(&path.child("apiGroup"), group, names::dns1123_subdomain(group));
        }
        let namespace = source.text("namespace");
        if !namespace.is_empty() {
            let messages = names::dns1123_label(namespace);
            errors.messages(&path.child("namespace"), namespace, messages);
        }
    }
    let (Some(old), Some(new)) = (spec.sub("dataSource"), spec.sub("dataSourceRef")) else {
        return;
    };
    if !new.text("namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.invalid(path, path.child("dataSource").as_str(), detail);
    } else if ["apiGroup", "kind", "name"].iter().any(|part| old.text(part) != new.text(part)) {
        errors.invalid(path, path.child("dataSource").as_str(), "must match dataSourceRef");
    }
}

fn validate_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, is) = (&old["spec"], &new["spec"]);
    let mut munged = is.clone();
    if was.text("volumeName").is_empty() {
        munged["volumeName"] = is["volumeName"].clone();
    }
    let mut expected = was.clone();
    if was.text("volumeName").is_empty() {
        expected["volumeName"] = is["volumeName"].clone();
    }
    if !was.has("storageClassName") && is.has("storageClassName") {
        munged["storageClassName"] = Value::Null;
    }
    if new["status"].text("phase") == "Bound" {
        if munged["resources"]["requests"].has("storage") {
            munged["resources"]["requests"]["storage"] =
                was["resources"]["requests"]["storage"].clone();
        }
        munged["volumeAttributesClassName"] = was["volumeAttributesClassName"].clone();
    }
    if !same(&munged, &expected) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            diff("core.PersistentVolumeClaimSpec", &expected, &munged)
        );
        errors.forbidden(&spec(), &detail);
    }
    let size = |object: &Value| quantity(&object["resources"]["requests"]["storage"]);
    if size(is) < size(was) && size(is) <= quantity(&old["status"]["capacity"]["storage"]) {
        let path = spec().child("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    if !same(&was["volumeMode"], &is["volumeMode"]) {
        errors.invalid(&Path::root("volumeMode"), is["volumeMode"].clone(), IMMUTABLE);
    }
    if old["status"].has("currentVolumeAttributesClassName") {
        let path = spec().child("volumeAttributesClassName");
        let when = "is forbidden when status.currentVolumeAttributesClassName is not nil";
        match is.opt_text("volumeAttributesClassName") {
            None if was.has("volumeAttributesClassName") => {
                errors.forbidden(&path, &format!("update to nil {when}"));
            }
            Some("") => errors.forbidden(&path, &format!("update to empty string {when}")),
            _ => {}
        }
    }
}

fn validate_status(claim: &Value, errors: &mut Errors) {
    let (status, path) = (&claim["status"], Path::root("status"));
    for (resource, value) in status.entries("capacity") {
        valid_amount(value, &path.child("capacity").key(resource), errors);
    }
    let place = path.child("allocatedResourceStatuses");
    for (resource, state) in status.strings("allocatedResourceStatuses") {
        resizable(resource, &place, errors);
        if !RESIZING.contains(&state) {
            errors.unsupported(&place, resource, &RESIZING);
        }
    }
    let place = path.child("allocatedResources");
    for (resource, value) in status.entries("allocatedResources") {
        let path = place.key(resource);
        if resizable(resource, &place, errors) && valid_amount(value, &path, errors) {
            resource_names::amount("storage", value, &path, errors);
        }
    }
}

/// How far the resizing of a volume can be.
const RESIZING: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Whether a resource of a claim may be told to have been allocated.
fn resizable(resource: &str, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    errors.messages(path, resource, names::qualified_name(resource));
    if errors.len() == before && resource_names::is_native(resource) && resource != "storage" {
        errors.unsupported(path, resource, &["storage"]);
    }
    errors.len() == before
}

fn valid_amount(value: &Value, path: &Path, errors: &mut Errors) -> bool {
    let good = quantity(value).value() >= 0;
    if !good {
        errors.invalid(path, quantity(value).value(), "must be a valid resource quantity");
    }
    good
}
