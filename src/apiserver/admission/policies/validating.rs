//! ValidatingAdmissionPolicies.

use apimachinery::{Status, status::StatusCause};
use async_trait::async_trait;
use cel::{Type, Value as CelValue};
use serde_json::Value;

use super::{
    Binding, Head, View,
    expression::{Expression, Given},
    invocations, namespace,
};
use crate::{
    admission::{
        AdmissionRequest, Call, Plugin,
        matching::{self, GROUP},
    },
    expressions::{
        Scope,
        authorizer::Asker,
        conditions::Verdict,
        environment,
        input::{self, Budget, Input, POLICY_BUDGET, Spent},
    },
    kinds::value::Fields as _,
};

/// Longest message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// The plugin.
pub(in crate::admission) struct ValidatingPolicies;

/// A policy that is ready to be used.
#[derive(Debug)]
pub(in crate::admission) struct Policy {
    head: Head,
    validations: Vec<Validation>,
    annotations: Vec<Expression>,
}

#[derive(Debug)]
struct Validation {
    rule: Expression,
    message: String,
    message_rule: Option<Expression>,
    reason: String,
}

/// Why a request is denied.
struct Denial {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

/// What a policy says of a request.
#[derive(Default)]
struct Judgement {
    /// What is not kept to: message and reason.
    broken: Vec<(String, String)>,
    /// What is wrong with annotations, which denies whatever the binding's actions are.
    failed: Vec<String>,
}

impl Policy {
    fn new(policy: &Value) -> Self {
        let head = Head::new(policy);
        let env = head.variables.declare(environment(head.scope));
        let messages = Scope { authorizer: false, ..head.scope };
        let messages = head.variables.declare(environment(messages));
        let validations = head.spec.list("validations").iter().map(|of| Validation {
            rule: Expression::new(&env, of.text("expression"), &[Type::Bool]),
            message: of.text("message").trim().to_owned(),
            message_rule: of
                .opt_text("messageExpression")
                .filter(|text| !text.is_empty())
                .map(|text| Expression::new(&messages, text, &[Type::String])),
            reason: match of.text("reason") {
                "" => "Invalid".to_owned(),
                reason => reason.to_owned(),
            },
        });
        let annotations = head.spec.list("auditAnnotations").iter().map(|of| {
            Expression::new(&env, of.text("valueExpression").trim(), &[Type::String, Type::Null])
        });
        let (validations, annotations) = (validations.collect(), annotations.collect());
        Self { head, validations, annotations }
    }
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        !matching::is_exempt(request)
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let compiled = &call.server.compiled;
        let Some(policies) = call.list(GROUP, "validatingadmissionpolicies") else {
            return Ok(());
        };
        let policies = compiled.validating_policies.all(&policies, Policy::new);
        if policies.is_empty() {
            return Ok(());
        }
        let Some(bindings) = call.list(GROUP, "validatingadmissionpolicybindings") else {
            return Ok(());
        };
        let bindings = compiled.validating_bindings.all(&bindings, Binding::new);
        let mut denial: Option<Denial> = None;
        for policy in &policies {
            let head = &policy.head;
            for invocation in invocations(call, head, &bindings, object).await {
                let found = match invocation {
                    Err(_) if head.ignore => None,
                    Err(misconfigured) => Some(Denial {
                        policy: head.name.clone(),
                        binding: misconfigured.binding,
                        message: misconfigured.why,
                        reason: "Invalid".to_owned(),
                    }),
                    Ok(invocation) => {
                        let namespace = namespace(call)?;
                        let judged = invocation.params.iter().map(|params| {
                            judge(call, policy, &invocation.view, &namespace, params)
                        });
                        let judged: Vec<Judgement> = judged.collect();
                        act(call, policy, &invocation.binding, judged)
                    }
                };
                denial = denial.or(found);
            }
        }
        denial.map_or(Ok(()), |denial| Err(refusal(call, object, &denial)))
    }
}

