//! The tree of an expression.

use crate::{library::Function, types::Type};

/// A node, and how many characters of the expression are before it.
#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    /// Longest way to a leaf; bounds every recursion over the tree.
    pub(crate) depth: usize,
    /// Found by the checker, as far as it was known there.
    pub(crate) of: Type,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    /// A variable, the name of a type, or something dotted that the checker found to be one.
    Ident(String),
    /// `operand.field`, `operand.?field`, `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: String,
        how: Select,
    },
    /// The target of a method is the first argument.
    Call(Call),
    /// `a && b && c`, `a || b || c`.
    Logic {
        and: bool,
        terms: Vec<Expr>,
    },
    /// `condition ? yes : no`.
    Choose(Box<[Expr; 3]>),
    List(Vec<Item>),
    Map(Vec<Entry>),
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Loop(Box<Loop>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    Plain,
    Optional,
    Has,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) method: bool,
    pub(crate) args: Vec<Expr>,
    /// Found by the checker.
    pub(crate) function: Option<&'static Function>,
}

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// The place of the colon.
    pub(crate) at: usize,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A macro over a list, a map or an optional.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) what: Macro,
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    pub(crate) filter: Option<Expr>,
    /// What is made of each element; nothing for `filter`.
    pub(crate) body: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    /// `map`, `filter` and `transformList`.
    List,
    /// `transformMap`.
    Map,
    /// `transformMapEntry`.
    MapEntry,
    OptMap,
    OptFlatMap,
    SortBy,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        let mut depth = 0;
        kind.children(&mut |child| depth = depth.max(child.depth));
        Self { at, depth: depth + 1, of: Type::Dyn, kind }
    }

    /// Calls `look` for this node and all below it.
    pub(crate) fn walk<'e>(&'e self, look: &mut dyn FnMut(&'e Expr)) {
        look(self);
        self.kind.children(&mut |child| child.walk(look));
    }

    /// The literal string that this is.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    /// `a.b.c`, where the node is nothing but names.
    pub(crate) fn qualified(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select { operand, field, how: Select::Plain } => {
                let mut name = operand.qualified()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}

impl Kind {
    fn children<'e>(&'e self, look: &mut dyn FnMut(&'e Expr)) {
        match self {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => look(operand),
            Kind::Call(call) => call.args.iter().for_each(look),
            Kind::Logic { terms, .. } => terms.iter().for_each(look),
            Kind::Choose(parts) => parts.iter().for_each(look),
            Kind::List(items) => items.iter().for_each(|item| look(&item.value)),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                look(&entry.key);
                look(&entry.value);
            }),
            Kind::Struct { fields, .. } => fields.iter().for_each(|field| look(&field.value)),
            Kind::Loop(of) => {
                look(&of.range);
                of.filter.iter().for_each(&mut *look);
                of.body.iter().for_each(look);
            }
        }
    }
}
