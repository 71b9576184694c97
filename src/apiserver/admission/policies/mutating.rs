//! MutatingAdmissionPolicies.

use apimachinery::{Status, apply::merge_untracked, patch::json::JsonPatch, status::StatusCause};
use async_trait::async_trait;
use cel::Value as CelValue;
use serde_json::Value;

use super::{
    Binding, Head, Invocation, View,
    expression::{Expression, Given},
    invocations, namespace,
};
use crate::{
    admission::{
        AdmissionRequest, Call, Operation, Plugin,
        matching::{self, GROUP},
        rounds::Sort,
    },
    expressions::{
        authorizer::Asker,
        conditions::Verdict,
        environment,
        input::{self, Budget, Input, POLICY_BUDGET, Spent},
        objects,
    },
    kinds::value::Fields as _,
    registry::{convert, normalize},
};

/// The plugin.
pub(in crate::admission) struct MutatingPolicies;

/// A policy that is ready to be used.
#[derive(Debug)]
pub(in crate::admission) struct Policy {
    head: Head,
    mutations: Vec<Mutation>,
}

#[derive(Debug)]
struct Mutation {
    /// A JSON patch; else an apply configuration.
    json_patch: bool,
    expression: Expression,
}

/// What an expression wants done to the object.
enum Change {
    Patch(Value),
    Apply(Value),
}

/// Why a policy denies the request.
struct Denial {
    message: String,
    invalid: bool,
}

impl Policy {
    fn new(policy: &Value) -> Self {
        let head = Head::new(policy);
        let env = objects::declare(head.variables.declare(environment(head.scope)));
        let mutations = head.spec.list("mutations").iter().map(|of| {
            let json_patch = of.text("patchType") == "JSONPatch";
            let (field, gives) = match json_patch {
                true => ("jsonPatch", objects::patches()),
                false => ("applyConfiguration", objects::object()),
            };
            let expression = Expression::new(&env, of[field].text("expression"), &[gives]);
            Mutation { json_patch, expression }
        });
        let mutations = mutations.collect();
        Self { head, mutations }
    }

    fn denies(&self, binding: Option<&str>, why: &str, invalid: bool) -> Denial {
        let policy = &self.head.name;
        let message = match binding {
            Some(binding) => {
                format!("policy '{policy}' with binding '{binding}' denied request: {why}")
            }
            None => format!("policy {policy:?} denied request: {why}"),
        };
        Denial { message, invalid }
    }
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && !matching::is_exempt(request)
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let compiled = &call.server.compiled;
        let Some(policies) = call.list(GROUP, "mutatingadmissionpolicies") else {
            return Ok(());
        };
        let policies = compiled.mutating_policies.all(&policies, Policy::new);
        if policies.is_empty() {
            return Ok(());
        }
        let Some(bindings) = call.list(GROUP, "mutatingadmissionpolicybindings") else {
            return Ok(());
        };
        let bindings = compiled.mutating_bindings.all(&bindings, Binding::new);
        let mut denials = Vec::new();
        call.rounds.begin(Sort::Policies, object);
        let mut changed = false;
        for policy in &policies {
            changed |= run(call, policy, &bindings, object, &mut denials).await?;
        }
        if changed {
            // As in upstream, which goes by whether anything was done: the last policy, too, sees
            // again what it made of the object.
            call.rounds.changed(Sort::Policies);
        }
        call.rounds.end(Sort::Policies, object);
        if denials.is_empty() { Ok(()) } else { Err(refusal(call, object, &denials)) }
    }
}

/// Lets one policy change the object, wherever it counts. Returns whether it did anything.
async fn run(
    call: &Call<'_>,
    policy: &Policy,
    bindings: &[std::sync::Arc<Binding>],
    object: &mut Value,
    denials: &mut Vec<Denial>,
) -> Result<bool, Status> {
    let mut changed = false;
    for invocation in invocations(call, &policy.head, bindings, object).await {
        match invocation {
            Err(_) if policy.head.ignore => {}
            Err(wrong) => {
                denials.push(policy.denies(wrong.binding.as_deref(), &wrong.why, false));
            }
            Ok(invocation) => {
                let mut failed = None;
                for params in &invocation.params {
                    changed |=
                        invoke(call, policy, &invocation, params, object, &mut failed).await?;
                }
                if let Some(why) = failed.filter(|_| !policy.head.ignore) {
                    denials.push(policy.denies(Some(&invocation.binding.name), &why, true));
                }
            }
        }
    }
    Ok(changed)
}

/// Lets a policy change the object with one of its parameters. Returns whether it did anything.
async fn invoke(
    call: &Call<'_>,
    policy: &Policy,
    invocation: &Invocation,
    params: &Value,
    object: &mut Value,
    failed: &mut Option<String>,
) -> Result<bool, Status> {
    let namespace = namespace(call)?;
    // What ran before has changed the object.
    let (mut now, old) = invocation.view.matched.versions(call, object).await?;
    if !holds(call, policy, &invocation.view, (&now, &old), params, failed) {
        return Ok(false);
    }
    let param = &params["metadata"];
    let (policy_name, binding) = (&policy.head.name, &invocation.binding.name);
    let id = format!("{policy_name}/{binding}/{}/{}", param.text("namespace"), param.text("name"));
    if !call.rounds.asks(Sort::Policies, &id) {
        return Ok(false);
    }
    let mut changed = false;
    for mutation in &policy.mutations {
        let view = (&now, &old);
        let change = wanted(call, policy, mutation, &invocation.view, view, &namespace, params);
        match change.and_then(|change| apply(&invocation.view, &now, change)) {
            Ok(Some(new)) => {
                now = new;
                changed = true;
            }
            Ok(None) => {}
            Err(why) => drop(failed.get_or_insert(why)),
        }
    }
    if changed {
        let new = stored(call, &invocation.view, now).await?;
        if new != *object {
            call.rounds.changed(Sort::Policies);
            *object = new;
        }
    }
    if policy.head.spec.text("reinvocationPolicy") == "IfNeeded" {
        call.rounds.asked(Sort::Policies, id);
    }
    Ok(changed)
}

