//! The type checker. It also finds out which names are dotted ones, and which functions are called.

use crate::{
    ast::{Call, Entry, Expr, Field, Item, Kind, Literal, Loop, Macro, Select},
    env::Env,
    issue::Issues,
    library,
    types::Type,
    unify::{Bindings, most_general},
};

/// Most parts of a type.
const LARGEST: usize = 200;

/// Reads the types of expressions.
pub(crate) struct Checker<'e> {
    env: &'e Env,
    issues: &'e mut Issues,
    bindings: Bindings,
    /// Variables of the macros around, the innermost last.
    locals: Vec<(String, Type)>,
    /// Elements of list and map literals that have to be of one type: where, and the two types.
    alike: Vec<(usize, Type, Type)>,
    /// How many calls are around whose arguments may be of any types.
    mixed: usize,
}

impl<'e> Checker<'e> {
    pub(crate) fn new(env: &'e Env, issues: &'e mut Issues) -> Self {
        let (bindings, locals, alike) = (Bindings::default(), Vec::new(), Vec::new());
        Self { env, issues, bindings, locals, alike, mixed: 0 }
    }

    /// The type of the whole expression.
    pub(crate) fn whole(mut self, root: &mut Expr) -> Type {
        let result = self.check(root);
        if self.issues.is_empty() {
            for (at, first, other) in std::mem::take(&mut self.alike) {
                let first = self.bindings.resolve(&first, true);
                let other = self.bindings.resolve(&other, true);
                if first != other {
                    self.mismatch(at, &first, &other);
                }
            }
        }
        self.bindings.resolve(&result, true)
    }

