//! The evaluation of an expression. Every step costs, as it does upstream, so that none goes on for
//! long; the depth is bounded by the parser.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use regex::Regex;

use crate::{
    ast::{Call, Entry, Expr, Field, Item, Kind, Select},
    env::Program,
    types::Type,
    validators,
    value::{Entries, EvalError, Fields, HostObject, Object, Outcome, Value},
};

/// What one evaluation may cost, as upstream has it.
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// A variable and its value.
pub type Variable<'a> = (&'a str, Value<'a>);

/// What an evaluation gave and cost.
#[derive(Debug)]
pub struct Evaluated<'a> {
    /// The value, or why there is none.
    pub outcome: Outcome<'a>,
    /// What it cost.
    pub cost: u64,
}

impl Program {
    /// Evaluates the expression with these variables.
    pub fn eval<'a>(&'a self, variables: &[Variable<'a>]) -> Evaluated<'a> {
        let run = Run {
            program: self,
            variables: variables.to_vec(),
            cost: Cell::new(0),
            regexes: RefCell::default(),
        };
        let outcome = run.eval(&self.root, None);
        Evaluated { outcome, cost: run.cost.get() }
    }
}

/// One evaluation.
pub(crate) struct Run<'a> {
    program: &'a Program,
    variables: Vec<Variable<'a>>,
    cost: Cell<u64>,
    /// Patterns that were made on the way.
    regexes: RefCell<HashMap<String, Regex>>,
}

/// A macro's variable.
pub(crate) struct Scope<'s, 'a> {
    pub(crate) name: &'s str,
    pub(crate) value: Value<'a>,
    pub(crate) around: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Run<'a> {
    /// Adds to what the evaluation has cost.
    pub(crate) fn charge(&self, cost: u64) -> Result<(), EvalError> {
        let sum = self.cost.get().saturating_add(cost);
        self.cost.set(sum);
        if sum > PER_CALL_LIMIT { Err(EvalError::Cost) } else { Ok(()) }
    }

    /// A compiled pattern.
    pub(crate) fn regex(&self, pattern: &str) -> Result<Regex, EvalError> {
        if let Some(known) = self.program.regexes.get(pattern) {
            return Ok(known.clone());
        }
        if let Some(known) = self.regexes.borrow().get(pattern) {
            return Ok(known.clone());
        }
        // Compiling is dearer than matching.
        self.charge(10 + pattern.len() as u64)?;
        let made = validators::regex(pattern).map_err(EvalError::Failed)?;
        self.regexes.borrow_mut().insert(pattern.to_owned(), made.clone());
        Ok(made)
    }

