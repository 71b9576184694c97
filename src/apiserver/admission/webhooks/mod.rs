//! Admission webhooks: what MutatingWebhookConfigurations and ValidatingWebhookConfigurations name
//! is asked about every write that their rules match.
//!
//! Mutating ones are asked one after another, by the names of their configurations and in the order
//! in there. Validating ones are asked all at once.

mod review;

use std::{sync::Arc, time::Duration};

use apimachinery::{GroupVersionKind, Status, patch::json::JsonPatch};
use async_trait::async_trait;
use futures::future;
use serde_json::Value;

use super::{
    AdmissionRequest, Call, Plugin,
    matching::{self, GROUP, Matched},
    rounds::Sort,
};
use crate::{
    expressions::{
        Scope,
        authorizer::Asker,
        conditions::{Conditions, Verdict},
        input::{self, Input},
        revisions::Revisions,
    },
    kinds::value::Fields as _,
    registry::{convert, normalize},
    webhook,
};

/// What the match conditions of webhooks may use.
const CONDITIONS: Scope = Scope { params: false, authorizer: true };

/// A webhook that is ready to be asked.
#[derive(Debug)]
pub(super) struct Hook {
    /// Unique among the webhooks of all configurations.
    id: String,
    value: Value,
    conditions: Conditions,
}

impl Hook {
    fn all_of(configuration: &Value) -> Vec<Self> {
        let of = configuration["metadata"].text("name");
        let hooks = configuration.list("webhooks").iter().enumerate();
        let hooks = hooks.map(|(at, value)| Self {
            id: format!("{of}/{at}/{}", value.text("name")),
            value: value.clone(),
            conditions: Conditions::compile(value, CONDITIONS),
        });
        hooks.collect()
    }

    fn name(&self) -> &str {
        self.value.text("name")
    }

    fn may_fail(&self) -> bool {
        self.value.text("failurePolicy") == "Ignore"
    }
}

/// The mutating half.
pub(super) struct MutatingWebhooks;

/// The validating half.
pub(super) struct ValidatingWebhooks;

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        !matching::is_exempt(request)
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let known = &call.server.compiled.mutating_webhooks;
        let configurations = configured(call, "mutatingwebhookconfigurations", known);
        if configurations.is_empty() {
            return Ok(());
        }
        call.rounds.begin(Sort::Webhooks, object);
        for hook in configurations.iter().flat_map(|hooks| hooks.iter()) {
            if call.rounds.asks(Sort::Webhooks, &hook.id) {
                mutate_by(call, hook, object).await?;
            }
        }
        call.rounds.end(Sort::Webhooks, object);
        Ok(())
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        !matching::is_exempt(request)
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let known = &call.server.compiled.validating_webhooks;
        let configurations = configured(call, "validatingwebhookconfigurations", known);
        let hooks = configurations.iter().flat_map(|hooks| hooks.iter());
        let all = hooks.map(async |hook| {
            let rules = hook.value.list("rules");
            let Some(matched) = matching::find(call, &hook.value, rules, object)? else {
                return Ok(());
            };
            answered(call, hook, ask(call, hook, &matched, object).await).map(drop)
        });
        future::join_all(all).await.into_iter().collect()
    }
}

/// The webhooks of all configurations of a kind, in the order in which they are asked.
fn configured(call: &Call<'_>, plural: &str, known: &Revisions<Vec<Hook>>) -> Vec<Arc<Vec<Hook>>> {
    let Some(configurations) = call.list(GROUP, plural) else { return Vec::new() };
    known.all(&configurations, Hook::all_of)
}

/// Why a webhook's judgement is not to be had, or what it is.
enum Outcome {
    /// It cannot be asked: its failure policy decides.
    Failed(String),
    /// The request is refused whatever the policy.
    Refused(Status),
    /// It is not asked: its match conditions say so.
    Passed,
    /// It has answered.
    Answer(review::Answer),
}

/// Asks one webhook about `object`, which is of the stored version.
async fn ask(call: &Call<'_>, hook: &Hook, matched: &Matched, object: &Value) -> Outcome {
    let (new, old) = match matched.versions(call, object).await {
        Ok(both) => both,
        Err(status) => return Outcome::Refused(status),
    };
    if !hook.conditions.is_empty() {
        match conditions_hold(call, hook, matched, &new, &old) {
            Verdict::Match => {}
            Verdict::Skip => return Outcome::Passed,
            Verdict::Failed(why) => {
                let (resource, name) = (call.request.resource(), &call.request.info.name);
                return Outcome::Refused(Status::forbidden(&resource, name, &why));
            }
        }
    }
    let name = hook.name();
    let hook = &hook.value;
    if call.request.dry_run && !matches!(hook.text("sideEffects"), "None" | "NoneOnDryRun") {
        let why = format!("admission webhook {name:?} does not support dry run");
        return Outcome::Refused(Status::bad_request(why));
    }
    let review = review::Review::new(call.request, matched, hook, &new, &old);
    let seconds = hook.int("timeoutSeconds").and_then(|it| u64::try_from(it).ok()).unwrap_or(10);
    let config = with_timeout(&hook["clientConfig"], seconds);
    let patience = Duration::from_secs(seconds);
    match webhook::call(call.server, &config, review.body(), patience).await {
        Err(why) => Outcome::Failed(format!("failed to call webhook: {why}")),
        Ok(answer) => match review.read(&answer) {
            Ok(answer) => Outcome::Answer(answer),
            Err(why) => Outcome::Failed(why),
        },
    }
}

