//! What an expression costs at most, before it is evaluated: upstream refuses rules by that. Every
//! part has an estimate of its size, which comes of the schema, of what is written down, or of the
//! calls that made it. Only the most is kept of costs, for nobody asks for the least.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ast::{Expr, Kind, Literal, Loop, Macro, Select},
    env::Program,
    library::estimate,
    types::Type,
};

/// How large values are at most.
#[derive(Debug, Default)]
pub struct Bounds {
    /// The most characters, octets, items or entries; 0 where that says nothing.
    pub most: u64,
    /// The fields of an object, by their names in expressions.
    pub fields: BTreeMap<String, Arc<Bounds>>,
    /// The items of a list, the values of a map.
    pub elements: Option<Arc<Bounds>>,
    /// Whether this is a map, of whose keys no size is known.
    pub keyed: bool,
}

static KEY: Bounds = Bounds { most: 0, fields: BTreeMap::new(), elements: None, keyed: false };

/// A size: at least, at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Size {
    pub(crate) const UNKNOWN: Size = Size { min: 0, max: u64::MAX };

    pub(crate) fn exactly(size: u64) -> Self {
        Size { min: size, max: size }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Size { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Size { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Size { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }
}

/// The sizes of the keys and values of something; lists have no keys to speak of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    list: bool,
    keys: Size,
    pub(crate) values: Size,
}

impl Inside {
    pub(crate) fn union(self, other: Self) -> Self {
        let keys = self.keys.union(other.keys);
        Inside { list: self.list, keys, values: self.values.union(other.values) }
    }
}

/// Where in the schema a value is from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'b> {
    /// From nowhere. Upstream takes the first step from there for a variable's name, and what is
    /// behind it for a part of that.
    Nowhere,
    At(Option<&'b Bounds>),
}

/// What is known of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'b> {
    pub(crate) cost: u64,
    pub(crate) size: Option<Size>,
    pub(crate) inside: Option<Inside>,
    pub(crate) place: Place<'b>,
}

impl Known<'_> {
    pub(crate) fn size(&self) -> Size {
        self.size.unwrap_or(Size::UNKNOWN)
    }
}

impl Program {
    /// What an evaluation costs at most, where variables are as large as `bounds` says.
    pub fn most(&self, bounds: &Bounds) -> u64 {
        Estimate { root: bounds }.of(&self.root, None).cost
    }
}

struct Estimate<'b> {
    root: &'b Bounds,
}

/// A macro's variable.
struct Local<'s, 'b> {
    name: &'s str,
    known: Known<'b>,
    around: Option<&'s Local<'s, 'b>>,
}

type Locals<'s, 'b> = Option<&'s Local<'s, 'b>>;

/// Literals, calls and the like, whose place does not matter.
fn made<'b>(cost: u64, size: Option<Size>) -> Known<'b> {
    Known { cost, size, inside: None, place: Place::Nowhere }
}

/// Values of these types are of the same size always.
fn size_of_type(of: &Type) -> Option<Size> {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            Some(Size::exactly(1))
        }
        Type::Optional(of) => size_of_type(of),
        _ => None,
    }
}