/// Does what the binding says is to be done; the first reason to deny.
fn act(
    call: &Call<'_>,
    policy: &Policy,
    binding: &Binding,
    judged: Vec<Judgement>,
) -> Option<Denial> {
    let policy = &policy.head.name;
    let denial = |message: String, reason: String| Denial {
        policy: policy.clone(),
        binding: Some(binding.name.clone()),
        message,
        reason,
    };
    let mut first = None;
    for judgement in judged {
        for (message, reason) in judgement.broken {
            for action in binding.spec.texts("validationActions") {
                match action {
                    "Deny" => {
                        first = first.or_else(|| Some(denial(message.clone(), reason.clone())));
                    }
                    "Warn" => call.warnings.add(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding \
                         '{}': {message}",
                        binding.name
                    )),
                    _ => tracing::info!(policy, binding = binding.name, message, "policy broken"),
                }
            }
        }
        for message in judgement.failed {
            first = first.or_else(|| Some(denial(message, "Invalid".to_owned())));
        }
    }
    first
}

fn refusal(call: &Call<'_>, object: &Value, denial: &Denial) -> Status {
    let policy = &denial.policy;
    let with = match &denial.binding {
        Some(binding) => format!(" with binding '{binding}'"),
        None => String::new(),
    };
    let message =
        format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {}", denial.message);
    let mut status = call.request.forbidden(object, &message);
    status.code = match denial.reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason.clone_from(&denial.reason);
    status.details.causes.push(StatusCause { message, ..StatusCause::default() });
    status
}

/// What a policy says of a request, with one set of parameters.
fn judge(
    call: &Call<'_>,
    policy: &Policy,
    view: &View,
    namespace: &Value,
    params: &Value,
) -> Judgement {
    let head = &policy.head;
    let asker = Asker { server: call.server, user: call.request.user };
    let request = input::request(
        call.request,
        view.matched.kind(call.request),
        &view.matched.version,
        &view.object,
    );
    let mut input = Input {
        object: &view.object,
        old: &view.old,
        request: &request,
        namespace: &Value::Null,
        params,
        asker: Some(&asker),
        info: call.request.info,
    };
    let failed = |why: String| Judgement {
        broken: if head.ignore { Vec::new() } else { vec![(why, "Invalid".to_owned())] },
        failed: Vec::new(),
    };
    match head.conditions.test(&input, head.ignore) {
        Verdict::Match => {}
        Verdict::Skip => return Judgement::default(),
        Verdict::Failed(why) => return failed(why),
    }
    input.namespace = namespace;
    let budget = Budget::new(POLICY_BUDGET);
    match judged(policy, &input, &budget) {
        Ok(judgement) => judgement,
        Err(Spent) => failed(Spent::MESSAGE.to_owned()),
    }
}

fn judged(policy: &Policy, input: &Input<'_>, budget: &Budget) -> Result<Judgement, Spent> {
    let given = Given::new(&policy.head, input);
    let mut judgement = Judgement::default();
    for validation in &policy.validations {
        match given.evaluate(&validation.rule, budget)? {
            Ok(CelValue::Bool(true)) => {}
            Ok(_) => {
                let message = message(policy, validation, input, budget)?;
                judgement.broken.push((message, validation.reason.clone()));
            }
            Err(_) if policy.head.ignore => {}
            Err(error) => judgement.broken.push((error, "Invalid".to_owned())),
        }
    }
    for annotation in &policy.annotations {
        match given.evaluate(annotation, budget)? {
            Err(error) if !policy.head.ignore => judgement.failed.push(error),
            // There is no audit log that it would be written to.
            _ => {}
        }
    }
    Ok(judgement)
}

/// What is said of a rule that is broken.
fn message(
    policy: &Policy,
    validation: &Validation,
    input: &Input<'_>,
    budget: &Budget,
) -> Result<String, Spent> {
    if let Some(rule) = &validation.message_rule {
        let input = Input { asker: None, ..*input };
        let given = Given::new(&policy.head, &input);
        if let Ok(CelValue::String(text)) = given.evaluate(rule, budget)? {
            let text = text.trim();
            if !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n') {
                return Ok(text.to_owned());
            }
        }
    }
    if !validation.message.is_empty() {
        return Ok(validation.message.clone());
    }
    Ok(format!("failed expression: {}", validation.rule.text.trim()))
}