/// Whether the webhook's match conditions let it be asked.
fn conditions_hold(
    call: &Call<'_>,
    hook: &Hook,
    matched: &Matched,
    new: &Value,
    old: &Value,
) -> Verdict {
    let asker = Asker { server: call.server, user: call.request.user };
    let request = input::request(call.request, matched.kind(call.request), &matched.version, new);
    let input = Input {
        object: new,
        old,
        request: &request,
        namespace: &Value::Null,
        params: &Value::Null,
        asker: Some(&asker),
        info: call.request.info,
    };
    hook.conditions.test(&input, hook.may_fail())
}

/// The client configuration with the patience of the server in its path, which webhooks may heed.
fn with_timeout(config: &Value, seconds: u64) -> Value {
    let mut config = config.clone();
    let add = |path: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        Value::from(format!("{path}{sign}timeout={seconds}s"))
    };
    match config.get_mut("service") {
        Some(service) if service.is_object() => service["path"] = add(service.text("path")),
        _ => config["url"] = add(config.text("url")),
    }
    config
}

/// The answer of a webhook, or the refusal; `None` where it failed and may be ignored.
fn answered(
    call: &Call<'_>,
    hook: &Hook,
    outcome: Outcome,
) -> Result<Option<review::Answer>, Status> {
    let name = hook.name();
    match outcome {
        Outcome::Refused(status) => Err(status),
        Outcome::Passed => Ok(None),
        Outcome::Failed(why) if hook.may_fail() => {
            tracing::warn!(webhook = name, why, "webhook failed and is ignored");
            Ok(None)
        }
        Outcome::Failed(why) => {
            Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
        }
        Outcome::Answer(answer) => {
            for warning in &answer.warnings {
                call.warnings.add(warning.as_str());
            }
            match answer.refusal(name) {
                Some(status) => Err(status),
                None => Ok(Some(answer)),
            }
        }
    }
}

/// Lets one webhook change `object`.
async fn mutate_by(call: &Call<'_>, hook: &Hook, object: &mut Value) -> Result<(), Status> {
    let rules = hook.value.list("rules");
    let Some(matched) = matching::find(call, &hook.value, rules, object)? else { return Ok(()) };
    let outcome = ask(call, hook, &matched, object).await;
    if matches!(outcome, Outcome::Passed) {
        return Ok(());
    }
    let patch = answered(call, hook, outcome)?.and_then(|answer| answer.patch);
    if let Some(patch) = patch {
        let before = object.clone();
        apply(call, hook, &matched, patch, object).await?;
        if *object != before {
            call.rounds.changed(Sort::Webhooks);
        }
    }
    if hook.value.text("reinvocationPolicy") == "IfNeeded" {
        call.rounds.asked(Sort::Webhooks, hook.id.clone());
    }
    Ok(())
}

/// Does to `object` what a webhook wants done.
async fn apply(
    call: &Call<'_>,
    hook: &Hook,
    matched: &Matched,
    patch: Value,
    object: &mut Value,
) -> Result<(), Status> {
    if object.is_null() {
        let name = hook.name();
        let why = format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        );
        return Err(Status::internal(why));
    }
    let failed = |why: &dyn std::fmt::Display| Status::internal(why.to_string());
    let patch = JsonPatch::parse(patch).map_err(|error| failed(&error))?;
    let Some(endpoint) = &matched.endpoint else {
        return patch.apply(object).map_err(|error| failed(&error));
    };
    let taken = std::mem::take(object);
    let mut changed = convert::from_storage(call.server, endpoint, taken).await?;
    patch.apply(&mut changed).map_err(|error| failed(&error))?;
    // What the webhook added is held to the schema as what a client sends is.
    let schema = &endpoint.version().schema;
    schema.conform(&mut changed).map_err(|error| failed(&error))?;
    *object = convert::to_storage(call.server, endpoint, changed).await?;
    if call.request.info.subresource.is_empty() {
        normalize::default(endpoint, object);
    }
    Ok(())
}

/// A kind as webhooks are told of it.
fn kind_value(kind: &GroupVersionKind) -> Value {
    serde_json::json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}