impl<'b> Estimate<'b> {
    /// One step from a place.
    fn step(&self, from: Place<'b>, name: &str) -> Place<'b> {
        let Place::At(bounds) = from else { return Place::At(Some(self.root)) };
        Place::At(bounds.and_then(|bounds| match name {
            "@items" | "@values" => bounds.elements.as_deref(),
            "@keys" => bounds.keyed.then_some(&KEY),
            field => bounds.fields.get(field).map(AsRef::as_ref),
        }))
    }

    /// The size that the schema knows of a place, or that all values of a type have.
    fn size_at(&self, place: Place<'b>, of: &Type) -> Option<Size> {
        match place {
            Place::At(Some(bounds)) => Some(Size { min: 0, max: bounds.most }),
            _ => size_of_type(of),
        }
    }

    fn of(&self, expr: &Expr, locals: Locals<'_, 'b>) -> Known<'b> {
        match &expr.kind {
            Kind::Literal(literal) => made(0, Some(Size::exactly(length(literal)))),
            Kind::Ident(name) => self.ident(name, &expr.of, locals),
            Kind::Select { operand, field, how } => {
                let operand_type = &operand.of;
                let operand = self.of(operand, locals);
                match how {
                    Select::Has => made(operand.cost, Some(Size::exactly(1))),
                    Select::Optional => made(add(operand.cost, 1), size_of_type(&expr.of)),
                    Select::Plain => {
                        let fielded = matches!(operand_type, Type::Map(_) | Type::Object(_));
                        let place = self.step(operand.place, field);
                        let size = self.size_at(place, &expr.of);
                        let cost = add(operand.cost, u64::from(fielded));
                        Known { cost, size, inside: None, place }
                    }
                }
            }
            Kind::Call(call) => {
                let args: Vec<Known<'b>> =
                    call.args.iter().map(|arg| self.of(arg, locals)).collect();
                let costs = args.iter().fold(0, |sum, arg| add(sum, arg.cost));
                if let ("dyn", [arg]) = (call.name.as_str(), args.as_slice()) {
                    let cost = add(costs, 1);
                    return Known { cost, place: Place::Nowhere, ..*arg };
                }
                let mut known = made(0, None);
                if let ("_[_]", [target, _]) = (call.name.as_str(), args.as_slice()) {
                    let of = call.args.first().map(|arg| &arg.of);
                    let name = match of {
                        Some(of) if of.element().is_some() => "@items",
                        _ => "@values",
                    };
                    if !matches!(of, Some(Type::Optional(_))) {
                        known.place = self.step(target.place, name);
                        known.size = target.inside.map(|inside| inside.values);
                    }
                }
                let items = |at: usize| match args.get(at)?.place {
                    Place::Nowhere => None,
                    place => match self.step(place, "@items") {
                        Place::At(bounds) => Some(Size { min: 0, max: bounds?.most }),
                        Place::Nowhere => None,
                    },
                };
                let found = estimate::call(call, &args, &items(0).unwrap_or(Size::UNKNOWN));
                known.cost = add(costs, found.cost);
                known.inside = found.inside;
                known.size =
                    found.size.or(known.size).or_else(|| self.size_at(known.place, &expr.of));
                known
            }
            Kind::Logic { terms, .. } => {
                let cost = terms.iter().fold(0, |sum, term| add(sum, self.of(term, locals).cost));
                made(cost, Some(Size::exactly(1)))
            }
            Kind::Choose(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let condition = self.of(condition, locals).cost;
                self.either(condition, self.of(yes, locals), self.of(no, locals))
            }
            Kind::List(items) => {
                let all = items.iter().map(|item| self.of(&item.value, locals));
                let (costs, values) = together(all);
                Known {
                    inside: Some(Inside { list: true, keys: Size::exactly(1), values }),
                    ..made(add(costs, 10), Some(Size::exactly(items.len() as u64)))
                }
            }
            Kind::Map(entries) => {
                let (costs, keys) = together(entries.iter().map(|it| self.of(&it.key, locals)));
                let (more, values) = together(entries.iter().map(|it| self.of(&it.value, locals)));
                Known {
                    inside: Some(Inside { list: false, keys, values }),
                    ..made(add(add(costs, more), 30), Some(Size::exactly(entries.len() as u64)))
                }
            }
            Kind::Struct { fields, .. } => {
                let all = fields.iter().map(|field| self.of(&field.value, locals));
                made(add(together(all).0, 40), None)
            }
            Kind::Loop(of) => self.repeat(of, &expr.of, locals),
        }
    }

