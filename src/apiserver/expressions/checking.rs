//! Looks at the expressions of ValidatingAdmissionPolicies with the types of the kinds that they are
//! about, and says in their status what does not fit. That changes nothing of what they do.

use std::{collections::BTreeSet, sync::Arc};

use apimachinery::{Object, Status};
use cel::{Env, Type};
use serde_json::{Value, json};
use tracing::{error, warn};

use super::{Scope, environment, schema_type, variables::Variables};
use crate::{
    Shared,
    kinds::value::Fields as _,
    registry::{direct, resource::Endpoint},
};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
/// Most kinds that one rule is looked at with, as upstream has it.
const MOST_KINDS: usize = 10;

/// Follows the policies until the server stops.
pub(crate) async fn run(server: Arc<Shared>) {
    let Some(policies) = server.collection(GROUP, PLURAL) else { return };
    loop {
        let snapshot = policies.snapshot();
        let mut watch = match policies.watch(snapshot.revision()) {
            Ok(watch) => watch,
            Err(error) => {
                error!(%error, "cannot watch admission policies");
                return;
            }
        };
        for object in snapshot.iter() {
            check(&server, object).await;
        }
        loop {
            let next = tokio::select! {
                () = server.stop.cancelled() => return,
                next = watch.next() => next,
            };
            if next.is_err() {
                break;
            }
            // Changes come in bursts; all that are there are looked at once.
            while matches!(watch.try_next(), Ok(Some(_))) {}
            for object in policies.snapshot().iter() {
                check(&server, object).await;
            }
        }
    }
}

fn is_due(policy: &Value) -> bool {
    policy["status"].int("observedGeneration") != policy["metadata"].int("generation")
}

async fn check(server: &Shared, object: &Object) {
    let due = object.value().is_ok_and(|policy| is_due(&policy));
    if object.deleting || !due {
        return;
    }
    if let Err(error) = write(server, object).await {
        warn!(policy = %object.key, %error, "admission policy not checked");
    }
}

async fn write(server: &Shared, object: &Object) -> Result<(), Status> {
    let table = server.resources.table_owned();
    let resource = table.resource(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    direct::edit(server, resource, &object.key, false, |_, policy| {
        if !is_due(policy) {
            return Ok(false);
        }
        let warnings = warnings(server, &policy["spec"]);
        let checking = match warnings.is_empty() {
            true => json!({}),
            false => json!({"expressionWarnings": warnings}),
        };
        policy["status"]["observedGeneration"] = policy["metadata"]["generation"].clone();
        policy["status"]["typeChecking"] = checking;
        Ok(true)
    })
    .await
    .map(drop)
}

/// What does not fit, as the status has it.
fn warnings(server: &Shared, spec: &Value) -> Vec<Value> {
    let environments = environments(server, spec);
    let check = |text: &str| -> String {
        let mut all = environments.iter().filter_map(|(kind, env)| {
            let issues = env.compile(text).err()?;
            Some(format!("{kind}: compilation failed: {issues}\n"))
        });
        all.by_ref().collect()
    };
    let mut warnings = Vec::new();
    for (at, validation) in spec.list("validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation.text(field);
            let found = if text.is_empty() { String::new() } else { check(text) };
            if !found.is_empty() {
                let field = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": field, "warning": found}));
            }
        }
    }
    warnings
}

/// The environments that the expressions are looked at in, each with its kind.
fn environments(server: &Shared, spec: &Value) -> Vec<(String, Env)> {
    let base = environment(Scope { params: spec.has("paramKind"), authorizer: true });
    let base = match params(server, spec) {
        Some(of) => base.with("params", of),
        None => base,
    };
    let mut found = Vec::new();
    for endpoint in kinds(server, spec) {
        let version = endpoint.version();
        let Some(of) = schema_type::of(&version.schema, &version.gvk.kind) else { continue };
        let env = base.clone().with("object", of.clone()).with("oldObject", of);
        let env = Variables::compile_in(spec, &env).declare(env);
        found.push((version.gvk.to_string(), env));
    }
    found
}

fn params(server: &Shared, spec: &Value) -> Option<Type> {
    let kind = spec.sub("paramKind")?;
    let version = kind.text("apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let table = server.resources.table();
    let endpoint = table.kind(group, version, kind.text("kind"))?;
    schema_type::of(&endpoint.version().schema, kind.text("kind"))
}

/// The kinds that a policy names; what it says of all groups or all resources names none.
fn kinds(server: &Shared, spec: &Value) -> Vec<Endpoint> {
    let table = server.resources.table();
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for rule in spec["matchConstraints"].list("resourceRules") {
        let sorted = |field: &str| -> Vec<String> {
            let all: BTreeSet<&str> = rule.texts(field).collect();
            match all.contains("*") {
                true => Vec::new(),
                false => all.into_iter().map(ToOwned::to_owned).collect(),
            }
        };
        let resources = rule.texts("resources").filter(|it| !it.contains(['*', '/']));
        let resources: BTreeSet<&str> = resources.collect();
        for group in sorted("apiGroups") {
            for version in sorted("apiVersions") {
                let endpoints =
                    resources.iter().filter_map(|it| table.endpoint(&group, &version, it));
                for endpoint in endpoints {
                    let gvk = &endpoint.version().gvk;
                    let name = (gvk.group.clone(), gvk.version.clone(), gvk.kind.clone());
                    if found.len() < MOST_KINDS && names.insert(name) {
                        found.push(endpoint.clone());
                    }
                }
            }
        }
    }
    found
}
