//! Security contexts of pods and containers, and the annotations that were there before them.

use apimachinery::{
    field::{FieldError, Path},
    names,
    schema::internal,
};
use serde_json::{Value, json};

use super::{all_containers, windows};
use crate::kinds::{
    validation::{Errors, Report as _, descending_path, optional_one_of},
    value::{Fields as _, list_mut, object_at},
};

/// Users and groups by number.
fn ids(context: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    for field in fields {
        if let Some(id) = context.int(field) {
            for message in names::user_or_group_id(id) {
                errors.invalid(&path.child(field), id, &message);
            }
        }
    }
}

pub(super) fn of_pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(context) = spec.sub("securityContext") else { return };
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], path, errors);
    for (at, id) in context.list("supplementalGroups").iter().filter_map(Value::as_i64).enumerate()
    {
        for message in names::user_or_group_id(id) {
            errors.invalid(&path.child("supplementalGroups").index(at), id, &message);
        }
    }
    sysctls(spec, context, &path.child("sysctls"), errors);
    optional_one_of(context, "fsGroupChangePolicy", path, &["Always", "OnRootMismatch"], errors);
    seccomp(context, path, errors);
    windows::options(context, path, errors);
    app_armor(context, path, errors);
    optional_one_of(context, "supplementalGroupsPolicy", path, &["Merge", "Strict"], errors);
    optional_one_of(context, "seLinuxChangePolicy", path, &["MountOption", "Recursive"], errors);
}

pub(super) fn of_container(context: &Value, path: &Path, host_users: bool, errors: &mut Errors) {
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    optional_one_of(context, "procMount", path, &["Default", "Unmasked"], errors);
    if host_users && context.text("procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.invalid(&path.child("procMount"), "Unmasked", detail);
    }
    seccomp(context, path, errors);
    if context.flag("allowPrivilegeEscalation") == Some(false) {
        if context.on("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), detail);
        }
        if context["capabilities"].texts("add").any(|name| name == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), detail);
        }
    }
    windows::options(context, path, errors);
    app_armor(context, path, errors);
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(context: &Value, path: &Path, errors: &mut Errors) {
    if let Some(profile) = context.sub("seccompProfile") {
        let path = path.child("seccompProfile");
        match profile.text("type") {
            "" => {
                errors.required(&path.child("type"), "type is required when seccompProfile is set")
            }
            kind if PROFILES.contains(&kind) => {}
            kind => errors.unsupported(&path.child("type"), kind, &PROFILES),
        }
        let place = path.child("localhostProfile");
        match (profile.text("type"), profile.opt_text("localhostProfile")) {
            ("Localhost", None) => {
                errors.required(&place, "must be set when seccomp type is Localhost");
            }
            ("Localhost", Some(file)) => descending_path(file, &place, errors),
            (_, Some(_)) => {
                let detail = "can only be set when seccomp type is Localhost";
                let shown = internal::show("core.SeccompProfile", profile);
                errors.push(FieldError::invalid_shown(&place, &shown, detail));
            }
            (_, None) => {}
        }
    }
}

