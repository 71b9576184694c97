//! The evaluation of macros. What they cost is what upstream's loops of single steps cost.

use crate::{
    ast::{Expr, Loop, Macro},
    eval::{Run, Scope},
    library::{lists, operators},
    value::{Entries, EvalError, Outcome, Value},
};

/// What a macro goes through.
enum Range<'a> {
    Values(crate::value::List<'a>),
    Entries(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Range<'a> {
    fn of(value: &Value<'a>) -> Result<Self, EvalError> {
        match value {
            Value::List(list) => Ok(Range::Values(list.clone())),
            Value::Map(map) => Ok(Range::Entries(map.entries()?)),
            Value::Object(object) => Ok(Range::Entries(
                object.set()?.into_iter().map(|(name, value)| (Value::text(name), value)).collect(),
            )),
            other => {
                let name = match other {
                    Value::String(_) => "types.String",
                    Value::Int(_) => "types.Int",
                    Value::Uint(_) => "types.Uint",
                    Value::Double(_) => "types.Double",
                    Value::Bool(_) => "types.Bool",
                    Value::Null => "types.Null",
                    Value::Bytes(_) => "types.Bytes",
                    other => other.type_name(),
                };
                EvalError::new(format!("got '{name}', expected iterable type"))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Range::Values(list) => list.len(),
            Range::Entries(entries) => entries.len(),
        }
    }

    /// What the variables are at a step: the index or key, and the value.
    fn step(&self, at: usize) -> Result<(Value<'a>, Value<'a>), EvalError> {
        match self {
            Range::Values(list) => {
                let value = list.get(at).unwrap_or(Ok(Value::Null))?;
                Ok((Value::Int(at as i64), value))
            }
            Range::Entries(entries) => {
                Ok(entries.get(at).cloned().unwrap_or((Value::Null, Value::Null)))
            }
        }
    }
}

impl<'a> Run<'a> {
    pub(crate) fn repeat(&self, of: &'a Loop, scope: Option<&Scope<'_, 'a>>) -> Outcome<'a> {
        let range = self.eval(&of.range, scope)?;
        if matches!(of.what, Macro::OptMap | Macro::OptFlatMap) {
            return self.of_optional(of, &range, scope);
        }
        let range = Range::of(&range)?;
        match of.what {
            Macro::All | Macro::Exists => self.quantify(of, &range, scope),
            Macro::ExistsOne => self.exactly_one(of, &range, scope),
            Macro::SortBy => self.sort_by(of, &range, scope),
            _ => self.collect(of, &range, scope),
        }
    }

    /// Evaluates `expr` with the variables of a step.
    fn with(
        &self,
        of: &'a Loop,
        step: (Value<'a>, Value<'a>),
        single: bool,
        expr: &'a Expr,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let (first, second) = step;
        let Some(name) = &of.var2 else {
            let value = if single { second } else { first };
            return self.eval(expr, Some(&Scope { name: &of.var, value, around: scope }));
        };
        let outer = Scope { name: &of.var, value: first, around: scope };
        self.eval(expr, Some(&Scope { name, value: second, around: Some(&outer) }))
    }

    fn of_optional(
        &self,
        of: &'a Loop,
        range: &Value<'a>,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        self.charge(1)?;
        let value = match range {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (**value).clone(),
            _ => return EvalError::new("no such overload: hasValue"),
        };
        let Some(body) = &of.body else { return Ok(Value::Optional(None)) };
        self.charge(2)?;
        let inner = Scope { name: &of.var, value, around: scope };
        let value = self.eval(body, Some(&inner))?;
        Ok(if of.what == Macro::OptMap { Value::some(value) } else { value })
    }

    /// `all` and `exists`: an error counts only where no step decides.
    fn quantify(
        &self,
        of: &'a Loop,
        range: &Range<'a>,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let all = of.what == Macro::All;
        let condition = if all { 2 } else { 3 };
        let single = matches!(range, Range::Values(_));
        let Some(body) = &of.body else { return Ok(Value::Bool(all)) };
        let mut failed = None;
        for at in 0..range.len() {
            self.charge(condition + 1)?;
            match self.with(of, range.step(at)?, single, body, scope) {
                Ok(Value::Bool(value)) if value != all => {
                    let last = at + 1 == range.len();
                    self.charge(if last { 1 } else { condition + 1 })?;
                    return Ok(Value::Bool(value));
                }
                Ok(Value::Bool(_)) => {}
                Err(EvalError::Cost) => return Err(EvalError::Cost),
                Err(error) => failed = failed.or(Some(error)),
                Ok(_) => failed = failed.or(Some(EvalError::Failed("no such overload".into()))),
            }
        }
        self.charge(1)?;
        failed.map_or(Ok(Value::Bool(all)), Err)
    }

    fn exactly_one(
        &self,
        of: &'a Loop,
        range: &Range<'a>,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let single = matches!(range, Range::Values(_));
        let Some(body) = &of.body else { return Ok(Value::Bool(false)) };
        let mut count = 0usize;
        for at in 0..range.len() {
            match self.with(of, range.step(at)?, single, body, scope)? {
                Value::Bool(true) => {
                    self.charge(2)?;
                    count += 1;
                }
                Value::Bool(false) => {}
                _ => return EvalError::no_overload(),
            }
        }
        self.charge(2)?;
        Ok(Value::Bool(count == 1))
    }

    fn sort_by(
        &self,
        of: &'a Loop,
        range: &Range<'a>,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let single = matches!(range, Range::Values(_));
        let Some(body) = &of.body else { return EvalError::no_overload() };
        let (mut items, mut keys) = (Vec::new(), Vec::new());
        for at in 0..range.len() {
            self.charge(12 + range.len() as u64)?;
            let step = range.step(at)?;
            items.push(step.1.clone());
            keys.push(self.with(of, step, single, body, scope)?);
        }
        lists::sort_by(items, keys)
    }

    /// Lists and maps, of all steps or of those that pass.
    fn collect(
        &self,
        of: &'a Loop,
        range: &Range<'a>,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<'a> {
        let single = matches!(range, Range::Values(_));
        let mut list = Vec::new();
        let mut map = Entries::default();
        for at in 0..range.len() {
            let step = range.step(at)?;
            if let Some(filter) = &of.filter {
                match self.with(of, step.clone(), single, filter, scope)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => continue,
                    _ => return EvalError::no_overload(),
                }
            }
            let value = match &of.body {
                Some(body) => self.with(of, step.clone(), single, body, scope)?,
                None => {
                    self.charge(1)?;
                    if single { step.1.clone() } else { step.0.clone() }
                }
            };
            match of.what {
                Macro::Map => {
                    self.charge(3)?;
                    operators::insert(&mut map, step.0, value)?;
                }
                Macro::MapEntry => {
                    self.charge(2)?;
                    let Value::Map(made) = value else { return EvalError::no_overload() };
                    for (key, value) in made.entries()? {
                        operators::insert(&mut map, key, value)?;
                    }
                }
                _ => {
                    self.charge(12)?;
                    list.push(value);
                }
            }
        }
        self.charge(1)?;
        Ok(match of.what {
            Macro::Map | Macro::MapEntry => Value::map(map),
            _ => Value::list(list),
        })
    }
}
