//! Objects in error messages: upstream prints its internal structs, whose fields have no JSON names,
//! in the order of their definition and with those that are not set.

use std::fmt::Write as _;

use apimachinery::{
    field::{FieldError, Path},
    schema::{self, Schema},
};
use serde_json::Value;

use super::{
    validation::{Errors, IMMUTABLE},
    value::{Fields as _, same},
};

/// The value of a field of a kind as upstream prints it, by the kind's schema: `spec.a` for a field,
/// `spec.a[]` for an item of a list.
pub(crate) fn shown(version: &str, kind: &str, field: &str, value: &Value) -> String {
    let (parent, last) = field.rsplit_once('.').unwrap_or(("", field));
    let text = match last.ends_with("[]") {
        true => at(version, kind, field).map(|schema| schema.show_go(value)),
        false => at(version, kind, parent).map(|schema| schema.show_go_field(last, value)),
    };
    text.unwrap_or_else(|| value.to_string())
}

fn at(version: &str, kind: &str, field: &str) -> Option<Schema> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let whole = schema::builtin(group, version, kind)?;
    field.split('.').filter(|step| !step.is_empty()).try_fold(whole, |schema, step| {
        match step.strip_suffix("[]") {
            Some(list) => schema.field(list)?.items(),
            None => schema.field(step),
        }
    })
}

/// A field, given as for [`shown`], that must not change.
pub(crate) fn immutable(
    version: &str,
    kind: &str,
    field: &str,
    old: &Value,
    new: &Value,
    errors: &mut Errors,
) {
    let find = |of| field.split('.').fold(of, |at: &Value, step| &at[step]);
    let (was, is) = (find(old), find(new));
    if !same(was, is) {
        let path = field.split('.').fold(Path::empty(), |path, step| path.child(step));
        let shown = shown(version, kind, field, is);
        errors.push(FieldError::invalid_shown(&path, &shown, IMMUTABLE));
    }
}

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
