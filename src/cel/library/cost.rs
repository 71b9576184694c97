//! What calls cost, counted as upstream counts it: about a tenth of the characters looked at.

use crate::value::Value;

fn size(args: &[Value<'_>], at: usize) -> u64 {
    args.get(at).map_or(0, Value::size)
}

fn tenth(of: u64) -> u64 {
    of.div_ceil(10)
}

pub(super) fn one(_: &[Value<'_>]) -> u64 {
    1
}

/// A new list, before anything is in it.
pub(super) fn eleven(_: &[Value<'_>]) -> u64 {
    11
}

/// Reading the first argument.
pub(super) fn first(args: &[Value<'_>]) -> u64 {
    tenth(size(args, 0))
}

/// Reading the second argument.
pub(super) fn second(args: &[Value<'_>]) -> u64 {
    tenth(size(args, 1))
}

/// Reading the first argument and making something of its length.
pub(super) fn first_twice(args: &[Value<'_>]) -> u64 {
    size(args, 0).div_ceil(5)
}

/// Comparing two things.
pub(super) fn both(args: &[Value<'_>]) -> u64 {
    tenth(size(args, 0).min(size(args, 1)))
}

/// Putting two texts together; numbers cost one. Lists cost too, as they are copied.
pub(super) fn sum(args: &[Value<'_>]) -> u64 {
    match args.first() {
        Some(Value::String(_) | Value::Bytes(_)) => {
            tenth(size(args, 0).saturating_add(size(args, 1)))
        }
        Some(Value::List(_)) => 1 + (size(args, 0).saturating_add(size(args, 1))) / 100,
        _ => 1,
    }
}

/// Comparing by order: texts by their length, anything else one.
pub(super) fn order(args: &[Value<'_>]) -> u64 {
    match args.first() {
        Some(Value::String(_) | Value::Bytes(_)) => both(args),
        _ => 1,
    }
}

/// Going through the first argument, item by item.
pub(super) fn through(args: &[Value<'_>]) -> u64 {
    match args.first() {
        Some(Value::List(list)) => match list.get(0) {
            Some(Ok(Value::String(_))) => list.iter().flatten().map(|item| item.size() / 10).sum(),
            _ => list.len() as u64,
        },
        Some(value) => value.size() / 10,
        None => 1,
    }
}

/// Going through the second argument.
pub(super) fn through_second(args: &[Value<'_>]) -> u64 {
    match args.get(1) {
        Some(list @ Value::List(_)) => list.size(),
        _ => 1,
    }
}

/// Making a list of the length of the first argument.
pub(super) fn copy(args: &[Value<'_>]) -> u64 {
    11 + size(args, 0)
}

/// Comparing each with each.
pub(super) fn product(args: &[Value<'_>]) -> u64 {
    size(args, 0).saturating_mul(size(args, 1)).saturating_add(1)
}

/// The same both ways.
pub(super) fn product_twice(args: &[Value<'_>]) -> u64 {
    size(args, 0).saturating_mul(size(args, 1)).saturating_mul(2).saturating_add(1)
}

/// Comparing the first argument's items with each other.
pub(super) fn square(args: &[Value<'_>]) -> u64 {
    let length = size(args, 0);
    11u64.saturating_add(length.saturating_mul(length).saturating_mul(2))
}

/// Looking for a text in another.
pub(super) fn contains(args: &[Value<'_>]) -> u64 {
    first(args).saturating_mul(second(args))
}

/// Looking for a pattern in a text.
pub(super) fn pattern(args: &[Value<'_>]) -> u64 {
    tenth(1 + size(args, 0)).saturating_mul(size(args, 1).div_ceil(4))
}

/// Putting the texts of a list together.
pub(super) fn join(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 1 };
    let texts: u64 = list.iter().flatten().map(|item| item.size()).sum();
    let between = (list.len() as u64).saturating_sub(1).saturating_mul(size(args, 1));
    texts.saturating_add(if args.len() > 1 { between } else { 0 }).div_ceil(5)
}

/// Asking the authorizer: twice in an expression, and no more.
pub(super) fn check(_: &[Value<'_>]) -> u64 {
    350_000
}

/// Whether an address is in a network.
pub(super) fn contains_ip(args: &[Value<'_>]) -> u64 {
    let text = matches!(args.get(1), Some(Value::String(_)));
    (2 * size(args, 0)).div_ceil(10) + if text { second(args) } else { 0 }
}

/// Whether a network is in a network.
pub(super) fn contains_cidr(args: &[Value<'_>]) -> u64 {
    contains_ip(args) + first(args) + 1
}
