//! PersistentVolumes.

use apimachinery::{
    field::{FieldError, Path},
    schema::internal,
    time,
};
use serde_json::{Value, json};

use super::persistent_volume_claim::{ACCESS_MODES, access_modes, storage_class};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    diff::diff,
    pod_spec::{csi_driver_name, legacy_volumes, node_selector, volumes},
    validation::{
        Check, Errors, IMMUTABLE, POSITIVE, Report as _, dns_label, dns_subdomain, no_backsteps,
        optional_one_of, quantity, quantity_text, spec,
    },
    value::{Fields as _, list_mut, remove, same, set_default},
};

pub(crate) struct PersistentVolume;

/// Sources in the order in which upstream looks at them: field, the field in the paths of what is
/// wrong in it, check.
const SOURCES: [(&str, &str, Check); 22] = [
    ("hostPath", "hostPath", volumes::host_path),
    ("gcePersistentDisk", "persistentDisk", legacy_volumes::gce_disk),
    ("awsElasticBlockStore", "awsElasticBlockStore", legacy_volumes::aws_disk),
    ("glusterfs", "glusterfs", legacy_volumes::persistent_glusterfs),
    ("flocker", "flocker", legacy_volumes::flocker),
    ("nfs", "nfs", volumes::nfs),
    ("rbd", "rbd", legacy_volumes::rbd),
    ("quobyte", "quobyte", legacy_volumes::quobyte),
    ("cephfs", "cephfs", legacy_volumes::cephfs),
    ("iscsi", "iscsi", legacy_volumes::iscsi),
    ("cinder", "cinder", legacy_volumes::persistent_cinder),
    ("fc", "fc", legacy_volumes::fibre_channel),
    ("flexVolume", "flexVolume", legacy_volumes::flex),
    ("azureFile", "azureFile", legacy_volumes::persistent_azure_file),
    ("vsphereVolume", "vsphereVolume", legacy_volumes::vsphere),
    ("photonPersistentDisk", "photonPersistentDisk", legacy_volumes::photon),
    ("portworxVolume", "portworxVolume", legacy_volumes::portworx),
    ("azureDisk", "azureDisk", legacy_volumes::azure_disk),
    ("scaleIO", "scaleIO", legacy_volumes::scale_io),
    ("local", "local", local),
    ("storageos", "storageos", legacy_volumes::persistent_storageos),
    ("csi", "csi", csi),
];

