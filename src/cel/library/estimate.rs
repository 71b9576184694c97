//! What calls cost at most, and how large what they give is at most, by the sizes of their
//! arguments. What is not named here costs one.

use crate::{
    ast::{Call, Expr, Kind, Literal},
    estimate::{Inside, Known, Size, first_of},
    types::Type,
};

/// What is found out about a call.
pub(crate) struct Found {
    pub(crate) cost: u64,
    pub(crate) size: Option<Size>,
    pub(crate) inside: Option<Inside>,
}

fn found(cost: u64, size: Option<Size>) -> Found {
    Found { cost, size, inside: None }
}

/// `of * by`, rounded up.
fn scale(of: u64, by: f64) -> u64 {
    // Upstream calculates with floats, and what is too large is the largest.
    (of as f64 * by).ceil() as u64
}

fn tenth(of: Size) -> u64 {
    scale(of.max, 0.1)
}

/// Looking for a pattern in a text.
fn pattern(text: Size, pattern: Size) -> u64 {
    scale(text.max.saturating_add(1), 0.1).saturating_mul(scale(pattern.max, 0.25))
}

/// A new list of some size, made with so much work for each item.
fn list(size: Size, factor: f64) -> Found {
    found(scale(size.max, factor).saturating_add(11), Some(size))
}

/// A list sorted by keys of a type.
pub(crate) fn sorted(keys: Size, of: &Type) -> Found {
    let text = matches!(of, Type::String | Type::Bytes | Type::Dyn);
    list(keys.times(keys), if text { 2.1 } else { 2.0 })
}

/// Whether an argument may be of a kind, and whether it may be of another, too.
fn may(expr: Option<&Expr>, kind: fn(&Type) -> bool) -> bool {
    expr.is_some_and(|expr| kind(&expr.of) || open(&expr.of))
}

fn open(of: &Type) -> bool {
    matches!(of, Type::Dyn | Type::Error | Type::Param(_))
}

fn is_text(of: &Type) -> bool {
    matches!(of, Type::String | Type::Bytes)
}

fn is_list(of: &Type) -> bool {
    of.element().is_some()
}

/// The number that an argument is.
fn number(call: &Call, at: usize) -> Option<u64> {
    match call.args.get(at).map(|arg| &arg.kind) {
        Some(Kind::Literal(Literal::Int(number))) => Some((*number).max(0).unsigned_abs()),
        _ => None,
    }
}

