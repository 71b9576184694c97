//! What the expressions about one request are given, and their evaluation within a budget.

use std::cell::Cell;

use apimachinery::GroupVersionKind;
use cel::{Program, Question, Type, Value, Variable};
use serde_json::{Map, Value as Json, json};

use super::{authorizer::Asker, types};
use crate::{
    admission::AdmissionRequest,
    kinds::value::Fields as _,
    request::{RequestInfo, UserInfo},
};

/// What all expressions of one policy may cost together, for one parameter.
pub(crate) const POLICY_BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together.
pub(crate) const CONDITIONS_BUDGET: u64 = 2_500_000;

/// All is spent.
#[derive(Debug)]
pub(crate) struct Spent;

impl Spent {
    pub(crate) const MESSAGE: &'static str = "validation failed due to running out of cost budget, no further validation rules will be run";
}

/// What is left of a budget.
#[derive(Debug)]
pub(crate) struct Budget(Cell<u64>);

impl Budget {
    pub(crate) fn new(all: u64) -> Self {
        Self(Cell::new(all))
    }

    /// Takes `cost` off.
    pub(crate) fn spend(&self, cost: u64) -> Result<(), Spent> {
        let left = self.0.get().checked_sub(cost);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or(Spent)
    }
}

/// What expressions see. The objects are of the version that the policy asked for.
pub(crate) struct Input<'a> {
    pub(crate) object: &'a Json,
    pub(crate) old: &'a Json,
    /// See [`request`].
    pub(crate) request: &'a Json,
    pub(crate) namespace: &'a Json,
    pub(crate) params: &'a Json,
    pub(crate) asker: Option<&'a Asker<'a>>,
    pub(crate) info: &'a RequestInfo,
}

impl<'a> Input<'a> {
    /// The variables.
    pub(crate) fn variables(&self) -> Vec<Variable<'a>> {
        let read = |value: &'a Json, of: &Type| Value::of_json(value, of).unwrap_or(Value::Null);
        let mut all = vec![
            ("object", read(self.object, &Type::Dyn)),
            ("oldObject", read(self.old, &Type::Dyn)),
            ("request", read(self.request, &types::request())),
            ("namespaceObject", read(self.namespace, &types::namespace())),
            ("params", read(self.params, &Type::Dyn)),
        ];
        if let Some(asker) = self.asker {
            let question = Question {
                group: self.info.group.clone(),
                resource: self.info.resource.clone(),
                subresource: self.info.subresource.clone(),
                namespace: self.info.namespace.clone(),
                name: self.info.name.clone(),
                ..Question::default()
            };
            all.push(("authorizer", Value::authorizer(asker)));
            all.push(("authorizer.requestResource", Value::resource_check(asker, question)));
        }
        all
    }
}

/// Evaluates a program. The inner error is why it gave nothing, in upstream's words.
///
/// # Errors
/// When the budget is spent.
pub(crate) fn evaluate<'a>(
    program: &'a Program,
    expression: &str,
    variables: &[Variable<'a>],
    budget: &Budget,
) -> Result<Result<Value<'a>, String>, Spent> {
    let evaluated = program.eval(variables);
    budget.spend(evaluated.cost)?;
    Ok(evaluated
        .outcome
        .map_err(|error| format!("expression '{expression}' resulted in error: {error}")))
}

/// The request as expressions see it; `kind` and `version` are what the policy asked for.
pub(crate) fn request(
    request: &AdmissionRequest<'_>,
    kind: &GroupVersionKind,
    version: &str,
    object: &Json,
) -> Json {
    let info = request.info;
    let resource =
        |version: &str| json!({"group": info.group, "version": version, "resource": info.resource});
    let kind_of = |kind: &GroupVersionKind| json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind});
    let mut name = info.name.as_str();
    if name.is_empty() {
        name = object["metadata"].text("name");
    }
    json!({
        "kind": kind_of(kind),
        "resource": resource(version),
        "subResource": info.subresource,
        "requestKind": kind_of(request.kind),
        "requestResource": resource(&info.version),
        "requestSubResource": info.subresource,
        "name": name,
        "namespace": info.namespace,
        "operation": request.operation.as_str(),
        "userInfo": user(request.user),
        "dryRun": request.dry_run,
        "options": request.options,
    })
}

/// A user as webhooks and expressions see one.
pub(crate) fn user(user: &UserInfo) -> Json {
    let mut value = Map::new();
    value.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        value.insert("uid".into(), user.uid.as_str().into());
    }
    value.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        value.insert("extra".into(), json!(user.extra));
    }
    value.into()
}