    pub(crate) fn eval(&self, expr: &'a Expr, scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(Value::literal(literal)),
            Kind::Ident(name) => self.ident(name, scope),
            Kind::Select { operand, field, how } => {
                let operand = self.eval(operand, scope)?;
                let value = select(&operand, field, *how);
                if *how != Select::Has && !matches!(value, Ok(Value::Optional(None))) {
                    self.charge(1)?;
                }
                value
            }
            Kind::Call(call) => self.call(call, scope),
            Kind::Logic { and, terms } => self.logic(*and, terms, scope),
            Kind::Choose(parts) => self.choose(parts, scope),
            Kind::List(items) => self.list(items, scope),
            Kind::Map(entries) => self.map(entries, scope),
            Kind::Struct { name, fields } => self.make(name, fields, scope),
            Kind::Loop(of) => self.repeat(of, scope),
        }
    }

    fn ident(&self, name: &'a str, scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let mut around = scope;
        while let Some(scope) = around {
            if scope.name == name {
                self.charge(1)?;
                return Ok(scope.value.clone());
            }
            around = scope.around;
        }
        if let Some((_, value)) = self.variables.iter().find(|(known, _)| *known == name) {
            self.charge(1)?;
            return Ok(value.clone());
        }
        if Type::named(name).is_some() || self.object(name).is_some() {
            return Ok(Value::Type(name.into()));
        }
        EvalError::new(format!("no such attribute(s): {name}"))
    }

    fn object(&self, name: &str) -> Option<std::sync::Arc<dyn crate::types::ObjectType>> {
        self.program.structs.as_ref().and_then(|find| find(name))
    }

    fn call(&self, call: &'a Call, scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let Some(function) = call.function else {
            return EvalError::new(format!("no such function: {}", call.name));
        };
        if matches!(call.name.as_str(), "or" | "orValue")
            && let Some((target, rest)) = call.args.split_first()
        {
            let target = self.eval(target, scope)?;
            return match (&target, rest.first()) {
                (Value::Optional(None), Some(other)) => self.eval(other, scope),
                (Value::Optional(Some(of)), _) if call.name == "orValue" => Ok((**of).clone()),
                (Value::Optional(Some(_)), _) => Ok(target),
                _ => EvalError::no_overload(),
            };
        }
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            match self.eval(arg, scope) {
                Ok(arg) => args.push(arg),
                Err(error) => {
                    self.charge(1)?;
                    return Err(error);
                }
            }
        }
        if !is_constant(call) {
            self.charge((function.cost)(&args))?;
        }
        (function.call)(self, &args)
    }

    /// The value of a term that has to be true or false.
    fn truth(&self, expr: &'a Expr, scope: Option<&Scope<'_, 'a>>) -> Result<bool, EvalError> {
        match self.eval(expr, scope)? {
            Value::Bool(value) => Ok(value),
            _ => EvalError::no_overload(),
        }
    }

    /// An error counts only where no term decides.
    fn logic(&self, and: bool, terms: &'a [Expr], scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let mut failed = None;
        for term in terms {
            match self.truth(term, scope) {
                Ok(value) if value != and => return Ok(Value::Bool(value)),
                Ok(_) => {}
                Err(EvalError::Cost) => return Err(EvalError::Cost),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(and)), Err)
    }

    fn choose(&self, parts: &'a [Expr; 3], scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let [condition, yes, no] = parts;
        let part = if self.truth(condition, scope)? { yes } else { no };
        let value = self.eval(part, scope)?;
        // Upstream does not count the variable that a branch begins with, where it is all selection.
        if part.qualified().is_some() {
            self.cost.set(self.cost.get().saturating_sub(1));
        }
        Ok(value)
    }

    fn list(&self, items: &'a [Item], scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let value = self.eval(&item.value, scope)?;
            match (item.optional, value) {
                (false, value) => list.push(value),
                (true, Value::Optional(None)) => {}
                (true, Value::Optional(Some(of))) => list.push((*of).clone()),
                (true, _) => return EvalError::no_overload(),
            }
        }
        if !items.iter().all(|item| constant(&item.value)) {
            self.charge(10)?;
        }
        Ok(Value::list(list))
    }

    fn map(&self, entries: &'a [Entry], scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let mut map = Entries::default();
        for entry in entries {
            let key = self.eval(&entry.key, scope)?;
            let value = match (entry.optional, self.eval(&entry.value, scope)?) {
                (false, value) => value,
                (true, Value::Optional(Some(of))) => (*of).clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return EvalError::no_overload(),
            };
            if map.insert(key, value).is_none() {
                return EvalError::new("unsupported key type");
            }
        }
        if !entries.iter().all(|entry| constant(&entry.key) && constant(&entry.value)) {
            self.charge(30)?;
        }
        Ok(Value::map(map))
    }

    fn make(
        &self,
        name: &'a str,
        fields: &'a [Field],
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let Some(of) = self.object(name).filter(|of| of.is_open()) else {
            return EvalError::new(format!("unknown type '{name}'"));
        };
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            let value = match (field.optional, self.eval(&field.value, scope)?) {
                (false, value) => value,
                (true, Value::Optional(Some(of))) => (*of).clone(),
                (true, Value::Optional(None)) => continue,
                (true, _) => return EvalError::no_overload(),
            };
            all.push((field.name.clone(), value));
        }
        self.charge(40)?;
        Ok(Value::Object(Object { of, fields: Fields::Owned(Rc::new(all)) }))
    }
}

fn constant(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Literal(_) => true,
        Kind::Ident(name) => Type::named(name).is_some(),
        Kind::Call(call) => call.name != "@in" && is_constant(call),
        Kind::List(items) => items.iter().all(|item| !item.optional && constant(&item.value)),
        Kind::Map(entries) => {
            entries.iter().all(|it| !it.optional && constant(&it.key) && constant(&it.value))
        }
        _ => false,
    }
}

/// Calls that upstream does once for all: conversions of literals, and looking at literal lists.
fn is_constant(call: &Call) -> bool {
    match call.name.as_str() {
        "int" | "uint" | "double" | "string" | "bytes" | "bool" | "duration" | "timestamp"
        | "type" | "dyn" => call.args.iter().all(constant),
        "@in" => call.args.get(1).is_some_and(constant),
        // A name as the key costs itself alone.
        "_[_]" => call.args.get(1).is_some_and(|key| matches!(key.kind, Kind::Ident(_))),
        _ => false,
    }
}

fn select<'a>(operand: &Value<'a>, name: &'a str, how: Select) -> Outcome<'a> {
    let field = match operand {
        Value::Map(map) => map.field(name),
        Value::Object(object) => object.field(name),
        Value::Host(host) => HostObject::field(host.as_ref(), name),
        Value::Optional(None) => {
            return Ok(match how {
                Select::Has => Value::Bool(false),
                _ => Value::Optional(None),
            });
        }
        Value::Optional(Some(of)) => match how {
            Select::Has => return select(of, name, how),
            _ => return select(of, name, Select::Optional),
        },
        _ if how == Select::Has => return Ok(Value::Bool(false)),
        Value::List(_) => return EvalError::new("unsupported index type 'string' in list"),
        _ => None,
    };
    match (how, field) {
        (Select::Has, field) => Ok(Value::Bool(field.is_some())),
        (Select::Plain, Some(value)) => value,
        (Select::Plain, None) => EvalError::new(format!("no such key: {name}")),
        (Select::Optional, Some(value)) => value.map(Value::some),
        (Select::Optional, None) => Ok(Value::Optional(None)),
    }
}
