//! Security contexts: what pod and container ask for together, and what a node refuses.

pub(crate) mod sysctls;

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use runtime::{Capabilities, ContainerSpec, ImageConfig, Seccomp, UserSpec};

use crate::podspec::PodExt;

fn id(value: Option<i64>) -> Option<u32> {
    value.and_then(|id| u32::try_from(id).ok())
}

/// Puts the security settings of a container into its spec. The error is the message of
/// CreateContainerConfigError.
pub(crate) fn apply(
    spec: &mut ContainerSpec,
    pod: &Pod,
    container: &Container,
    image: &ImageConfig,
    seccomp_dir: &Path,
    seccomp_default: bool,
) -> Result<(), String> {
    let of_pod = pod.spec_or_empty().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_non_root = own.run_as_non_root.or(of_pod.run_as_non_root);
    verify_non_root(pod, container, run_as_non_root == Some(true), run_as_user, &image.user)?;

    spec.user = UserSpec {
        uid: id(run_as_user),
        gid: id(own.run_as_group.or(of_pod.run_as_group)),
        username: image.user.clone(),
        supplementary_groups: of_pod
            .supplemental_groups
            .iter()
            .flatten()
            .filter_map(|group| id(Some(*group)))
            .collect(),
        fs_group: id(of_pod.fs_group),
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
    };
    spec.privileged = own.privileged == Some(true);
    if let Some(capabilities) = &own.capabilities {
        spec.capabilities = Capabilities {
            add: capabilities.add.clone().unwrap_or_default(),
            drop: capabilities.drop.clone().unwrap_or_default(),
        };
    }
    spec.read_only_root = own.read_only_root_filesystem == Some(true);
    spec.no_new_privs = own.allow_privilege_escalation == Some(false);
    if own.proc_mount.as_deref() == Some("Unmasked") {
        spec.masked_paths = Some(Vec::new());
        spec.readonly_paths = Some(Vec::new());
    }
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    spec.seccomp = seccomp(profile, seccomp_dir, seccomp_default)?;
    Ok(())
}

fn seccomp(
    profile: Option<&SeccompProfile>,
    folder: &Path,
    default: bool,
) -> Result<Seccomp, String> {
    match profile.map(|profile| (profile.type_.as_str(), profile)) {
        None if default => Ok(Seccomp::RuntimeDefault),
        Some(("RuntimeDefault", _)) => Ok(Seccomp::RuntimeDefault),
        Some(("Localhost", profile)) => match profile.localhost_profile.as_deref() {
            Some(name) if !name.is_empty() => Ok(Seccomp::Localhost(folder.join(name))),
            _ => {
                Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned())
            }
        },
        _ => Ok(Seccomp::Unconfined),
    }
}

/// `runAsNonRoot` can be verified for numbers only: what a name stands for, the image decides.
fn verify_non_root(
    pod: &Pod,
    container: &Container,
    wanted: bool,
    run_as_user: Option<i64>,
    image_user: &str,
) -> Result<(), String> {
    if !wanted {
        return Ok(());
    }
    let place = format!("(pod: {:?}, container: {})", pod.full_name(), container.name);
    if let Some(uid) = run_as_user {
        return if uid == 0 {
            Err(format!("container's runAsUser breaks non-root policy {place}"))
        } else {
            Ok(())
        };
    }
    let user = image_user.split(':').next().unwrap_or_default();
    if user.is_empty() {
        return Err(format!("container has runAsNonRoot and image will run as root {place}"));
    }
    match user.parse::<i64>() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        Ok(uid) if i32::try_from(uid).is_err() => Err(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be \
             1-({})): must be between 0 and 2147483647, inclusive {place}",
            i32::MAX
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify \
             user is non-root {place}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn non_root_is_verified_by_number() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": []}}))
        .unwrap();
        let container = Container { name: "c".to_owned(), ..Container::default() };
        let verify =
            |user: Option<i64>, image: &str| verify_non_root(&pod, &container, true, user, image);
        assert!(verify(Some(1000), "").is_ok());
        assert!(verify(None, "1000:1000").is_ok());
        assert_eq!(
            verify(Some(0), "1000").unwrap_err(),
            "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"
        );
        for image in ["", "0", "0:5"] {
            assert!(verify(None, image).unwrap_err().contains("image will run as root"));
        }
        assert!(verify(None, "nginx").unwrap_err().contains("non-numeric user (nginx)"));
    }
}