    fn ident(&self, name: &str, of: &Type, locals: Locals<'_, 'b>) -> Known<'b> {
        let mut around = locals;
        while let Some(local) = around {
            if local.name == name {
                let place = local.known.place;
                let size = self.size_at(place, of).or(local.known.size);
                return Known { cost: 1, size, place, ..local.known };
            }
            around = local.around;
        }
        let place = Place::At(Some(self.root));
        Known { place, ..made(1, self.size_at(place, of)) }
    }

    fn either(&self, condition: u64, yes: Known<'b>, no: Known<'b>) -> Known<'b> {
        Known {
            inside: yes.inside.zip(no.inside).map(|(yes, no)| yes.union(no)),
            ..made(add(condition, yes.cost.max(no.cost)), Some(yes.size().union(no.size())))
        }
    }

    /// Macros, by what the loops cost that upstream makes of them.
    fn repeat(&self, of: &Loop, gives: &Type, locals: Locals<'_, 'b>) -> Known<'b> {
        let range = self.of(&of.range, locals);
        match of.what {
            Macro::OptMap | Macro::OptFlatMap => return self.of_optional(of, range, gives, locals),
            Macro::SortBy => return self.sort_by(of, range, locals),
            _ => {}
        }
        let (first, second) = self.variables(of, range);
        let outer = Local { name: &of.var, known: first, around: locals };
        let inner = second.map(|(name, known)| Local { name, known, around: Some(&outer) });
        let locals = Some(inner.as_ref().unwrap_or(&outer));
        let filter = of.filter.as_ref().map(|filter| self.of(filter, locals).cost);
        // Nothing but the variable is what `filter` keeps.
        let body = match &of.body {
            Some(body) => self.of(body, locals),
            None => self.ident(&of.var, first_of(&of.range.of), locals),
        };
        // What is before and behind the loop, and each step without what the body costs.
        let (around, each) = match of.what {
            Macro::All => (1, 3),
            Macro::Exists => (1, 4),
            Macro::ExistsOne => (2, 2),
            Macro::Map => (31, 3),
            Macro::MapEntry => (31, 2),
            _ => (11, 12),
        };
        let mut step = add(body.cost, each);
        if let Some(filter) = filter {
            step = add(filter, step);
        }
        let count = range.size();
        let cost = add(range.cost, add(around, count.max.saturating_mul(step)));
        let inside = Inside {
            list: true,
            keys: Size::exactly(1),
            values: Size { min: 0, max: body.size().max },
        };
        match of.what {
            Macro::All | Macro::Exists | Macro::ExistsOne => made(cost, Some(Size::exactly(1))),
            Macro::Map | Macro::MapEntry => made(cost, Some(count)),
            _ => Known { inside: Some(inside), ..made(cost, Some(count)) },
        }
    }

    /// What is known of a loop's variables.
    fn variables<'s>(
        &self,
        of: &'s Loop,
        range: Known<'b>,
    ) -> (Known<'b>, Option<(&'s str, Known<'b>)>) {
        let list = match range.inside {
            Some(inside) => inside.list,
            None => of.range.of.element().is_some(),
        };
        let keys = range.inside.map(|inside| inside.keys);
        let values = range.inside.map(|inside| inside.values);
        let at = |name: &str, size| Known { place: self.step(range.place, name), ..made(1, size) };
        let key = at(if list { "@indices" } else { "@keys" }, keys);
        let value = at(if list { "@items" } else { "@values" }, values);
        match &of.var2 {
            Some(name) => (key, Some((name, value))),
            None if list => (value, None),
            None => (key, None),
        }
    }

    fn of_optional(
        &self,
        of: &Loop,
        range: Known<'b>,
        gives: &Type,
        locals: Locals<'_, 'b>,
    ) -> Known<'b> {
        let within = match &of.range.of {
            Type::Optional(of) => size_of_type(of),
            _ => None,
        };
        // The optional is evaluated twice: to see whether something is in it, and for that.
        let value = made(1, within);
        let inner = Local { name: &of.var, known: value, around: locals };
        let Some(body) = &of.body else { return made(range.cost, None) };
        let body = self.of(body, Some(&inner));
        let bound = add(add(range.cost, 11), body.cost);
        let size = size_of_type(gives);
        let yes = match of.what {
            Macro::OptMap => made(add(bound, 1), size),
            _ => Known { cost: bound, ..body },
        };
        self.either(add(range.cost, 1), yes, made(1, size))
    }

    fn sort_by(&self, of: &Loop, range: Known<'b>, locals: Locals<'_, 'b>) -> Known<'b> {
        let (first, _) = self.variables(of, range);
        let inner = Local { name: &of.var, known: first, around: locals };
        let Some(body) = &of.body else { return made(range.cost, None) };
        let known = self.of(body, Some(&inner));
        let keys = add(12, range.size().max.saturating_mul(add(12, known.cost)));
        let sorted = estimate::sorted(range.size(), &body.of);
        // The list itself is named once more, and there is an empty one to begin with.
        let cost = add(add(range.cost, 10), add(add(keys, 1), sorted.cost));
        made(cost, sorted.size)
    }
}

/// What a macro with one variable goes through.
pub(crate) fn first_of(range: &Type) -> &Type {
    match range {
        Type::Map(of) => &of.0,
        other => other.element().unwrap_or(&Type::Dyn),
    }
}

fn add(one: u64, other: u64) -> u64 {
    one.saturating_add(other)
}

/// What parts cost together, and the size of each.
fn together<'b>(parts: impl Iterator<Item = Known<'b>>) -> (u64, Size) {
    let mut all: Option<Size> = None;
    let mut costs = 0;
    for part in parts {
        costs = add(costs, part.cost);
        all = Some(all.map_or(part.size(), |all| all.union(part.size())));
    }
    (costs, all.unwrap_or(Size::exactly(0)))
}

fn length(literal: &Literal) -> u64 {
    match literal {
        Literal::String(text) => text.chars().count() as u64,
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}
