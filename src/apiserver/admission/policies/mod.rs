//! Admission policies: expressions that judge writes, or change them. A binding says where a policy
//! counts, and with which parameters.

mod expression;
pub(super) mod mutating;
mod params;
pub(super) mod validating;

use std::sync::Arc;

use apimachinery::Status;
use serde_json::Value;

use super::{
    Call,
    matching::{self, Matched},
};
use crate::{
    expressions::{Scope, conditions::Conditions, variables::Variables},
    kinds::value::Fields as _,
};

/// What policies of both sorts have in common, compiled.
#[derive(Debug)]
pub(super) struct Head {
    name: String,
    spec: Value,
    /// Whether a policy that cannot be judged by lets everything pass.
    ignore: bool,
    scope: Scope,
    conditions: Conditions,
    variables: Variables,
}

impl Head {
    fn new(policy: &Value) -> Self {
        let spec = policy["spec"].clone();
        let scope = Scope { params: spec.has("paramKind"), authorizer: true };
        Self {
            name: policy["metadata"].text("name").to_owned(),
            ignore: spec.text("failurePolicy") == "Ignore",
            conditions: Conditions::compile(&spec, scope),
            variables: Variables::compile(&spec, scope),
            scope,
            spec,
        }
    }
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    name: String,
    spec: Value,
}

impl Binding {
    fn new(binding: &Value) -> Self {
        let name = binding["metadata"].text("name").to_owned();
        Self { name, spec: binding["spec"].clone() }
    }
}

/// A policy that counts for a request.
struct Invocation {
    binding: Arc<Binding>,
    /// The request and the objects as the policy wants to see them.
    view: Arc<View>,
    /// Its parameters, one after another; null for none.
    params: Vec<Value>,
}

/// The objects in the version that a policy asks for.
struct View {
    matched: Matched,
    object: Value,
    old: Value,
}

/// Why a policy or a binding cannot be used.
struct Misconfigured {
    /// Of a binding; none of the policy itself.
    binding: Option<String>,
    why: String,
}

impl Misconfigured {
    fn policy(why: impl Into<String>) -> Self {
        let why = format!("failed to configure policy: {}", why.into());
        Self { binding: None, why }
    }

    fn binding(binding: &Binding, why: impl Into<String>) -> Self {
        let why = format!("failed to configure binding: {}", why.into());
        Self { binding: Some(binding.name.clone()), why }
    }
}

/// Where and how a policy counts for the request with this object.
async fn invocations(
    call: &Call<'_>,
    head: &Head,
    bindings: &[Arc<Binding>],
    object: &Value,
) -> Vec<Result<Invocation, Misconfigured>> {
    let bound = bindings.iter().filter(|it| it.spec.text("policyName") == head.name);
    let bound: Vec<&Arc<Binding>> = bound.collect();
    if bound.is_empty() {
        return Vec::new();
    }
    let matched = match matching::constrained(call, &head.spec["matchConstraints"], object) {
        Ok(Some(matched)) => matched,
        Ok(None) => return Vec::new(),
        Err(status) => return vec![Err(Misconfigured::policy(status.message))],
    };
    let kind = match params::Kind::find(call, head.spec.sub("paramKind")) {
        Ok(kind) => kind,
        Err(why) => return vec![Err(Misconfigured::policy(why))],
    };
    let mut counting = Vec::new();
    let mut results = Vec::new();
    for binding in bound {
        let counts = match binding.spec.sub("matchResources") {
            None => Ok(true),
            Some(resources) => {
                matching::constrained(call, resources, object).map(|found| found.is_some())
            }
        };
        match counts {
            Ok(true) => counting.push(binding),
            Ok(false) => {}
            Err(status) => results.push(Err(Misconfigured::binding(binding, status.message))),
        }
    }
    if counting.is_empty() {
        return results;
    }
    let view = match matched.versions(call, object).await {
        Ok((object, old)) => Arc::new(View { matched, object, old }),
        Err(status) => {
            let why = format!("failed to convert object version: {}", status.message);
            results.push(Err(Misconfigured::policy(why)));
            return results;
        }
    };
    for binding in counting {
        results.push(match params::collect(call, kind.as_ref(), binding).await {
            Ok(params) => Ok(Invocation { binding: binding.clone(), view: view.clone(), params }),
            Err(why) => Err(Misconfigured::binding(binding, why)),
        });
    }
    results
}

/// The namespace of the request as expressions see it; null where there is none.
fn namespace(call: &Call<'_>) -> Result<Value, Status> {
    let info = call.request.info;
    if info.namespace.is_empty() || call.request.is("", "namespaces") {
        return Ok(Value::Null);
    }
    call.get("", "namespaces", "", &info.namespace).ok_or_else(|| {
        Status::not_found(&apimachinery::GroupResource::new("", "namespaces"), &info.namespace)
    })
}
