//! The parameters that a binding gives its policy.

use apimachinery::{GroupVersionKind, Key, Object, selector::labels::Selector};
use serde_json::Value;

use super::{super::Call, Binding};
use crate::{
    kinds::value::Fields as _,
    registry::{convert, resource::Endpoint},
};

/// The kind of a policy's parameters.
pub(super) struct Kind(Endpoint);

impl Kind {
    /// The kind that a policy names, where it does.
    ///
    /// # Errors
    /// When there is no such kind.
    pub(super) fn find(call: &Call<'_>, kind: Option<&Value>) -> Result<Option<Self>, String> {
        let Some(of) = kind else { return Ok(None) };
        let version = of.text("apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = of.text("kind");
        match call.server.resources.table().kind(group, version, kind) {
            Some(endpoint) => Ok(Some(Self(endpoint.clone()))),
            None => {
                let kind = GroupVersionKind::new(group, version, kind);
                Err(format!("failed to find resource referenced by paramKind: '{kind}'"))
            }
        }
    }
}

/// The parameters; a null where the policy is to be used without.
///
/// # Errors
/// When there are none and there should be, or they cannot be read.
pub(super) async fn collect(
    call: &Call<'_>,
    kind: Option<&Kind>,
    binding: &Binding,
) -> Result<Vec<Value>, String> {
    let (Some(Kind(endpoint)), Some(reference)) = (kind, binding.spec.sub("paramRef")) else {
        return Ok(vec![Value::Null]);
    };
    let given = reference.text("namespace");
    let namespace = match endpoint.resource.namespaced {
        false if !given.is_empty() => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped \
                        `paramKind`"
                .into());
        }
        false => "",
        true if !given.is_empty() => given,
        true if call.request.info.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches \
                        cluster-scoped resources"
                .into());
        }
        true => &call.request.info.namespace,
    };
    let Some(collection) = endpoint.resource.collection.as_ref() else {
        return Err("the parameters are of a kind that is not stored".into());
    };
    let name = reference.text("name");
    let mut found: Vec<Value> = Vec::new();
    let mut take = |object: &Object| found.extend(object.value().ok());
    if !name.is_empty() {
        if let Some(object) = collection.get(&Key::new(namespace, name)) {
            take(&object);
        }
    } else {
        let selector = reference.sub("selector").map(Selector::from_object);
        let selector = selector.transpose().map_err(|error| error.to_string())?;
        for object in collection.snapshot().range(namespace) {
            let fits = |it: &Selector| it.matches(&object.labels[..]);
            if selector.as_ref().is_none_or(fits) {
                take(object);
            }
        }
    }
    if found.is_empty() && reference.text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    convert::all_from_storage(call.server, endpoint, found).await.map_err(|status| status.message)
}