/// What a call costs beside its arguments. `items` is the size of what is in the first.
pub(crate) fn call(call: &Call, args: &[Known<'_>], items: &Size) -> Found {
    let size = |at: usize| args.get(at).map_or(Size::UNKNOWN, Known::size);
    let (first, second) = (size(0), size(1));
    let of = call.args.first().map_or(&Type::Dyn, |arg| &arg.of);
    match call.name.as_str() {
        "_==_" | "_!=_" => {
            let cost = alike(call, args).unwrap_or(scale(first.max.min(second.max), 0.1));
            found(cost, None)
        }
        "_<_" | "_<=_" | "_>_" | "_>=_" => {
            let all = |kind: fn(&Type) -> bool| call.args.iter().all(|arg| may(Some(arg), kind));
            let mut cost = 1;
            if all(is_text) {
                cost = scale(first.max.min(second.max), 0.1);
                if call.args.iter().all(|arg| open(&arg.of)) {
                    cost = cost.max(1);
                }
            }
            found(cost, None)
        }
        "_+_" => sum(call, args),
        "@in" => found(if may(call.args.get(1), is_list) { second.max } else { 1 }, None),
        "format" | "startsWith" | "endsWith" => {
            found(tenth(if call.name == "format" { first } else { second }), None)
        }
        // A character is up to four octets.
        "bytes" | "string" => {
            let (from, size): (fn(&Type) -> bool, _) = match call.name.as_str() {
                "bytes" => (
                    |of| matches!(of, Type::String),
                    Size { min: first.min, max: first.max.wrapping_mul(4) },
                ),
                _ => (|of| matches!(of, Type::Bytes), Size { min: first.min / 4, max: first.max }),
            };
            match may(call.args.first(), from) {
                true => found(tenth(first).max(u64::from(open(of))), Some(size)),
                false => found(1, None),
            }
        }
        "strings.quote" => {
            let double = |of: u64| of.wrapping_mul(2).wrapping_add(2);
            let min = first.min.wrapping_add(2);
            found(tenth(first), Some(Size { min, max: double(first.max) }))
        }
        "matches" => found(pattern(first, second), None),
        "find" | "findAll" => found(pattern(first, second), Some(Size { min: 0, max: first.max })),
        "contains" => found(tenth(first).saturating_mul(tenth(second)), None),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            let cost = match first_of(of) {
                Type::String | Type::Bytes => {
                    first.max.saturating_mul(tenth(*items).saturating_add(1))
                }
                _ if matches!(of, Type::Map(_)) || is_list(of) || call.name == "includes" => {
                    first.max
                }
                _ => tenth(first),
            };
            found(cost, None)
        }
        "url" | "jsonpatch.escapeKey" | "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            found(tenth(first), Some(first))
        }
        "replace" => found(scale(first.max, 0.2), Some(replaced(first, second, size(2)))),
        "split" => {
            let max = match call.args.get(2).map(|arg| &arg.kind) {
                Some(Kind::Literal(Literal::Int(number))) => number.cast_unsigned(),
                _ => first.max,
            };
            found(scale(first.max, 0.2), Some(Size { min: 0, max }))
        }
        "join" => {
            let mut all = first.times(*items);
            if args.len() > 1 {
                let between =
                    Size { min: first.min.saturating_sub(1), max: first.max.saturating_sub(1) };
                all = all.plus(second.times(between));
            }
            found(tenth(all), Some(all))
        }
        "ip" if call.method => found(1, None),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            found(tenth(first), None)
        }
        "ip.isCanonical" => found(scale(first.max, 0.2), None),
        "containsIP" | "containsCIDR" => {
            let base = if call.name == "containsIP" { 4 } else { 7 };
            let text = may(call.args.get(1), is_text);
            found(if text { tenth(second).saturating_add(base) } else { base }, None)
        }
        "validate" => found(tenth(second).saturating_mul(32), None),
        "sets.contains" | "sets.intersects" => {
            found(first.times(second).max.saturating_add(1), None)
        }
        "sets.equivalent" => found(scale(first.times(second).max, 2.0).saturating_add(1), None),
        "slice" => {
            let end = number(call, 2).unwrap_or(first.max);
            list(Size::exactly(end.wrapping_sub(number(call, 1).unwrap_or(0))), 1.0)
        }
        "lists.range" => list(Size::exactly(number(call, 0).unwrap_or(u64::MAX)), 1.0),
        "reverse" => list(first, 1.0),
        "flatten" => {
            let depth = if args.len() > 1 { number(call, 1).unwrap_or(u64::MAX) } else { 1 };
            list(first, depth as f64)
        }
        "distinct" => list(first.times(first), 2.0),
        "sort" => sorted(first, of.element().unwrap_or(&Type::Dyn)),
        _ => found(1, None),
    }
}

/// What it costs to see whether two things are equal whose type only functions know.
fn alike(call: &Call, args: &[Known<'_>]) -> Option<u64> {
    let [one, other] = call.args.as_slice() else { return None };
    match (&one.of, &other.of) {
        (Type::Opaque(one), Type::Opaque(other)) if one == other && call.name == "_==_" => {
            Some(match *one {
                "kubernetes.URL" => args.get(1)?.size.map_or(1, tenth),
                "kubernetes.NamedFormat" => 7,
                _ => 1,
            })
        }
        _ => None,
    }
}

/// Texts and lists grow; what costs, is copying texts.
fn sum(call: &Call, args: &[Known<'_>]) -> Found {
    let [one, other] = args else { return found(1, None) };
    let all = |kind: fn(&Type) -> bool| call.args.iter().all(|arg| may(Some(arg), kind));
    let (texts, lists) = (all(is_text), all(is_list));
    if !texts && !lists {
        return found(1, None);
    }
    let size = one.size().plus(other.size());
    let cost = if texts { tenth(size) } else { 1 };
    Found {
        cost: if lists { cost.max(1) } else { cost },
        size: Some(size),
        inside: one.inside.zip(other.inside).map(|(one, other)| one.union(other)),
    }
}

/// How large a text is after parts of it were replaced.
fn replaced(text: Size, part: Size, by: Size) -> Size {
    let quotient = |of: u64, by: u64| (of as f64 / by as f64).ceil() as u64;
    let (count, kept) = match part.min {
        // Something is put between all characters.
        0 => (text.max.saturating_add(1), text.max),
        least if by.max <= least => (0, text.max),
        least => (quotient(text.max, least), 0),
    };
    let max = count.saturating_mul(by.max).saturating_add(kept);
    let (count, kept) = match part.max {
        0 => (text.min.saturating_add(1), text.min),
        most if most <= by.min => (0, text.min),
        most => (quotient(text.min, most), 0),
    };
    Size { min: count.saturating_mul(by.min).saturating_add(kept), max }
}
