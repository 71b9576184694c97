//! `authorizer.group('apps').resource('deployments').namespace('n').check('create').allowed()`.

use super::{Function, cost, function, operators::arg};
use crate::value::{EvalError, Outcome, Value};

/// Who answers what a user may.
pub trait Authorizer {
    /// The answer to a question.
    fn check(&self, question: &Question) -> Decision;
}

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A service account's namespace and name, where it is not the one who sent the request.
    pub service_account: Option<(String, String)>,
    /// The verb.
    pub verb: String,
    /// The path, of what is no resource.
    pub path: Option<String>,
    /// The API group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The part of it.
    pub subresource: String,
    /// Where it is.
    pub namespace: String,
    /// Which one.
    pub name: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong.
    pub error: Option<String>,
}

/// How far a question has been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Authorizer,
    Path,
    Group,
    Resource,
    Decision,
}

/// A question, half asked, or its answer.
pub struct Check<'a> {
    authorizer: &'a dyn Authorizer,
    step: Step,
    question: Question,
    decision: Decision,
}

impl<'a> Check<'a> {
    pub(crate) fn new(authorizer: &'a dyn Authorizer) -> Self {
        let (question, decision) = (Question::default(), Decision::default());
        Self { authorizer, step: Step::Authorizer, question, decision }
    }

    pub(crate) fn about(authorizer: &'a dyn Authorizer, question: Question) -> Self {
        Self { authorizer, step: Step::Resource, question, decision: Decision::default() }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.step {
            Step::Authorizer => "kubernetes.authorization.Authorizer",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
            Step::Decision => "kubernetes.authorization.Decision",
        }
    }
}

const RESOURCE: &[&str] = &["ResourceCheck | string -> ResourceCheck"];

pub(super) const FUNCTIONS: &[Function] = &[
    function("path", |_, args| path(args), cost::one, &["Authorizer | string -> PathCheck"]),
    function(
        "group",
        |_, a| next(a, Step::Authorizer, Step::Group, |q, text| q.group = text),
        cost::one,
        &["Authorizer | string -> GroupCheck"],
    ),
    function(
        "serviceAccount",
        |_, args| service_account(args),
        cost::one,
        &["Authorizer | string, string -> Authorizer"],
    ),
    function(
        "resource",
        |_, a| next(a, Step::Group, Step::Resource, |q, text| q.resource = text),
        cost::one,
        &["GroupCheck | string -> ResourceCheck"],
    ),
    function(
        "subresource",
        |_, a| next(a, Step::Resource, Step::Resource, |q, text| q.subresource = text),
        cost::one,
        RESOURCE,
    ),
    function(
        "namespace",
        |_, a| next(a, Step::Resource, Step::Resource, |q, text| q.namespace = text),
        cost::one,
        RESOURCE,
    ),
    function(
        "name",
        |_, a| next(a, Step::Resource, Step::Resource, |q, text| q.name = text),
        cost::one,
        RESOURCE,
    ),
    // Selectors narrow what is asked; the answer to the wider question never allows more.
    function(
        "fieldSelector",
        |_, a| next(a, Step::Resource, Step::Resource, |_, _| {}),
        cost::first,
        RESOURCE,
    ),
    function(
        "labelSelector",
        |_, a| next(a, Step::Resource, Step::Resource, |_, _| {}),
        cost::first,
        RESOURCE,
    ),
    function(
        "check",
        |_, args| check(args),
        cost::check,
        &["PathCheck | string -> Decision", "ResourceCheck | string -> Decision"],
    ),
    function(
        "allowed",
        |_, a| answer(a, |it| Value::Bool(it.allowed)),
        cost::one,
        &["Decision | -> bool"],
    ),
    function(
        "reason",
        |_, a| answer(a, |it| Value::text(it.reason.as_str())),
        cost::one,
        &["Decision | -> string"],
    ),
    function(
        "errored",
        |_, a| answer(a, |it| Value::Bool(it.error.is_some())),
        cost::one,
        &["Decision | -> bool"],
    ),
    function(
        "error",
        |_, a| answer(a, |it| Value::text(it.error.clone().unwrap_or_default())),
        cost::one,
        &["Decision | -> string"],
    ),
];

fn step<'a>(of: &Check<'a>, to: Step, change: impl FnOnce(&mut Question)) -> Outcome<'a> {
    let mut question = of.question.clone();
    change(&mut question);
    let decision = Decision::default();
    Ok(Value::Authorizer(Check { authorizer: of.authorizer, step: to, question, decision }.into()))
}

fn next<'a>(
    args: &[Value<'a>],
    from: Step,
    to: Step,
    change: fn(&mut Question, String),
) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Authorizer(check), Value::String(text)) if check.step == from => {
            step(check, to, |question| change(question, text.to_string()))
        }
        _ => EvalError::no_overload(),
    }
}

fn path<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    if matches!(arg(args, 1), Value::String(path) if path.is_empty()) {
        return EvalError::new("path must not be empty");
    }
    next(args, Step::Authorizer, Step::Path, |question, path| question.path = Some(path))
}

fn service_account<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::Authorizer(check), Value::String(namespace), Value::String(name)) =
        (arg(args, 0), arg(args, 1), arg(args, 2))
    else {
        return EvalError::no_overload();
    };
    if !apimachinery::names::name_is_dns_subdomain(name, false).is_empty() {
        return EvalError::new("Invalid service account name");
    }
    if !apimachinery::names::name_is_dns_label(namespace, false).is_empty() {
        return EvalError::new("Invalid service account namespace");
    }
    let account = (namespace.to_string(), name.to_string());
    step(check, Step::Authorizer, |question| question.service_account = Some(account))
}

fn check<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Authorizer(check), Value::String(verb))
            if matches!(check.step, Step::Path | Step::Resource) =>
        {
            let mut question = check.question.clone();
            question.verb = verb.to_string();
            let decision = check.authorizer.check(&question);
            let authorizer = check.authorizer;
            let step = Step::Decision;
            Ok(Value::Authorizer(Check { authorizer, step, question, decision }.into()))
        }
        _ => EvalError::no_overload(),
    }
}

fn answer<'a>(args: &[Value<'a>], part: fn(&Decision) -> Value<'a>) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Authorizer(check) if check.step == Step::Decision => Ok(part(&check.decision)),
        _ => EvalError::no_overload(),
    }
}
