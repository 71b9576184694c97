//! Who may do what: `system:masters`, the node authorizer, RBAC; the first that allows decides.

use apimachinery::{GroupResource, Status};

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
pub struct Authorizer {}

impl Authorizer {
    /// Whether `user` may do `info`.
    pub fn authorize(&self, _user: &UserInfo, _info: &RequestInfo) -> Decision {
        Decision::default()
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
