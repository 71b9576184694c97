//! Reading pods: what several parts of the kubelet ask of a pod's spec and status.

use k8s_openapi::{
    api::core::v1::{Container, EphemeralContainer, ObjectReference, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// Which list of the pod a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `spec.initContainers`.
    Init,
    /// `spec.containers`.
    Regular,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

/// The accessors of a pod. Absent lists are empty, absent flags false.
pub(crate) trait PodExt {
    fn spec_or_empty(&self) -> &PodSpec;
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn generation(&self) -> i64;
    fn deleting(&self) -> bool;
    fn phase(&self) -> &str;
    fn init_containers(&self) -> &[Container];
    fn containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    fn host_network(&self) -> bool;
    fn restart_policy(&self) -> &str;
    fn is_static(&self) -> bool;

    /// `name_namespace(uid)`, as upstream's messages name pods.
    fn full_name(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    /// The container called `name` and its list, ephemeral ones as plain containers.
    fn find_container(&self, name: &str) -> Option<(Kind, Container)> {
        if let Some(found) = self.containers().iter().find(|c| c.name == name) {
            return Some((Kind::Regular, found.clone()));
        }
        if let Some(found) = self.init_containers().iter().find(|c| c.name == name) {
            return Some((Kind::Init, found.clone()));
        }
        self.ephemeral_containers()
            .iter()
            .find(|c| c.name == name)
            .map(|c| (Kind::Ephemeral, plain(c)))
    }
}

static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodExt for Pod {
    fn spec_or_empty(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY)
    }
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
    fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or(0)
    }
    fn deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
    }
    fn init_containers(&self) -> &[Container] {
        self.spec_or_empty().init_containers.as_deref().unwrap_or_default()
    }
    fn containers(&self) -> &[Container] {
        &self.spec_or_empty().containers
    }
    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec_or_empty().ephemeral_containers.as_deref().unwrap_or_default()
    }
    fn host_network(&self) -> bool {
        self.spec_or_empty().host_network == Some(true)
    }
    fn restart_policy(&self) -> &str {
        self.spec_or_empty().restart_policy.as_deref().unwrap_or("Always")
    }
    fn is_static(&self) -> bool {
        self.metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get("kubernetes.io/config.source"))
            .is_some_and(|source| source != "api")
    }
}

/// An init container that is restarted whatever its exit code: a sidecar.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a phase is final.
pub(crate) fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Failed" | "Succeeded")
}

/// The first restart rule that matches an exit code: its action.
pub(crate) fn restart_rule(container: &Container, exit_code: i32) -> Option<&str> {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    rules
        .iter()
        .find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let matched = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
                match codes.operator.as_str() {
                    "In" => matched,
                    "NotIn" => !matched,
                    _ => false,
                }
            })
        })
        .map(|rule| rule.action.as_str())
}

/// Whether a container that ended with `exit_code` is to be started again: its restart rules, then
/// its own policy, then the pod's.
pub(crate) fn should_restart(container: &Container, pod_policy: &str, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if matches!(restart_rule(container, exit_code), Some("Restart" | "RestartAllContainers")) {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match pod_policy {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    }
}

/// Whether some container of the pod may restart all of them.
pub(crate) fn may_restart_all(pod: &Pod) -> bool {
    pod.init_containers().iter().chain(pod.containers()).any(|c| {
        c.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
    })
}

/// An ephemeral container as a plain one; all fields but the target are the same.
pub(crate) fn plain(c: &EphemeralContainer) -> Container {
    let c = c.clone();
    Container {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        lifecycle: c.lifecycle,
        liveness_probe: c.liveness_probe,
        name: c.name,
        ports: c.ports,
        readiness_probe: c.readiness_probe,
        resize_policy: c.resize_policy,
        resources: c.resources,
        restart_policy: c.restart_policy,
        restart_policy_rules: c.restart_policy_rules,
        security_context: c.security_context,
        startup_probe: c.startup_probe,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
    }
}

/// A reference to a pod for events.
pub(crate) fn pod_reference(pod: &Pod) -> ObjectReference {
    client::events::reference(pod)
}

/// A reference to a container of a pod for events: `spec.containers{name}`.
pub(crate) fn container_reference(pod: &Pod, kind: Kind, name: &str) -> ObjectReference {
    let list = match kind {
        Kind::Init => "initContainers",
        Kind::Regular => "containers",
        Kind::Ephemeral => "ephemeralContainers",
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{name}}}")), ..pod_reference(pod) }
}

/// The present, cut to whole seconds as the API stores it.
pub(crate) fn now() -> Time {
    seconds(jiff::Timestamp::now())
}

/// A point in time, cut to whole seconds as the API stores it.
pub(crate) fn seconds(time: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// A time of the operating system as one of the API.
pub(crate) fn from_system(time: std::time::SystemTime) -> jiff::Timestamp {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};

    #[test]
    fn restart_policies_and_rules() {
        let plain = Container::default();
        for (policy, code, want) in [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 1, false),
        ] {
            assert_eq!(should_restart(&plain, policy, code), want, "{policy} {code}");
        }
        let own = |policy: &str| Container {
            restart_policy: Some(policy.to_owned()),
            restart_policy_rules: Some(vec![ContainerRestartRule {
                action: "Restart".to_owned(),
                exit_codes: Some(ContainerRestartRuleOnExitCodes {
                    operator: "In".to_owned(),
                    values: Some(vec![42]),
                }),
            }]),
            ..Container::default()
        };
        assert!(should_restart(&own("Never"), "Never", 42));
        assert!(!should_restart(&own("Never"), "Always", 1));
        assert!(should_restart(&own("OnFailure"), "Never", 1));
    }
}
