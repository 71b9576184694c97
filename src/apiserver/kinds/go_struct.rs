//! Objects in error messages: upstream prints its internal structs, whose fields have no JSON names,
//! in the order of their definition and with those that are not set.

use std::fmt::Write as _;

use serde_json::Value;

use super::value::Fields as _;

/// What a field that is not set is printed as, or of which struct it is.
pub(crate) enum Kind {
    /// A pointer, list or map: `null`.
    Pointer,
    /// A string: `""`.
    Text,
    /// A number: `0`.
    Number,
    /// A pointer to a struct.
    Struct(&'static GoStruct),
    /// A list of structs.
    List(&'static GoStruct),
}

/// Go name, JSON name and kind of each field.
pub(crate) struct GoStruct(pub(crate) &'static [(&'static str, &'static str, Kind)]);

use Kind::{List, Number, Pointer, Struct, Text};

impl GoStruct {
    /// The object as upstream prints it.
    pub(crate) fn show(&self, object: &Value) -> String {
        let mut text = String::from("{");
        for (at, (name, field, kind)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let value = match (object.sub(field), kind) {
                (Some(value), Struct(inner)) => inner.show(value),
                (Some(Value::Array(items)), List(inner)) => {
                    let items: Vec<String> = items.iter().map(|item| inner.show(item)).collect();
                    format!("[{}]", items.join(","))
                }
                (Some(value), _) => value.to_string(),
                (None, Text) => "\"\"".to_owned(),
                (None, Number) => "0".to_owned(),
                (None, Pointer | Struct(_) | List(_)) => "null".to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}\"{name}\":{value}");
        }
        text.push('}');
        text
    }
}

pub(crate) static PROFILE: GoStruct =
    GoStruct(&[("Type", "type", Text), ("LocalhostProfile", "localhostProfile", Pointer)]);

static CAPABILITIES: GoStruct = GoStruct(&[("Add", "add", Pointer), ("Drop", "drop", Pointer)]);

static SELINUX: GoStruct = GoStruct(&[
    ("User", "user", Text),
    ("Role", "role", Text),
    ("Type", "type", Text),
    ("Level", "level", Text),
]);

static WINDOWS: GoStruct = GoStruct(&[
    ("GMSACredentialSpecName", "gmsaCredentialSpecName", Pointer),
    ("GMSACredentialSpec", "gmsaCredentialSpec", Pointer),
    ("RunAsUserName", "runAsUserName", Pointer),
    ("HostProcess", "hostProcess", Pointer),
]);

/// The security context of a container.
pub(crate) static SECURITY_CONTEXT: GoStruct = GoStruct(&[
    ("Capabilities", "capabilities", Struct(&CAPABILITIES)),
    ("Privileged", "privileged", Pointer),
    ("SELinuxOptions", "seLinuxOptions", Struct(&SELINUX)),
    ("WindowsOptions", "windowsOptions", Struct(&WINDOWS)),
    ("RunAsUser", "runAsUser", Pointer),
    ("RunAsGroup", "runAsGroup", Pointer),
    ("RunAsNonRoot", "runAsNonRoot", Pointer),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", Pointer),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", Pointer),
    ("ProcMount", "procMount", Pointer),
    ("SeccompProfile", "seccompProfile", Struct(&PROFILE)),
    ("AppArmorProfile", "appArmorProfile", Struct(&PROFILE)),
]);

/// A resource claim of a pod.
pub(crate) static RESOURCE_CLAIM: GoStruct = GoStruct(&[
    ("Name", "name", Text),
    ("ResourceClaimName", "resourceClaimName", Pointer),
    ("ResourceClaimTemplateName", "resourceClaimTemplateName", Pointer),
]);

/// A taint of a node.
pub(crate) static TAINT: GoStruct = GoStruct(&[
    ("Key", "key", Text),
    ("Value", "value", Text),
    ("Effect", "effect", Text),
    ("TimeAdded", "timeAdded", Pointer),
]);

/// An address of a node.
pub(crate) static NODE_ADDRESS: GoStruct =
    GoStruct(&[("Type", "type", Text), ("Address", "address", Text)]);

static ROLLING: GoStruct =
    GoStruct(&[("MaxUnavailable", "maxUnavailable", Pointer), ("MaxSurge", "maxSurge", Pointer)]);

/// The strategy of a Deployment or DaemonSet.
pub(crate) static STRATEGY: GoStruct =
    GoStruct(&[("Type", "type", Text), ("RollingUpdate", "rollingUpdate", Struct(&ROLLING))]);

static ROLLING_PARTITION: GoStruct =
    GoStruct(&[("Partition", "partition", Number), ("MaxUnavailable", "maxUnavailable", Pointer)]);

/// The strategy of a StatefulSet.
pub(crate) static PARTITION_STRATEGY: GoStruct = GoStruct(&[
    ("Type", "type", Text),
    ("RollingUpdate", "rollingUpdate", Struct(&ROLLING_PARTITION)),
]);

static SUCCESS_RULE: GoStruct = GoStruct(&[
    ("SucceededIndexes", "succeededIndexes", Pointer),
    ("SucceededCount", "succeededCount", Pointer),
]);

/// When a Job has succeeded.
pub(crate) static SUCCESS_POLICY: GoStruct = GoStruct(&[("Rules", "rules", List(&SUCCESS_RULE))]);

/// The spec of a PodDisruptionBudget.
pub(crate) static DISRUPTION_BUDGET: GoStruct = GoStruct(&[
    ("MinAvailable", "minAvailable", Pointer),
    ("Selector", "selector", Pointer),
    ("MaxUnavailable", "maxUnavailable", Pointer),
    ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", Pointer),
]);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn structs_are_shown_in_gos_order_with_what_is_missing() {
        let context = json!({"runAsUser": 5, "capabilities": {"add": ["A"]}, "privileged": true});
        assert_eq!(
            SECURITY_CONTEXT.show(&context),
            "{\"Capabilities\":{\"Add\":[\"A\"],\"Drop\":null},\"Privileged\":true,\
             \"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":5,\"RunAsGroup\":null,\
             \"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\
             \"AllowPrivilegeEscalation\":null,\"ProcMount\":null,\"SeccompProfile\":null,\
             \"AppArmorProfile\":null}"
        );
        assert_eq!(STRATEGY.show(&json!({"type": "X"})), "{\"Type\":\"X\",\"RollingUpdate\":null}");
    }
}
