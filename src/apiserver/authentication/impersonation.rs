//! Impersonation: a user who may `impersonate` others acts as them for one request.

use apimachinery::Status;
use http::{HeaderMap, HeaderName, header::HeaderValue};

use super::{extra, service_account};
use crate::{
    authorization::Authorizer,
    request::{RequestInfo, UserInfo},
};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|text| !text.is_empty())
}

/// The user that the headers ask `user` to act as; `None` when they ask for nobody.
///
/// # Errors
/// 403 when `user` may not impersonate one of the parts, 400 for parts without a user.
pub fn impersonated(
    authorizer: &Authorizer,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    let name = headers.get(USER).and_then(text);
    let groups: Vec<&str> = headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).collect();
    let uid = headers.get(UID).and_then(text);
    let extra = extra(headers, EXTRA);
    let Some(name) = name else {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request("requested impersonation without impersonating a user"));
    };

    let check = |group: &str, namespace: &str, resource: &str, subresource: &str, name: &str| {
        authorizer.check(
            user,
            &RequestInfo {
                verb: "impersonate".to_owned(),
                is_resource: true,
                group: group.to_owned(),
                version: "v1".to_owned(),
                namespace: namespace.to_owned(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                name: name.to_owned(),
                ..RequestInfo::default()
            },
        )
    };
    let mut act_as = UserInfo { name: name.to_owned(), ..UserInfo::default() };
    match service_account::split(name) {
        Some((namespace, account)) => {
            check("", namespace, "serviceaccounts", "", account)?;
            if groups.is_empty() {
                act_as.groups = service_account::groups(namespace);
            }
        }
        None => check("", "", "users", "", name)?,
    }
    for group in &groups {
        check("", "", "groups", "", group)?;
        act_as.groups.push((*group).to_owned());
    }
    for (key, values) in &extra {
        for value in values {
            check("authentication.k8s.io", "", "userextras", key, value)?;
        }
    }
    if let Some(uid) = uid {
        check("authentication.k8s.io", "", "uids", "", uid)?;
        uid.clone_into(&mut act_as.uid);
    }
    act_as.extra = extra;

    let unauthenticated = act_as.in_group("system:unauthenticated");
    if name == "system:anonymous" {
        if !unauthenticated {
            act_as.groups.push("system:unauthenticated".to_owned());
        }
    } else if !unauthenticated && !act_as.in_group("system:authenticated") {
        act_as.groups.push("system:authenticated".to_owned());
    }
    Ok(Some(act_as))
}
