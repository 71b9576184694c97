//! Nobody may grant what they do not have: the checks on writes of roles and bindings, worded as
//! upstream's `pkg/registry/rbac`.

use apimachinery::{GroupResource, Status};
use serde_json::Value;

use super::{
    Authorizer,
    rules::{PolicyRule, missing},
};
use crate::request::{RequestInfo, UserInfo};

const GROUP: &str = "rbac.authorization.k8s.io";

impl Authorizer {
    /// Checks the write of a Role, ClusterRole, RoleBinding or ClusterRoleBinding. Writes of other
    /// resources pass.
    ///
    /// # Errors
    /// 403 when it grants what the user neither has nor may `escalate` or `bind`; 404 for a
    /// binding to a role that does not exist.
    pub fn check_escalation(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Status> {
        if info.group != GROUP || user.in_group("system:masters") {
            return Ok(());
        }
        if old.is_some_and(|old| only_garbage_collection(old, new)) {
            return Ok(());
        }
        match info.resource.as_str() {
            "roles" | "clusterroles" => self.check_role(user, info, old, new),
            "rolebindings" | "clusterrolebindings" => self.check_binding(user, info, new),
            _ => Ok(()),
        }
    }

    fn check_role(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Status> {
        let escalate = RequestInfo {
            verb: "escalate".to_owned(),
            version: "*".to_owned(),
            subresource: String::new(),
            ..info.clone()
        };
        if self.authorize(user, &escalate).allowed {
            return Ok(());
        }
        let refuse = |why: &str| {
            let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            Status::forbidden(&GroupResource::new(GROUP, &info.resource), name, why)
        };
        let rules: Vec<PolicyRule> = match &new["rules"] {
            Value::Null => Vec::new(),
            rules => serde_json::from_value(rules.clone()).map_err(Status::internal)?,
        };
        self.check_held(user, &info.namespace, &rules).map_err(|why| refuse(&why))?;
        let aggregates = |role: &Value| {
            let selectors = role.pointer("/aggregationRule/clusterRoleSelectors");
            selectors.and_then(Value::as_array).is_some_and(|list| !list.is_empty())
        };
        // An aggregated role can gather anything.
        if (aggregates(new) || old.is_some_and(aggregates))
            && self.check_held(user, "", &full_authority()).is_err()
        {
            return Err(refuse("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    fn check_binding(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        new: &Value,
    ) -> Result<(), Status> {
        let text = |pointer: &str| new.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
        let resource = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation says what is wrong with it.
            _ => return Ok(()),
        };
        let bind = RequestInfo {
            verb: "bind".to_owned(),
            is_resource: true,
            group: text("/roleRef/apiGroup").to_owned(),
            version: "*".to_owned(),
            namespace: info.namespace.clone(),
            resource: resource.to_owned(),
            name: role.to_owned(),
            ..RequestInfo::default()
        };
        if self.authorize(user, &bind).allowed {
            return Ok(());
        }
        let rules = self
            .rbac
            .role(kind == "ClusterRole", &info.namespace, role)
            .ok_or_else(|| Status::not_found(&GroupResource::new(GROUP, resource), role))?;
        self.check_held(user, &info.namespace, &rules).map_err(|why| {
            Status::forbidden(
                &GroupResource::new(GROUP, &info.resource),
                text("/metadata/name"),
                &why,
            )
        })
    }

    /// Says what of `wanted` the user does not hold.
    fn check_held(
        &self,
        user: &UserInfo,
        namespace: &str,
        wanted: &[PolicyRule],
    ) -> Result<(), String> {
        let owned = self.rbac.rules_for(user, namespace);
        let missing = missing(&owned, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = missing.iter().map(PolicyRule::describe).collect();
        texts.sort();
        texts.dedup();
        let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
        Err(format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            texts.join("\n"),
        ))
    }
}

fn full_authority() -> [PolicyRule; 2] {
    let star = || Box::from([Box::from("*")]);
    let all = PolicyRule { verbs: star(), ..PolicyRule::default() };
    [
        PolicyRule { api_groups: star(), resources: star(), ..all.clone() },
        PolicyRule { urls: star(), ..all },
    ]
}

/// Whether nothing changes but what the garbage collector changes on the way to a deletion.
pub fn only_garbage_collection(old: &Value, new: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        object
    };
    strip(old) == strip(new)
}
