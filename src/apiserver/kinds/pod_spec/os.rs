//! What a pod's declared operating system rules out.

use apimachinery::field::Path;
use serde_json::Value;

use super::all_containers;
use crate::kinds::{
    validation::{Errors, Report as _},
    value::Fields as _,
};

const NOT_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_LINUX: &str = "windows options cannot be set for a linux pod";

pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(os) = spec.sub("os") else { return };
    match os.text("name") {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => errors.unsupported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn linux(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec["securityContext"].has("windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), NOT_LINUX);
    }
    for (list, at, container) in all_containers(spec) {
        if container["securityContext"].has("windowsOptions") {
            let path = path.child(list).index(at).child("securityContext");
            errors.forbidden(&path.child("windowsOptions"), NOT_LINUX);
        }
    }
}

const POD_FIELDS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];

const CONTAINER_FIELDS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn windows(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut forbid = |object: &Value, fields: &[&str], path: &Path| {
        for field in fields.iter().filter(|field| object.has(field)) {
            // A false flag of the pod is no different from none.
            if !(field.starts_with("host") && *field != "hostUsers" && !object.on(field)) {
                errors.forbidden(&path.child(field), NOT_WINDOWS);
            }
        }
    };
    forbid(&spec["securityContext"], &POD_FIELDS, &path.child("securityContext"));
    forbid(spec, &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"], path);
    for (list, at, container) in all_containers(spec) {
        let path = path.child(list).index(at).child("securityContext");
        forbid(&container["securityContext"], &CONTAINER_FIELDS, &path);
    }
}

/// Windows host-process containers: all or none, and on the host's network.
pub(super) fn windows_host_process(spec: &Value, path: &Path, errors: &mut Errors) {
    let own = spec["securityContext"]["windowsOptions"].flag("hostProcess");
    let (mut all, mut host) = (0, 0);
    for (list, at, container) in all_containers(spec) {
        all += 1;
        let flag = container["securityContext"]["windowsOptions"].flag("hostProcess");
        if let (Some(own), Some(flag)) = (own, flag)
            && own != flag
        {
            let path = path.child(list).index(at).child("securityContext");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {own}");
            errors.invalid(&path.child("windowsOptions").child("hostProcess"), flag, &detail);
        }
        host += usize::from(flag.or(own) == Some(true));
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", detail);
    }
    if !spec.on("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, detail);
    }
}
