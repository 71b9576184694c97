//! The baseline: no known way out of a container.

use std::collections::BTreeSet;

use placement::sysctls::SAFE;
use serde_json::Value;

use super::checks::{
    Violation, container_list, containers, has_own_users, named, plural, quoted, setters, violation,
};
use crate::kinds::value::Fields as _;

fn context(part: &Value) -> &Value {
    &part["securityContext"]
}

pub(super) fn app_armor(pod: &Value) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |part: &Value| {
        let profile = context(part).sub("appArmorProfile");
        let bad = profile
            .map(|profile| profile.text("type"))
            .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"));
        values.extend(bad.map(ToOwned::to_owned));
        bad.is_some()
    };
    let pod_is_bad = is_bad(&pod["spec"]);
    let names: Vec<&str> =
        containers(pod).filter(|c| is_bad(c)).map(|container| container.text("name")).collect();
    let annotations: BTreeSet<String> = pod["metadata"]
        .strings("annotations")
        .filter(|(key, profile)| {
            key.starts_with("container.apparmor.security.beta.kubernetes.io/")
                && !profile.is_empty()
                && *profile != "runtime/default"
                && !profile.starts_with("localhost/")
        })
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    let mut who = setters(pod_is_bad, &names);
    if !annotations.is_empty() {
        let word = plural(annotations.len(), "annotation", "annotations");
        who = if who.is_empty() { word.to_owned() } else { format!("{who} and {word}") };
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural(all.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let all = quoted(all.iter().map(String::as_str));
    violation(reason, format!("{who} must not set AppArmor profile type to {all}"))
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn capabilities(pod: &Value) -> Option<Violation> {
    let added = |container: &Value| -> Vec<String> {
        let all = context(container)["capabilities"].texts("add");
        all.filter(|name| !CAPABILITIES.contains(name)).map(ToOwned::to_owned).collect()
    };
    let names = named(pod, |container| !added(container).is_empty());
    let all: BTreeSet<String> = containers(pod).flat_map(added).collect();
    if names.is_empty() {
        return None;
    }
    let all = quoted(all.iter().map(String::as_str));
    violation(
        "non-default capabilities",
        format!(
            "{} must not include {all} in securityContext.capabilities.add",
            container_list(&names)
        ),
    )
}

pub(super) fn host_namespaces(pod: &Value) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod["spec"].on(field))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_path_volumes(pod: &Value) -> Option<Violation> {
    let volumes = pod["spec"].list("volumes").iter();
    let names: Vec<&str> =
        volumes.filter(|volume| volume.has("hostPath")).map(|v| v.text("name")).collect();
    if names.is_empty() {
        return None;
    }
    let word = plural(names.len(), "volume", "volumes");
    violation("hostPath volumes", format!("{word} {}", quoted(names)))
}

pub(super) fn host_ports(pod: &Value) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = container.list("ports").iter().filter_map(|port| port.int("hostPort"));
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let names = named(pod, |container| !ports(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = containers(pod).flat_map(ports).collect();
    let detail = format!(
        "{} {} {} {}",
        container_list(&names),
        plural(names.len(), "uses", "use"),
        plural(all.len(), "hostPort", "hostPorts"),
        all.into_iter().collect::<Vec<_>>().join(", "),
    );
    violation("hostPort", detail)
}

pub(super) fn host_probes(pod: &Value) -> Option<Violation> {
    let hosts = |container: &Value| -> Vec<String> {
        let lifecycle = &container["lifecycle"];
        [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ]
        .into_iter()
        .flat_map(|handler| [&handler["httpGet"], &handler["tcpSocket"]])
        .map(|action| action.text("host").to_owned())
        .filter(|host| !host.is_empty())
        .collect()
    };
    let mut names = named(pod, |container| !hosts(container).is_empty());
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let all: BTreeSet<String> = containers(pod).flat_map(hosts).collect();
    let detail = format!(
        "{} {} {} {}",
        container_list(&names),
        plural(names.len(), "uses", "use"),
        plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
        quoted(all.iter().map(String::as_str)),
    );
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: &Value) -> Option<Violation> {
    let names = named(pod, |container| context(container).on("privileged"));
    if names.is_empty() {
        return None;
    }
    let who = container_list(&names);
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

pub(super) fn proc_mount(pod: &Value) -> Option<Violation> {
    let mount = |container: &Value| {
        let mount = context(container).opt_text("procMount").map(ToOwned::to_owned);
        mount.filter(|mount| mount != "Default")
    };
    let names = named(pod, |container| mount(container).is_some());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = containers(pod).filter_map(mount).collect();
    let all = quoted(all.iter().map(String::as_str));
    let who = container_list(&names);
    violation("procMount", format!("{who} must not set securityContext.procMount to {all}"))
}

pub(super) fn proc_mount_of_host_users(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { proc_mount(pod) }
}

pub(super) fn selinux(pod: &Value) -> Option<Violation> {
    selinux_types(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn selinux_31(pod: &Value) -> Option<Violation> {
    let types = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    selinux_types(pod, &types)
}

fn selinux_types(pod: &Value, allowed: &[&str]) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let mut is_bad = |part: &Value| {
        let Some(options) = context(part).sub("seLinuxOptions") else { return false };
        let kind = options.text("type");
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) =
            (!options.text("user").is_empty(), !options.text("role").is_empty());
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    };
    let pod_is_bad = is_bad(&pod["spec"]);
    let names: Vec<&str> =
        containers(pod).filter(|c| is_bad(c)).map(|container| container.text("name")).collect();
    let who = setters(pod_is_bad, &names);
    if who.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        let word = plural(types.len(), "type", "types");
        what.push(format!("{word} {}", quoted(types.iter().map(String::as_str))));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let what = what.join("; ");
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

/// Seccomp was set by annotations before 1.19.
pub(super) fn seccomp_annotations(pod: &Value) -> Option<Violation> {
    let of_containers = containers(pod).map(|container| {
        format!("container.seccomp.security.alpha.kubernetes.io/{}", container.text("name"))
    });
    let keys = ["seccomp.security.alpha.kubernetes.io/pod".to_owned()].into_iter();
    let annotations = &pod["metadata"]["annotations"];
    let bad: BTreeSet<String> = keys
        .chain(of_containers)
        .filter_map(|key| {
            let value = annotations.opt_text(&key)?;
            let good = matches!(value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!good).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural(bad.len(), "annotation", "annotations");
    let all = bad.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {word} {all}"))
}

/// Who sets a forbidden seccomp profile, and which.
pub(super) fn seccomp(pod: &Value) -> Option<Violation> {
    let kind = |part: &Value| {
        let profile = context(part).sub("seccompProfile")?;
        let kind = profile.text("type").to_owned();
        (!matches!(kind.as_str(), "Localhost" | "RuntimeDefault")).then_some(kind)
    };
    let of_pod = kind(&pod["spec"]);
    let names = named(pod, |container| kind(container).is_some());
    let who = setters(of_pod.is_some(), &names);
    if who.is_empty() {
        return None;
    }
    let values: BTreeSet<String> = containers(pod).filter_map(kind).chain(of_pod).collect();
    let values = quoted(values.iter().map(String::as_str));
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {values}"),
    )
}

/// Sysctls other than the first safe ones, as many as the version `allowed`.
fn sysctls_among(pod: &Value, allowed: usize) -> Option<Violation> {
    let all = context(&pod["spec"]).list("sysctls").iter().map(|sysctl| sysctl.text("name"));
    let bad: Vec<&str> = all.filter(|name| !SAFE[..allowed].contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn sysctls(pod: &Value) -> Option<Violation> {
    sysctls_among(pod, 5)
}

pub(super) fn sysctls_27(pod: &Value) -> Option<Violation> {
    sysctls_among(pod, 6)
}

pub(super) fn sysctls_29(pod: &Value) -> Option<Violation> {
    sysctls_among(pod, 10)
}

pub(super) fn sysctls_32(pod: &Value) -> Option<Violation> {
    sysctls_among(pod, 12)
}

pub(super) fn sysctls_37(pod: &Value) -> Option<Violation> {
    sysctls_among(pod, 14)
}

pub(super) fn windows_host_process(pod: &Value) -> Option<Violation> {
    let on = |part: &Value| context(part)["windowsOptions"].on("hostProcess");
    let who = setters(on(&pod["spec"]), &named(pod, on));
    if who.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
