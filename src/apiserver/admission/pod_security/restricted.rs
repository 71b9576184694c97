//! The restricted standard: hardened as one should.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    baseline,
    checks::{
        Violation, container_list, containers, has_own_users, is_windows, named, plural, quoted,
        setters, violation,
    },
};
use crate::kinds::value::Fields as _;

fn context(part: &Value) -> &Value {
    &part["securityContext"]
}

pub(super) fn privilege_escalation(pod: &Value) -> Option<Violation> {
    let names = named(pod, |c| context(c).flag("allowPrivilegeEscalation") != Some(false));
    if names.is_empty() {
        return None;
    }
    let who = container_list(&names);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

pub(super) fn privilege_escalation_25(pod: &Value) -> Option<Violation> {
    if is_windows(pod) { None } else { privilege_escalation(pod) }
}

pub(super) fn capabilities(pod: &Value) -> Option<Violation> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        context(container)["capabilities"].texts(field).map(ToOwned::to_owned).collect()
    };
    let added = |container: &Value| -> Vec<String> {
        let mut added = list(container, "add");
        added.retain(|name| name != "NET_BIND_SERVICE");
        added
    };
    let keeping = named(pod, |c| !list(c, "drop").iter().any(|name| name == "ALL"));
    let adding = named(pod, |c| !added(c).is_empty());
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = container_list(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let all: BTreeSet<String> = containers(pod).flat_map(added).collect();
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            container_list(&adding),
            quoted(all.iter().map(String::as_str))
        ));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub(super) fn capabilities_25(pod: &Value) -> Option<Violation> {
    if is_windows(pod) { None } else { capabilities(pod) }
}

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn volumes(pod: &Value) -> Option<Violation> {
    let bad = pod["spec"].list("volumes").iter();
    let bad: Vec<&Value> =
        bad.filter(|volume| !VOLUMES.iter().any(|source| volume.has(source))).collect();
    if bad.is_empty() {
        return None;
    }
    let source = |volume: &Value| {
        let mut fields = volume.as_object().into_iter().flatten();
        let found = fields.find(|(key, value)| *key != "name" && !value.is_null());
        found.map_or_else(|| "unknown".to_owned(), |(key, _)| key.clone())
    };
    let types: BTreeSet<String> = bad.iter().map(|volume| source(volume)).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(bad.iter().map(|volume| volume.text("name"))),
        plural(bad.len(), "uses", "use"),
        plural(types.len(), "restricted volume type", "restricted volume types"),
        quoted(types.iter().map(String::as_str)),
    );
    violation("restricted volume types", detail)
}

pub(super) fn non_root(pod: &Value) -> Option<Violation> {
    let says = |part: &Value| context(part).flag("runAsNonRoot");
    let of_pod = says(&pod["spec"]);
    let who = setters(of_pod == Some(false), &named(pod, |c| says(c) == Some(false)));
    let reason = "runAsNonRoot != true";
    if !who.is_empty() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation(reason, detail);
    }
    let open = named(pod, |c| says(c).is_none() && of_pod != Some(true));
    if open.is_empty() {
        return None;
    }
    let who = container_list(&open);
    violation(reason, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub(super) fn non_root_35(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { non_root(pod) }
}

pub(super) fn user(pod: &Value) -> Option<Violation> {
    let root = |part: &Value| context(part).int("runAsUser") == Some(0);
    let who = setters(root(&pod["spec"]), &named(pod, root));
    if who.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn user_35(pod: &Value) -> Option<Violation> {
    if has_own_users(pod) { None } else { user(pod) }
}

pub(super) fn seccomp(pod: &Value) -> Option<Violation> {
    if let Some(violation) = baseline::seccomp(pod) {
        return Some(violation);
    }
    let set = |part: &Value| context(part).has("seccompProfile");
    let open = named(pod, |c| !set(c) && !set(&pod["spec"]));
    if open.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\"",
            container_list(&open)
        ),
    )
}

pub(super) fn seccomp_25(pod: &Value) -> Option<Violation> {
    if is_windows(pod) { None } else { seccomp(pod) }
}