impl Hooks for PersistentVolume {
    fn default(&self, volume: &mut Value) {
        if let Some(spec) = volume.get_mut("spec").filter(|spec| spec.is_object()) {
            set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
            set_default(spec, "volumeMode", "Filesystem");
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, volume: &mut Value) {
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": time::now()});
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource != "status" {
            return;
        }
        const SINCE: &str = "lastPhaseTransitionTime";
        let moved = old["status"].text("phase") != new["status"].text("phase");
        let told = new["status"].has(SINCE) && new["status"][SINCE] != old["status"][SINCE];
        if moved && !told {
            new["status"][SINCE] = time::now().into();
        } else if !moved && let Some(was) = old["status"].sub(SINCE) {
            set_default(&mut new["status"], SINCE, was.clone());
        }
    }

    fn validate_create(&self, _context: &Context<'_>, volume: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let name = volume["metadata"].text("name");
        validate(&volume["spec"], name, &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource == "status" {
            return Vec::new();
        }
        let mut errors = self.validate_create(context, new);
        let source = |volume: &Value| {
            let fields = SOURCES.iter().filter_map(|(field, ..)| {
                Some(((*field).to_owned(), volume["spec"].sub(field)?.clone()))
            });
            Value::Object(fields.collect())
        };
        let (was, mut is) = (source(old), source(new));
        // The secret for expansion may be added later.
        if was.has("csi") && !was["csi"].has("controllerExpandSecretRef") {
            remove(&mut is["csi"], "controllerExpandSecretRef");
        }
        if !same(&was, &is) {
            let detail = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                diff("core.PersistentVolumeSource", &was, &is)
            );
            errors.forbidden(&spec().child("persistentvolumesource"), &detail);
        }
        let field = |volume: &Value, field: &str| volume["spec"][field].clone();
        if !same(&field(old, "volumeMode"), &field(new, "volumeMode")) {
            errors.invalid(&Path::root("volumeMode"), field(new, "volumeMode"), IMMUTABLE);
        }
        let affinity = "nodeAffinity";
        let (was, is) = (field(old, affinity), field(new, affinity));
        if old["spec"].has(affinity) && !same(&with_labels_of(&was, &is), &is) {
            let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
            let shown = internal::show("*core.VolumeNodeAffinity", &is);
            errors.push(FieldError::invalid_shown(&Path::root(affinity), &shown, &detail));
        }
        let class = "volumeAttributesClassName";
        if old["spec"].has(class) && !new["spec"].has(class) {
            let detail = "update from non-nil value to nil is forbidden";
            errors.forbidden(&spec().child(class), detail);
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/persistentvolumes")
    }

    fn cells(&self, volume: &Value) -> Vec<Value> {
        let (spec, status) = (&volume["spec"], &volume["status"]);
        let terminating = volume["metadata"].has("deletionTimestamp");
        let phase = if terminating { "Terminating" } else { status.text("phase") };
        let claim = spec.sub("claimRef").map_or_else(String::new, |claim| {
            format!("{}/{}", claim.text("namespace"), claim.text("name"))
        });
        let unset = |field: &str| spec.opt_text(field).unwrap_or("<unset>");
        vec![
            name(volume),
            quantity_text(&spec["capacity"]["storage"]).into(),
            access_modes(&spec["accessModes"]).into(),
            spec.text("persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            storage_class(volume).into(),
            unset("volumeAttributesClassName").into(),
            status.text("reason").into(),
            age(volume),
            unset("volumeMode").into(),
        ]
    }
}

/// Labels that have a name without `beta` now.
const GA_LABELS: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// A node affinity with the keys of another where those are the newer names of its own. That other
/// keys may become none is upstream's.
fn with_labels_of(was: &Value, is: &Value) -> Value {
    let mut renamed = was.clone();
    let (Some(old), Some(new)) = (
        renamed.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut),
        is.pointer("/required/nodeSelectorTerms").and_then(Value::as_array),
    ) else {
        return renamed;
    };
    for (old, new) in old.iter_mut().zip(new) {
        for field in ["matchExpressions", "matchFields"] {
            for (old, new) in list_mut(old, field).zip(new.list(field)) {
                let known = GA_LABELS.iter().find(|(beta, _)| *beta == old.text("key"));
                if new.text("key") == known.map_or("", |(_, label)| *label) {
                    old["key"] = new["key"].clone();
                }
            }
        }
    }
    renamed
}

/// The spec of a volume that stands in an attachment, and says no more of it than how to attach it.
pub(crate) fn validate_inline(spec: &Value, path: &Path, errors: &mut Errors) {
    const WHERE: &str = "in the context of inline volumes";
    let forbid = |field: &str, given: bool, what: &str, errors: &mut Errors| {
        if given {
            errors.forbidden(&path.child(field), &format!("{what} {WHERE}"));
        }
    };
    let not = "may not be specified";
    forbid("claimRef", spec.has("claimRef"), not, errors);
    forbid("capacity", spec.entries("capacity").count() > 0, not, errors);
    if !spec.has("csi") {
        errors.required(&path.child("csi"), &format!("has to be specified {WHERE}"));
    }
    modes(spec, &path.child("accessModes"), errors);
    let policy = spec.text("persistentVolumeReclaimPolicy");
    let other = !matches!(policy, "" | "Retain");
    forbid("persistentVolumeReclaimPolicy", other, "may only be Retain", errors);
    forbid("nodeAffinity", spec.has("nodeAffinity"), not, errors);
    sources("", spec, path, errors);
    forbid("storageClassName", !spec.text("storageClassName").is_empty(), not, errors);
    let other = spec.opt_text("volumeMode").is_some_and(|mode| mode != "Filesystem");
    forbid("volumeMode", other, "may not specify volumeMode other than Filesystem", errors);
}

fn validate(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    modes(spec, &path.child("accessModes"), errors);
    let capacity = path.child("capacity");
    let given = spec.entries("capacity");
    let count = given.count();
    if count == 0 {
        errors.required(&capacity, "");
    }
    if !spec["capacity"].has("storage") || count > 1 {
        errors.unsupported(&capacity, spec["capacity"].clone(), &["storage"]);
    }
    for (resource, amount) in spec.entries("capacity") {
        let path = capacity.key(resource);
        if quantity(amount).value() < 0 {
            let detail = "must be a valid resource quantity";
            errors.invalid(&path, quantity(amount).value(), detail);
        }
        if quantity(amount).signum() <= 0 {
            errors.invalid(&path, quantity_text(amount), POSITIVE);
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    optional_one_of(spec, "persistentVolumeReclaimPolicy", path, &policies, errors);
    if let Some(affinity) = spec.sub("nodeAffinity") {
        let path = path.child("nodeAffinity").child("required");
        match affinity.sub("required") {
            Some(required) => node_selector(required, &path, errors),
            None => errors.required(&path, "must specify required node constraints"),
        }
    }
    sources(name, spec, path, errors);
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        dns_subdomain(class, &path.child("storageClassName"), errors);
    }
    optional_one_of(spec, "volumeMode", path, &["Block", "Filesystem"], errors);
    if let Some(class) = spec.opt_text("volumeAttributesClassName") {
        let field = path.child("volumeAttributesClassName");
        match class {
            "" => errors.required(&field, "an empty string is disallowed"),
            class => dns_subdomain(class, &field, errors),
        }
        if !spec.has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.required(&path.child("csi"), detail);
        }
    }
}

fn modes(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec.list("accessModes").is_empty() {
        errors.required(path, "");
    }
    let (mut single, mut other) = (false, false);
    for mode in spec.texts("accessModes") {
        if !ACCESS_MODES.contains(&mode) {
            errors.unsupported(path, mode, &ACCESS_MODES);
        } else if mode == "ReadWriteOncePod" {
            single = true;
        } else {
            other = true;
        }
    }
    if single && other {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn sources(name: &str, spec: &Value, path: &Path, errors: &mut Errors) {
    let mut found = false;
    for (field, inner, check) in SOURCES {
        let Some(source) = spec.sub(field) else { continue };
        if found {
            errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
        } else {
            found = true;
            match field {
                "iscsi" => legacy_volumes::iscsi_of(name, source, &path.child(inner), errors),
                _ => check(source, &path.child(inner), errors),
            }
            if field == "local" && !spec.has("nodeAffinity") {
                let detail = "Local volume requires node affinity";
                errors.required(&path.child("nodeAffinity"), detail);
            }
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
    let recycles = spec.text("persistentVolumeReclaimPolicy") == "Recycle";
    let root = spec["hostPath"].text("path");
    if recycles && !root.is_empty() && root.split('/').all(|part| matches!(part, "" | ".")) {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
}

fn local(source: &Value, path: &Path, errors: &mut Errors) {
    match source.text("path") {
        "" => errors.required(&path.child("path"), ""),
        place => no_backsteps(place, &path.child("path"), errors),
    }
}

fn csi(source: &Value, path: &Path, errors: &mut Errors) {
    csi_driver_name(source.text("driver"), &path.child("driver"), errors);
    if source.text("volumeHandle").is_empty() {
        errors.required(&path.child("volumeHandle"), "");
    }
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = source.sub(field) else { continue };
        for part in ["name", "namespace"] {
            let path = path.child(field).child(part);
            match (part, secret.text(part)) {
                (_, "") => errors.required(&path, ""),
                ("name", name) => dns_subdomain(name, &path, errors),
                (_, namespace) => dns_label(namespace, &path, errors),
            }
        }
    }
}