fn app_armor(context: &Value, path: &Path, errors: &mut Errors) {
    let Some(profile) = context.sub("appArmorProfile") else { return };
    let path = path.child("appArmorProfile");
    let place = path.child("localhostProfile");
    let file = profile.opt_text("localhostProfile");
    match (profile.text("type"), file) {
        ("Localhost", file) => {
            let file = file.unwrap_or_default();
            if file.trim() != file {
                errors.invalid(&place, file, "must not be padded with whitespace");
            } else if file.is_empty() {
                errors.required(&place, "must be set when AppArmor type is Localhost");
            }
            if file.len() > 4095 {
                errors.push(FieldError::too_long(&place, 4095));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            errors.invalid(&place, file, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            errors.required(&path.child("type"), "type is required when appArmorProfile is set");
        }
        (other, _) => errors.unsupported(&path.child("type"), other, &PROFILES),
    }
}

const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(spec: &Value, context: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (at, sysctl) in context.list("sysctls").iter().enumerate() {
        let path = path.index(at).child("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex {SYSCTL}");
            errors.invalid(&path, name, &detail);
        } else if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        let dotted = dotted(name);
        let of = |list: &[&str]| list.iter().any(|prefix| dotted.starts_with(prefix));
        let ipc = of(&["kernel.shm", "kernel.msg", "fs.mqueue."]) || dotted == "kernel.sem";
        if spec.on("hostNetwork") && of(&["net."]) {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.on("hostIPC") && ipc {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
        seen.push(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|b| plain(*b))
                && bytes.last().is_some_and(|b| plain(*b))
                && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
        })
}

/// The name with dots as separators: where the first separator is a slash, slashes and dots change
/// places (sysctl.d(5)).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// What a pod with user namespaces may not share with the host.
pub(super) fn host_users(spec: &Value, path: &Path, errors: &mut Errors) {
    const WHEN: &str = "when `hostUsers` is false";
    if spec.flag("hostUsers") != Some(false) {
        return;
    }
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec.on(field) {
            errors.forbidden(&path.child(shown), WHEN);
        }
    }
    for (list, at, container) in all_containers(spec) {
        if !container.list("volumeDevices").is_empty() {
            errors.forbidden(&path.child(list).index(at).child("volumeDevices"), WHEN);
        }
    }
}

/// Sets the AppArmor field of containers that have the annotation of before, as for old clients.
pub(crate) fn security_of_annotation(spec: &mut Value, annotations: &Value) {
    let of_pod = spec["securityContext"]["appArmorProfile"].clone();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, list) {
            let name = container.text("name");
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            let profile = match annotations.opt_text(&key) {
                Some("runtime/default") => json!({"type": "RuntimeDefault"}),
                Some("unconfined") => json!({"type": "Unconfined"}),
                Some(text) => match text.strip_prefix("localhost/").filter(|file| !file.is_empty())
                {
                    Some(file) => json!({"type": "Localhost", "localhostProfile": file}),
                    None => continue,
                },
                None => continue,
            };
            if container["securityContext"].has("appArmorProfile") || profile == of_pod {
                continue;
            }
            if let Some(context) = object_at(container, "securityContext") {
                context.insert("appArmorProfile".to_owned(), profile);
            }
        }
    }
}

/// Whether the annotations that came before the fields say the same as these, of a pod or template.
pub(crate) fn annotations_match(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let annotations = &meta["annotations"];
    if annotations.is_null() {
        return;
    }
    let own = spec["securityContext"].sub("seccompProfile");
    if let (Some(profile), Some(text)) =
        (own, annotations.opt_text("seccomp.security.alpha.kubernetes.io/pod"))
    {
        let path = path.child("securityContext").child("seccompProfile");
        seccomp_matches(text, profile, &path, errors);
    }
    for (list, at, container) in all_containers(spec) {
        let name = container.text("name");
        let context = &container["securityContext"];
        let path = path.child(list).index(at).child("securityContext");
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        if let (Some(profile), Some(text)) =
            (context.sub("seccompProfile"), annotations.opt_text(&key))
        {
            seccomp_matches(text, profile, &path.child("seccompProfile"), errors);
        }
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        let profile = context
            .sub("appArmorProfile")
            .or_else(|| spec["securityContext"].sub("appArmorProfile"));
        if let (Some(profile), Some(text)) = (profile, annotations.opt_text(&key)) {
            let path = path.child("appArmorProfile");
            let values = Values { default: &["runtime/default"], what: "apparmor" };
            values.compare(text, profile, &path, errors);
        }
    }
}

fn seccomp_matches(text: &str, profile: &Value, path: &Path, errors: &mut Errors) {
    let values = Values { default: &["runtime/default", "docker/default"], what: "seccomp" };
    values.compare(text, profile, path, errors);
}

/// How annotations of a kind of profile are written.
struct Values {
    default: &'static [&'static str],
    what: &'static str,
}

impl Values {
    fn compare(&self, text: &str, profile: &Value, path: &Path, errors: &mut Errors) {
        let what = self.what;
        let file = text.strip_prefix("localhost/");
        let matches = match profile.text("type") {
            "Unconfined" => text == "unconfined",
            "RuntimeDefault" => self.default.contains(&text),
            "Localhost" => file.is_some(),
            _ => true,
        };
        if !matches {
            let detail = format!("{what} type in annotation and field must match");
            errors.forbidden(&path.child("type"), &detail);
        } else if profile.text("type") == "Localhost"
            && file != profile.opt_text("localhostProfile")
        {
            let detail = format!("{what} profile in annotation and field must match");
            errors.forbidden(&path.child("localhostProfile"), &detail);
        }
    }
}
