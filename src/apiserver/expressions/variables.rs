//! `variables`: expressions that others of a policy use by name. Each is evaluated when it is asked for
//! first, and may use those before it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use cel::{Env, EvalError, HostObject, Outcome, Program, Type, Value, Variable};
use serde_json::Value as Json;

use super::{Record, Scope, environment};
use crate::kinds::value::Fields as _;

/// Deepest evaluation of variables within variables, in steps of their expressions: a stack has an
/// end.
const DEEPEST: usize = 200;

/// A variable, compiled or not.
#[derive(Debug)]
struct Compiled {
    name: String,
    /// Whether it says anything; others may not use it otherwise.
    given: bool,
    program: Result<Program, String>,
}

/// The variables of a policy.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    all: Vec<Compiled>,
    /// Whether expressions know of `variables`: always where they mutate, else where there are some.
    known: bool,
}

impl Variables {
    /// Compiles `spec.variables`.
    pub(crate) fn compile(spec: &Json, scope: Scope) -> Self {
        Self::compile_in(spec, &environment(scope))
    }

    /// The same in an environment that is there already.
    pub(crate) fn compile_in(spec: &Json, base: &Env) -> Self {
        let known = spec.has("mutations") || !spec.list("variables").is_empty();
        let mut variables = Self { all: Vec::new(), known };
        for variable in spec.list("variables") {
            let env = variables.declare(base.clone());
            let given = !variable.text("expression").trim().is_empty();
            let compiled = env.compile(variable.text("expression"));
            let program = compiled.map_err(|issues| format!("compilation failed: {issues}"));
            let name = variable.text("name").to_owned();
            variables.all.push(Compiled { name, given, program });
        }
        variables
    }

    /// The environment of expressions that may use them.
    pub(crate) fn declare(&self, env: Env) -> Env {
        if !self.known {
            return env;
        }
        let of = |it: &Compiled| it.program.as_ref().map_or(Type::Dyn, |it| it.result().clone());
        // A later one of the same name hides an earlier one.
        let given = self.all.iter().rev().filter(|it| it.given);
        let fields = given.map(|it| (it.name.clone(), of(it))).collect();
        let record = Record { name: "kubernetes.variables", fields };
        env.with("variables", Type::Object(Arc::new(record)))
    }

    /// What is wrong with the variable at a place.
    pub(crate) fn error(&self, at: usize) -> Option<&str> {
        self.all.get(at)?.program.as_ref().err().map(String::as_str)
    }

    /// The variables over what is given, as a value. What evaluating them costs is added to `cost`.
    pub(crate) fn over<'a>(&'a self, given: Vec<Variable<'a>>, cost: Rc<Cell<u64>>) -> Value<'a> {
        let known = self.all.iter().map(|_| RefCell::new(None)).collect();
        let of = Rc::new(Evaluation { of: self, given, known, cost, depth: Cell::new(0) });
        Value::Host(Rc::new(Before { place: self.all.len(), of }))
    }
}

struct Evaluation<'a> {
    of: &'a Variables,
    given: Vec<Variable<'a>>,
    known: Vec<RefCell<Option<Outcome<'a>>>>,
    cost: Rc<Cell<u64>>,
    depth: Cell<usize>,
}

impl<'a> Evaluation<'a> {
    fn value(self: &Rc<Self>, at: usize) -> Outcome<'a> {
        let (Some(variable), Some(slot)) = (self.of.all.get(at), self.known.get(at)) else {
            return Err(EvalError::Failed("no such variable".into()));
        };
        if let Some(known) = slot.borrow().as_ref() {
            return known.clone();
        }
        let name = &variable.name;
        let value = match &variable.program {
            Ok(program) => self.evaluate(at, name, program),
            Err(error) => {
                let message = format!("composited variable {name:?} fails to compile: {error}");
                Err(EvalError::Failed(message))
            }
        };
        *slot.borrow_mut() = Some(value.clone());
        value
    }

    fn evaluate(self: &Rc<Self>, at: usize, name: &str, program: &'a Program) -> Outcome<'a> {
        let before = self.depth.get();
        let depth = before.saturating_add(program.depth());
        if depth > DEEPEST {
            return Err(EvalError::Failed("variables are nested too deeply".into()));
        }
        let mut given = self.given.clone();
        given.push(("variables", Value::Host(Rc::new(Before { place: at, of: self.clone() }))));
        self.depth.set(depth);
        let evaluated = program.eval(&given);
        self.depth.set(before);
        self.cost.set(self.cost.get().saturating_add(evaluated.cost));
        evaluated.outcome.map_err(|error| {
            EvalError::Failed(format!("composited variable {name:?} fails to evaluate: {error}"))
        })
    }
}

/// The variables before a place.
struct Before<'a> {
    place: usize,
    of: Rc<Evaluation<'a>>,
}

impl<'a> HostObject<'a> for Before<'a> {
    fn field(&self, name: &str) -> Option<Outcome<'a>> {
        let before = self.of.of.all.get(..self.place)?;
        let at = before.iter().rposition(|variable| variable.name == name)?;
        Some(self.of.value(at))
    }
}
