//! The `token` subresource of service accounts: tokens on request, bound and short-lived.

use apimachinery::{
    GroupResource, GroupVersionKind, Key, Object, Status,
    field::{FieldError, Path},
};
use serde_json::{Value, json};

use super::{
    now,
    service_account::{Bound, Claims, Reference, Tokens},
};
use crate::Shared;

/// Shortest lifetime that may be asked for, seconds.
const SHORTEST: i64 = 600;
/// What kubelets ask for on behalf of pods that do not say. Such a token works for a year, because
/// old clients read it once; its use after this time is what is warned about.
const KUBELET_DEFAULT: i64 = 3607;
const YEAR: i64 = 365 * 86_400;

/// Checks a TokenRequest as it came for account `name`: what upstream validates before admission.
///
/// # Errors
/// 422 for what does not validate.
pub fn prepare(tokens: &Tokens, account: &Object, request: &mut Value) -> Result<(), Status> {
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let Key { namespace, name } = &account.key;
    let metadata = Path::root("metadata");
    for (field, is, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let sent = request["metadata"][field].as_str().unwrap_or_default();
        if !sent.is_empty() && *sent != **is {
            let detail = format!("must match the service account {what} if specified");
            let error = FieldError::invalid(&metadata.child(field), sent, &detail);
            return Err(Status::invalid(&kind, name, &[error]));
        }
    }
    let uid = request["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && *uid != *account.uid {
        let resource = GroupResource::new("authentication.k8s.io", "TokenRequest");
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid
        );
        return Err(Status::conflict(&resource, name, &why));
    }
    let spec = &request["spec"];
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!([tokens.issuer()]);
    }
    if request["spec"]["expirationSeconds"].is_null() {
        request["spec"]["expirationSeconds"] = json!(3600);
    }
    request["metadata"] = json!({
        "name": name, "namespace": namespace, "uid": account.uid,
        "creationTimestamp": apimachinery::time::now(),
    });
    request["status"] = Value::Null;

    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or_default();
    let path = Path::root("spec").child("expirationSeconds");
    let mut errors = Vec::new();
    if seconds < SHORTEST {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(&path, seconds, detail));
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(&path, seconds, detail));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&kind, "", &errors)),
    }
}

/// Issues the token: `request`, prepared and admitted, with its status.
///
/// # Errors
/// 404 or 409 when what the token shall be bound to is not there, 400 when it cannot be bound to.
pub fn issue(server: &Shared, account: &Object, mut request: Value) -> Result<Value, Status> {
    let tokens = &server.authenticator.tokens;
    let spec = &request["spec"];
    let list = spec["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let audiences: Vec<String> =
        list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
    let mut bound = Bound {
        namespace: account.key.namespace.to_string(),
        serviceaccount: reference(account),
        ..Bound::default()
    };
    if !spec["boundObjectRef"].is_null() {
        bind(server, account, &spec["boundObjectRef"], &mut bound)?;
    }
    let now = now();
    let mut lifetime = seconds;
    let own = audiences.iter().all(|audience| audience == tokens.issuer());
    if bound.pod.is_some() && seconds == KUBELET_DEFAULT && own {
        bound.warnafter = Some(now + seconds);
        lifetime = YEAR;
    }
    let Key { namespace, name } = &account.key;
    let claims = Claims {
        aud: audiences,
        exp: now + lifetime,
        iat: now,
        iss: tokens.issuer().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        bound,
        nbf: now,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let token = tokens
        .issue(&claims)
        .map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
    let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": apimachinery::time::format_seconds(expires),
    });
    Ok(request)
}

fn reference(object: &Object) -> Reference {
    Reference { name: object.key.name.to_string(), uid: object.uid.to_string() }
}

fn bind(server: &Shared, account: &Object, to: &Value, bound: &mut Bound) -> Result<(), Status> {
    let text = |field: &str| to[field].as_str().unwrap_or_default();
    let (kind, api_version, name) = (text("kind"), text("apiVersion"), text("name"));
    let Key { namespace, name: account_name } = &account.key;
    let find = |resource: &str, namespace: &str, name: &str| {
        server
            .get("", resource, namespace, name)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", resource), name))
    };
    let object = match (api_version, kind) {
        ("v1", "Pod") => {
            let pod = find("pods", namespace, name)?;
            let value = pod.value().map_err(Status::internal)?;
            if value["spec"]["serviceAccountName"] != **account_name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account_name:?} to pod running with different serviceaccount name."
                )));
            }
            if let Some(node) = value["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let known = server.get("", "nodes", "", node);
                let unknown = || Reference { name: node.to_owned(), ..Reference::default() };
                bound.node = Some(known.map_or_else(unknown, |node| reference(&node)));
            }
            bound.pod = Some(reference(&pod));
            pod
        }
        ("v1", "Node") => {
            let node = find("nodes", "", name)?;
            bound.node = Some(reference(&node));
            node
        }
        ("v1", "Secret") => {
            let secret = find("secrets", namespace, name)?;
            bound.secret = Some(reference(&secret));
            secret
        }
        _ => {
            let kind = GroupVersionKind::from_api_version(api_version, kind);
            return Err(Status::bad_request(format!("cannot bind token to object of type {kind}")));
        }
    };
    let uid = text("uid");
    if !uid.is_empty() && *uid != *object.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind), name, &why));
    }
    Ok(())
}
