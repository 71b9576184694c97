//! The checks that make up the standards, by level and by the version that brought them.

use serde_json::Value;

use super::{
    baseline,
    policy::{Level, LevelVersion, NEWEST},
    restricted,
};
use crate::kinds::value::Fields as _;

/// What a pod violates.
pub(super) struct Violation {
    /// In short.
    pub(super) reason: &'static str,
    /// Which containers, which values.
    pub(super) detail: String,
}

type CheckPod = fn(&Value) -> Option<Violation>;

struct Check {
    name: &'static str,
    level: Level,
    /// Forms by the minor version that brought them.
    versions: &'static [(u32, CheckPod)],
    /// The weaker check of the baseline that this one stands for.
    replaces: &'static str,
}

const fn check(
    name: &'static str,
    level: Level,
    versions: &'static [(u32, CheckPod)],
    replaces: &'static str,
) -> Check {
    Check { name, level, versions, replaces }
}

use Level::{Baseline, Restricted};

/// The baseline first, each level by name: the order of messages.
static CHECKS: &[Check] = &[
    check("appArmorProfile", Baseline, &[(0, baseline::app_armor)], ""),
    check("capabilities_baseline", Baseline, &[(0, baseline::capabilities)], ""),
    check("hostNamespaces", Baseline, &[(0, baseline::host_namespaces)], ""),
    check("hostPathVolumes", Baseline, &[(0, baseline::host_path_volumes)], ""),
    check("hostPorts", Baseline, &[(0, baseline::host_ports)], ""),
    check("hostProbesAndHostLifecycle", Baseline, &[(34, baseline::host_probes)], ""),
    check("privileged", Baseline, &[(0, baseline::privileged)], ""),
    check(
        "procMount",
        Baseline,
        &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_host_users)],
        "",
    ),
    check("seLinuxOptions", Baseline, &[(0, baseline::selinux), (31, baseline::selinux_31)], ""),
    check(
        "seccompProfile_baseline",
        Baseline,
        &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
        "",
    ),
    check(
        "sysctls",
        Baseline,
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
            (37, baseline::sysctls_37),
        ],
        "",
    ),
    check("windowsHostProcess", Baseline, &[(0, baseline::windows_host_process)], ""),
    check(
        "allowPrivilegeEscalation",
        Restricted,
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_25)],
        "",
    ),
    check(
        "capabilities_restricted",
        Restricted,
        &[(22, restricted::capabilities), (25, restricted::capabilities_25)],
        "capabilities_baseline",
    ),
    check("procMount_restricted", Restricted, &[(35, baseline::proc_mount)], "procMount"),
    check("restrictedVolumes", Restricted, &[(0, restricted::volumes)], "hostPathVolumes"),
    check(
        "runAsNonRoot",
        Restricted,
        &[(0, restricted::non_root), (35, restricted::non_root_35)],
        "",
    ),
    check("runAsUser", Restricted, &[(23, restricted::user), (35, restricted::user_35)], ""),
    check(
        "seccompProfile_restricted",
        Restricted,
        &[(19, restricted::seccomp), (25, restricted::seccomp_25)],
        "seccompProfile_baseline",
    ),
];

/// What of the standard the pod violates.
pub(super) fn evaluate(standard: LevelVersion, pod: &Value) -> Vec<Violation> {
    let version = standard.version.unwrap_or(NEWEST);
    let form = |check: &Check| {
        let applies = check.level <= standard.level;
        let mut forms = check.versions.iter().rev().filter(|_| applies);
        forms.find(|(since, _)| *since <= version).map(|(_, form)| *form)
    };
    let replaced =
        |name: &str| CHECKS.iter().any(|check| check.replaces == name && form(check).is_some());
    CHECKS
        .iter()
        .filter(|check| !replaced(check.name))
        .filter_map(form)
        .filter_map(|check| check(pod))
        .collect()
}

