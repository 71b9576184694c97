//! Which kernel parameters a pod may set: those of its own namespaces that are harmless to others,
//! and those that the node's administrator allows.

use k8s_openapi::api::core::v1::Pod;
use placement::sysctls::SAFE;

use crate::podspec::PodExt;

/// With slashes as separators only the first one decides; the kernel's names have dots.
pub(crate) fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The namespace that holds a parameter, in upstream's words.
fn namespace(name: &str) -> &'static str {
    if name.starts_with("net.") { "net" } else { "ipc" }
}

/// Why a pod's sysctls are refused (`SysctlForbidden`), if they are.
pub(crate) fn refusal(pod: &Pod, allowed_unsafe: &[String]) -> Option<String> {
    let spec = pod.spec_or_empty();
    let context = spec.security_context.as_ref()?;
    for sysctl in context.sysctls.iter().flatten() {
        let name = normalized(&sysctl.name);
        let allowed = SAFE.contains(&name.as_str())
            || allowed_unsafe.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *pattern == name,
            });
        if !allowed {
            return Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        let namespace = namespace(&name);
        let shared = match namespace {
            "net" => pod.host_network(),
            _ => spec.host_ipc == Some(true),
        };
        if shared {
            return Some(format!(
                "forbidden sysctl: {name:?} not allowed with host {namespace} enabled"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn safe_ones_and_allowed_ones() {
        let refused = |name: &str, host: bool, allowed: &[String]| {
            let pod =
                serde_json::from_value(json!({"spec": {"containers": [], "hostNetwork": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
                .unwrap();
            refusal(&pod, allowed)
        };
        assert_eq!(refused("kernel.shm_rmid_forced", true, &[]), None);
        assert_eq!(refused("net/ipv4/tcp_syncookies", false, &[]), None);
        assert_eq!(
            refused("net.ipv4.tcp_syncookies", true, &[]).as_deref(),
            Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled")
        );
        assert_eq!(
            refused("kernel.msgmax", false, &[]).as_deref(),
            Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        );
        assert_eq!(refused("kernel.msgmax", false, &["kernel.msg*".to_owned()]), None);
    }
}