/// An object of the version that a policy has seen, as it is stored.
async fn stored(call: &Call<'_>, view: &View, object: Value) -> Result<Value, Status> {
    let Some(endpoint) = &view.matched.endpoint else { return Ok(object) };
    let mut object = convert::to_storage(call.server, endpoint, object).await?;
    if call.request.info.subresource.is_empty() {
        normalize::default(endpoint, &mut object);
    }
    Ok(object)
}

fn input<'a>(
    call: &'a Call<'_>,
    (object, old): (&'a Value, &'a Value),
    request: &'a Value,
    namespace: &'a Value,
    params: &'a Value,
    asker: &'a Asker<'a>,
) -> Input<'a> {
    let info = call.request.info;
    Input { object, old, request, namespace, params, asker: Some(asker), info }
}

/// Whether the policy's match conditions hold.
fn holds(
    call: &Call<'_>,
    policy: &Policy,
    view: &View,
    objects: (&Value, &Value),
    params: &Value,
    failed: &mut Option<String>,
) -> bool {
    let asker = Asker { server: call.server, user: call.request.user };
    let matched = &view.matched;
    let request =
        input::request(call.request, matched.kind(call.request), &matched.version, objects.0);
    let input = input(call, objects, &request, &Value::Null, params, &asker);
    match policy.head.conditions.test(&input, policy.head.ignore) {
        Verdict::Match => true,
        Verdict::Skip => false,
        Verdict::Failed(why) => {
            failed.get_or_insert(why);
            false
        }
    }
}

/// What a mutation wants.
fn wanted(
    call: &Call<'_>,
    policy: &Policy,
    mutation: &Mutation,
    view: &View,
    objects: (&Value, &Value),
    namespace: &Value,
    params: &Value,
) -> Result<Change, String> {
    let asker = Asker { server: call.server, user: call.request.user };
    let matched = &view.matched;
    let request =
        input::request(call.request, matched.kind(call.request), &matched.version, objects.0);
    let input = input(call, objects, &request, namespace, params, &asker);
    let given = Given::new(&policy.head, &input);
    let budget = Budget::new(POLICY_BUDGET);
    let value = match given.evaluate(&mutation.expression, &budget) {
        Ok(value) => value?,
        Err(Spent) => return Err(Spent::MESSAGE.to_owned()),
    };
    if !mutation.json_patch {
        if let Some(why) = value.misnamed() {
            return Err(format!("type mismatch: {why}"));
        }
        return value.to_json().map(Change::Apply).map_err(|error| error.to_string());
    }
    if let CelValue::List(steps) = &value {
        for step in steps.values() {
            let step = step.map_err(|error| error.to_string())?;
            if let Some(why) = step.member("value").and_then(|value| value.misnamed()) {
                return Err(format!("type mismatch: {why}"));
            }
        }
    }
    value.to_json().map(Change::Patch).map_err(|error| {
        format!(
            "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}"
        )
    })
}

/// The object with the change; none where there is nothing to change.
fn apply(view: &View, object: &Value, change: Change) -> Result<Option<Value>, String> {
    if object.is_null() {
        return Ok(None);
    }
    let schema = view.matched.endpoint.as_ref().map(|endpoint| &endpoint.version().schema);
    let mut changed = object.clone();
    match change {
        Change::Patch(patch) => {
            let patch = JsonPatch::parse(patch).map_err(|error| error.to_string())?;
            if let Err(error) = patch.apply(&mut changed) {
                let why = error.to_string();
                // A test that fails is a condition, and nobody's fault.
                return if why.ends_with("test failed") {
                    Ok(None)
                } else {
                    Err(format!("JSON Patch: {why}"))
                };
            }
        }
        Change::Apply(mut config) => {
            let Some(schema) = schema else {
                return Err("error applying patch: the kind has no schema".into());
            };
            for field in ["apiVersion", "kind"] {
                config[field] = object[field].clone();
            }
            merge_untracked(schema, &mut changed, &config)
                .map_err(|why| format!("error applying patch: {why}"))?;
        }
    }
    if let Some(schema) = schema {
        schema.conform(&mut changed).map_err(|error| error.to_string())?;
    }
    Ok(Some(changed))
}

fn refusal(call: &Call<'_>, object: &Value, denials: &[Denial]) -> Status {
    let mut status = call.request.forbidden(object, "admission request denied by policy");
    if let Some(first) = denials.first() {
        status.message.clone_from(&first.message);
        if first.invalid {
            "Invalid".clone_into(&mut status.reason);
        }
    }
    let causes = denials
        .iter()
        .map(|denial| StatusCause { message: denial.message.clone(), ..StatusCause::default() });
    status.details.causes.extend(causes);
    status
}