/// `a (detail), b (detail)`.
pub(super) fn details(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| match violation.detail.as_str() {
        "" => violation.reason.to_owned(),
        detail => format!("{} ({detail})", violation.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// `a, b`.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}

/// A violation with the reason in singular.
pub(super) fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

/// The containers of all kinds.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"].list(list))
}

/// The names of the containers that `bad` holds for.
pub(super) fn named(pod: &Value, bad: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(pod).filter(|container| bad(container)).map(|c| c.text("name")).collect()
}

/// `"a", "b"`.
pub(super) fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    items.join(", ")
}

/// The word for one, or for more than one.
pub(super) fn plural<'a>(count: usize, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn container_list(names: &[&str]) -> String {
    let word = plural(names.len(), "container", "containers");
    format!("{word} {}", quoted(names.iter().copied()))
}

/// `pod and containers "a", "b"`; empty when nobody is at fault.
pub(super) fn setters(pod_is_bad: bool, names: &[&str]) -> String {
    let mut all = Vec::new();
    if pod_is_bad {
        all.push("pod".to_owned());
    }
    if !names.is_empty() {
        all.push(container_list(names));
    }
    all.join(" and ")
}

/// Whether root in the pod is nobody on the node.
pub(super) fn has_own_users(pod: &Value) -> bool {
    pod["spec"].flag("hostUsers") == Some(false)
}

pub(super) fn is_windows(pod: &Value) -> bool {
    pod["spec"]["os"].text("name") == "windows"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(level: Level, version: Option<u32>, pod: &Value) -> String {
        details(&evaluate(LevelVersion { level, version }, pod))
    }

    #[test]
    fn a_plain_pod_is_baseline_but_not_restricted() {
        let pod = json!({"spec": {"containers": [{"name": "c"}]}});
        assert_eq!(found(Baseline, None, &pod), "");
        assert_eq!(
            found(Restricted, None, &pod),
            "allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \
             \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod \
             or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or \
             container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")"
        );
        assert_eq!(
            found(Restricted, Some(7), &pod),
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
        );
    }

    #[test]
    fn a_restricted_pod_passes() {
        let pod = json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            }}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }});
        assert_eq!(found(Restricted, None, &pod), "");
    }

    #[test]
    fn baseline_refuses_what_reaches_the_node() {
        let pod = json!({"spec": {
            "hostNetwork": true, "hostPID": true,
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}],
                "seLinuxOptions": {"user": "u"}},
            "containers": [
                {"name": "a", "securityContext": {"privileged": true, "procMount": "Unmasked",
                    "capabilities": {"add": ["SYS_ADMIN"]}},
                 "ports": [{"hostPort": 80}, {"hostPort": 8080}]},
                {"name": "b", "securityContext": {"privileged": true,
                    "seLinuxOptions": {"type": "t"}},
                 "livenessProbe": {"httpGet": {"host": "example.com"}}},
            ],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        }});
        assert_eq!(
            found(Baseline, None, &pod),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), \
             hostPath volumes (volume \"v\"), hostPort (container \"a\" uses hostPorts 80, 8080), \
             probe or lifecycle host (container \"b\" uses probe or lifecycle host \"example.com\"), \
             privileged (containers \"a\", \"b\" must not set securityContext.privileged=true), \
             procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\"), \
             seLinuxOptions (pod and container \"b\" set forbidden securityContext.seLinuxOptions: \
             type \"t\"; user may not be set), forbidden sysctls (kernel.msgmax)"
        );
    }

    #[test]
    fn versions_bring_checks_and_exceptions() {
        let pod = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]},
            "containers": []}});
        assert_eq!(found(Baseline, Some(31), &pod), "forbidden sysctls (net.ipv4.tcp_rmem)");
        assert_eq!(found(Baseline, Some(32), &pod), "");
        let users = json!({"spec": {"hostUsers": false, "containers": [
            {"name": "c", "securityContext": {"procMount": "Unmasked"}}]}});
        assert!(found(Baseline, Some(34), &users).starts_with("procMount"));
        assert_eq!(found(Baseline, None, &users), "");
        assert!(found(Restricted, None, &users).contains("procMount"));
        assert!(!found(Restricted, None, &users).contains("runAsNonRoot"));
    }
}
