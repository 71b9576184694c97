//! Calls that are no functions: they bind names, or look at what is not there.

use crate::{
    ast::{Expr, Kind, Loop, Macro, Select},
    parser::{Parser, Stop},
};

/// Whether a method of this name and number of arguments is a macro.
pub(crate) fn is_method(name: &str, args: usize) -> bool {
    match name {
        "all" | "exists" | "exists_one" | "existsOne" => args == 2 || args == 3,
        "map" => args == 2 || args == 3,
        "filter" | "sortBy" | "optMap" | "optFlatMap" => args == 2,
        "transformList" | "transformMap" | "transformMapEntry" => args == 3 || args == 4,
        _ => false,
    }
}

/// `has(a.b)`.
pub(crate) fn has(parser: &mut Parser<'_>, at: usize, args: Vec<Expr>) -> Result<Expr, Stop> {
    let Some(arg) = args.into_iter().next() else { return Err(Stop) };
    match arg.kind {
        Kind::Select { operand, field, how: Select::Plain } => {
            parser.node(at, Kind::Select { operand, field, how: Select::Has })
        }
        _ => {
            parser.issues.add(arg.at, "invalid argument to has() macro");
            Err(Stop)
        }
    }
}

/// A macro behind `target`.
pub(crate) fn method(
    parser: &mut Parser<'_>,
    target: Expr,
    name: &str,
    at: usize,
    args: Vec<Expr>,
) -> Result<Expr, Stop> {
    let what = match name {
        "all" => Macro::All,
        "exists" => Macro::Exists,
        "exists_one" | "existsOne" => Macro::ExistsOne,
        "transformMap" => Macro::Map,
        "transformMapEntry" => Macro::MapEntry,
        "optMap" => Macro::OptMap,
        "optFlatMap" => Macro::OptFlatMap,
        "sortBy" => Macro::SortBy,
        _ => Macro::List,
    };
    let two = match name {
        "all" | "exists" | "exists_one" | "existsOne" => args.len() == 3,
        _ => name.starts_with("transform"),
    };
    let mut args = args.into_iter();
    let mut next = || args.next().ok_or(Stop);
    let not_a_name = match name {
        "map" | "filter" => "argument is not an identifier",
        "optMap" => "optMap() variable name must be a simple identifier",
        "optFlatMap" => "optFlatMap() variable name must be a simple identifier",
        _ => "argument must be a simple name",
    };
    let var = variable(parser, next()?, not_a_name)?;
    let mut var2 = None;
    if two {
        let arg = next()?;
        let place = arg.at;
        let second = variable(parser, arg, not_a_name)?;
        if second == var {
            parser.issues.add(place, format!("duplicate variable name: {var}"));
            return Err(Stop);
        }
        var2 = Some(second);
    }
    let first = next()?;
    let (filter, body) = match (name, next().ok()) {
        ("filter", _) => (Some(first), None),
        (_, Some(second)) => (Some(first), Some(second)),
        (_, None) => (None, Some(first)),
    };
    parser.node(at, Kind::Loop(Box::new(Loop { what, range: target, var, var2, filter, body })))
}

fn variable(parser: &mut Parser<'_>, arg: Expr, not_a_name: &str) -> Result<String, Stop> {
    let Kind::Ident(name) = arg.kind else {
        parser.issues.add(arg.at, not_a_name);
        return Err(Stop);
    };
    if name == "__result__" {
        parser.issues.add(arg.at, "iteration variable overwrites accumulator variable");
        return Err(Stop);
    }
    Ok(name)
}