    fn mismatch(&mut self, at: usize, wanted: &Type, found: &Type) {
        self.issues.add(at, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.issues.add(at, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    /// The type of a part. One of very many parts is not followed any further: looking at it would
    /// take for ever.
    fn check(&mut self, expr: &mut Expr) -> Type {
        let of = self.type_of(expr);
        let of = if of.is_small(&mut { LARGEST }) { of } else { Type::Dyn };
        expr.of = self.bindings.resolve(&of, false);
        of
    }

    fn type_of(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        if let Kind::Select { how: Select::Plain, .. } = &expr.kind
            && let Some(name) = expr.qualified()
            && let Some(of) = self.global(&name)
        {
            expr.kind = Kind::Ident(name);
            return of;
        }
        match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let local = self.locals.iter().rev().find(|(known, _)| known == name);
                match local.map(|(_, of)| of.clone()).or_else(|| self.global(name)) {
                    Some(of) => of,
                    None => {
                        let name = name.clone();
                        self.undeclared(at, &name)
                    }
                }
            }
            Kind::Select { operand, field, how } => {
                let operand = self.check(operand);
                let of = self.select(at, &operand, field, *how == Select::Optional);
                if *how == Select::Has { Type::Bool } else { of }
            }
            Kind::Call(call) => self.call(at, call),
            Kind::Logic { terms, .. } => {
                let mut wrong = false;
                for term in terms {
                    let of = self.check(term);
                    if !self.bindings.fits(&of, &Type::Bool) {
                        self.mismatch(term.at, &Type::Bool, &of);
                        wrong = true;
                    }
                }
                if wrong { Type::Error } else { Type::Bool }
            }
            Kind::Choose(parts) => {
                let types: Vec<Type> = parts.iter_mut().map(|part| self.check(part)).collect();
                self.choose(at, &types)
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.make(at, name, fields),
            Kind::Loop(of) => self.repeat(at, of),
        }
    }

    fn global(&self, name: &str) -> Option<Type> {
        if let Some(of) = self.env.variable(name) {
            return Some(of.clone());
        }
        let of = Type::named(name).or_else(|| self.env.object(name).map(Type::Object))?;
        Some(Type::Type(Some(of.into())))
    }

    /// `condition ? a : b` of these types.
    fn choose(&mut self, at: usize, types: &[Type]) -> Type {
        let one = self.bindings.fresh();
        if self.bindings.all_fit(types, &[Type::Bool, one.clone(), one.clone()]) {
            return self.bindings.resolve(&one, false);
        }
        self.no_overload(at, "_?_:_", types, false)
    }

    fn no_overload(&mut self, at: usize, name: &str, types: &[Type], method: bool) -> Type {
        let shown: Vec<String> =
            types.iter().map(|of| self.bindings.resolve(of, true).to_string()).collect();
        let shown = match shown.split_first() {
            Some((receiver, args)) if method => format!("{receiver}.({})", args.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        let message = format!("found no matching overload for '{name}' applied to '{shown}'");
        self.issues.add(at, message);
        Type::Error
    }

    fn select(&mut self, at: usize, operand: &Type, field: &str, optional: bool) -> Type {
        let operand = self.bindings.resolve(operand, false);
        let (target, inside) = match &operand {
            Type::Optional(of) => (of.as_ref().clone(), true),
            other => (other.clone(), false),
        };
        let of = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Object(of) => match of.field(field) {
                Some(of) => of,
                None => {
                    self.issues.add(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.bindings.fits(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                let message = format!("type '{other}' does not support field selection");
                self.issues.add(at, message);
                Type::Dyn
            }
        };
        if inside || optional { Type::optional(of) } else { of }
    }

    fn call(&mut self, at: usize, call: &mut Call) -> Type {
        // A function may have a dotted name; what looks like its target is part of that then.
        if call.method
            && let Some(prefix) = call.args.first().and_then(Expr::qualified)
        {
            let name = format!("{prefix}.{}", call.name);
            if library::find(&name).is_some() {
                call.name = name;
                call.method = false;
                call.args.remove(0);
            }
        }
        let mixed = call.name == "format" && call.method;
        self.mixed += usize::from(mixed);
        let types: Vec<Type> = call.args.iter_mut().map(|arg| self.check(arg)).collect();
        self.mixed -= usize::from(mixed);
        let Some(declared) = library::find(&call.name) else {
            return self.undeclared(at, &call.name);
        };
        call.function = Some(declared.function);
        let mut result: Option<Type> = None;
        for overload in declared.overloads.iter().filter(|it| it.method == call.method) {
            if overload.args.len() != types.len() {
                continue;
            }
            let fresh: Vec<Type> = (0..overload.params).map(|_| self.bindings.fresh()).collect();
            let wanted: Vec<Type> = overload.args.iter().map(|of| of.instantiate(&fresh)).collect();
            if self.bindings.all_fit(&types, &wanted) {
                let gives = self.bindings.resolve(&overload.result.instantiate(&fresh), false);
                result = Some(match result {
                    None => gives,
                    Some(known) if known.is_dyn() || known == gives => known,
                    Some(_) => Type::Dyn,
                });
            }
        }
        match result {
            Some(of) => of,
            None => self.no_overload(at, &call.name, &types, call.method),
        }
    }

    /// The type that two elements of one literal have together.
    fn join(&mut self, at: usize, known: Option<Type>, of: Type) -> Type {
        let Some(known) = known else { return of };
        if self.mixed == 0 {
            self.alike.push((at, known.clone(), of.clone()));
        }
        if self.bindings.fits(&known, &of) { most_general(&known, &of) } else { Type::Dyn }
    }

    /// What an optional element has in it.
    fn unwrapped(&mut self, at: usize, of: Type, optional: bool) -> Type {
        match of {
            Type::Optional(of) if optional => of.as_ref().clone(),
            of if optional && !of.is_dyn() => {
                self.mismatch(at, &Type::optional(of.clone()), &of);
                of
            }
            of => of,
        }
    }

    fn list(&mut self, items: &mut [Item]) -> Type {
        let mut element = None;
        for item in items {
            let of = self.check(&mut item.value);
            let of = self.unwrapped(item.value.at, of, item.optional);
            element = Some(self.join(item.value.at, element, of));
        }
        Type::list(element.unwrap_or_else(|| self.bindings.fresh()))
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.check(&mut entry.key);
            keys = Some(self.join(entry.key.at, keys, key));
            let value = self.check(&mut entry.value);
            let value = self.unwrapped(entry.value.at, value, entry.optional);
            values = Some(self.join(entry.value.at, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.bindings.fresh());
        Type::map(keys, values.unwrap_or_else(|| self.bindings.fresh()))
    }

    fn make(&mut self, at: usize, name: &str, fields: &mut [Field]) -> Type {
        let Some(object) = self.env.object(name) else {
            return self.undeclared(at, name);
        };
        for field in fields {
            let value = self.check(&mut field.value);
            let value = self.unwrapped(field.value.at, value, field.optional);
            let Some(wanted) = object.field(&field.name) else {
                self.issues.add(field.at, format!("undefined field '{}'", field.name));
                continue;
            };
            if !self.bindings.fits(&wanted, &value) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{value}'",
                    field.name
                );
                self.issues.add(field.at, message);
            }
        }
        Type::Object(object)
    }

    /// The types of a macro's variables.
    fn variables(&mut self, of: &mut Loop) -> (Type, Type) {
        let range = self.check(&mut of.range);
        let range = self.bindings.resolve(&range, false);
        if matches!(of.what, Macro::OptMap | Macro::OptFlatMap) {
            return match range {
                Type::Optional(of) => (of.as_ref().clone(), Type::Dyn),
                Type::Dyn | Type::Error | Type::Param(_) => (Type::Dyn, Type::Dyn),
                other => {
                    self.no_overload(of.range.at, "hasValue", &[other], true);
                    (Type::Error, Type::Error)
                }
            };
        }
        if let Some(element) = range.element() {
            return match of.var2 {
                Some(_) => (Type::Int, element.clone()),
                None => (element.clone(), Type::Dyn),
            };
        }
        match &range {
            Type::Map(of) => of.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.bindings.fits(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be \
                     list, map, or dynamic)"
                );
                self.issues.add(of.range.at, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn repeat(&mut self, at: usize, of: &mut Loop) -> Type {
        let (first, second) = self.variables(of);
        let before = self.locals.len();
        self.locals.push((of.var.clone(), first.clone()));
        if let Some(name) = &of.var2 {
            self.locals.push((name.clone(), second));
        }
        let filter = of.filter.as_mut().map(|filter| self.check(filter));
        let place = of.body.as_ref().map_or(at, |body| body.at);
        let body = match &mut of.body {
            Some(body) => self.check(body),
            None => first.clone(),
        };
        self.locals.truncate(before);
        let gives = match of.what {
            Macro::All | Macro::Exists => {
                if !self.bindings.fits(&body, &Type::Bool) {
                    self.mismatch(place, &Type::Bool, &body);
                    return Type::Error;
                }
                return Type::Bool;
            }
            Macro::ExistsOne => {
                self.choose(at, &[body, Type::Int, Type::Int]);
                return Type::Bool;
            }
            Macro::List => Type::list(body),
            Macro::Map => Type::map(first, body),
            Macro::MapEntry => {
                let wanted = Type::map(self.bindings.fresh(), self.bindings.fresh());
                if !self.bindings.fits(&body, &wanted) {
                    return self.no_overload(at, "cel.@mapInsert", &[wanted, body], false);
                }
                self.bindings.resolve(&wanted, false)
            }
            Macro::OptMap => Type::optional(body),
            Macro::OptFlatMap => {
                let wanted = Type::optional(self.bindings.fresh());
                return self.choose(at, &[Type::Bool, body, wanted]);
            }
            Macro::SortBy => return Type::list(first),
        };
        match filter {
            Some(filter) => self.choose(at, &[filter, gives.clone(), gives]),
            None => gives,
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
