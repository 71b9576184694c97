//! Who may do what: `system:masters`, the node authorizer, RBAC; the first that allows decides.

mod escalation;
pub mod node;
mod rbac;
mod review;
pub mod rules;

use apimachinery::{GroupResource, Status};
use storage::{OpenError, Store};

pub use self::escalation::only_garbage_collection;
use crate::request::{RequestInfo, UserInfo};

/// The answer of the authorizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why; empty for a request that is allowed, unless it was asked for with `explain`.
    pub reason: String,
}

/// Decides what users may do.
pub struct Authorizer {
    rbac: rbac::Rbac,
    node: node::NodeAuthorizer,
}

impl Authorizer {
    /// Follows roles, bindings and pods in `store`.
    ///
    /// # Errors
    /// When their collections cannot be loaded.
    pub async fn open(store: &Store) -> Result<Self, OpenError> {
        Ok(Self {
            rbac: rbac::Rbac::open(store).await?,
            node: node::NodeAuthorizer::open(store, crate::bootstrap::node_rules()).await?,
        })
    }

    /// Whether `user` may do `info`.
    pub fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        self.decide(user, info, false)
    }

    /// [`Self::authorize`] with the reason of an allowance too.
    pub fn explain(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        self.decide(user, info, true)
    }

    fn decide(&self, user: &UserInfo, info: &RequestInfo, explain: bool) -> Decision {
        if user.in_group("system:masters") {
            return Decision { allowed: true, reason: String::new() };
        }
        let node = self.node.decide(user, info);
        if node.allowed {
            return node;
        }
        let mut rbac = self.rbac.decide(user, info, explain);
        if !rbac.allowed && !node.reason.is_empty() {
            let both = [node.reason, rbac.reason];
            rbac.reason =
                both.iter().filter(|r| !r.is_empty()).cloned().collect::<Vec<_>>().join("\n");
        }
        rbac
    }

    /// [`Self::authorize`] as a result: the 403 that upstream answers when it is denied.
    ///
    /// # Errors
    /// 403 Forbidden.
    pub fn check(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        let decision = self.authorize(user, info);
        if decision.allowed { Ok(()) } else { Err(forbidden(user, info, &decision.reason)) }
    }
}

/// The 403 for a denied request, worded as upstream's `responsewriters.ForbiddenStatusError`.
pub fn forbidden(user: &UserInfo, info: &RequestInfo, reason: &str) -> Status {
    let mut why = sanitize(&format!("User {:?} cannot {}", user.name, what(info)));
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let resource = GroupResource::new(&info.group, &info.resource);
    let mut status = Status::forbidden(&resource, &info.name, &why);
    if !info.is_resource {
        status.message = format!("forbidden: {why}");
    }
    status
}

fn what(info: &RequestInfo) -> String {
    let RequestInfo { verb, group, namespace, .. } = info;
    if !info.is_resource {
        return format!("{verb} path {:?}", info.path);
    }
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        sub => format!("{}/{sub}", info.resource),
    };
    let place = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    format!("{verb} resource {resource:?} in API group {group:?} {place}")
}

/// Errors must not look like HTML to a browser.
fn sanitize(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
