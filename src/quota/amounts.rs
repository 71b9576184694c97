//! Amounts of named resources, and arithmetic on them.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use serde_json::Value;

/// Amounts by resource name: a `ResourceList`.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a `ResourceList`; what is no quantity counts as zero.
pub fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries
        .map(|(name, amount)| (name.clone(), Quantity::from_json(amount).unwrap_or(Quantity::ZERO)))
        .collect()
}

/// A `ResourceList` of amounts.
pub fn write(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect()
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(there) => *there += *amount,
            None => drop(sum.insert(name.clone(), *amount)),
        }
    }
}

/// Raises what is below `other` to it.
pub fn raise(amounts: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match amounts.get_mut(name) {
            Some(there) if *there < *amount => *there = *amount,
            Some(_) => {}
            None => drop(amounts.insert(name.clone(), *amount)),
        }
    }
}

/// `new - old`, but nothing below zero.
pub fn increase(new: &Amounts, old: &Amounts) -> Amounts {
    let mut result = Amounts::new();
    for (name, amount) in new {
        let left = old.get(name).map_or(*amount, |old| *amount - *old);
        result.insert(name.clone(), if left > Quantity::ZERO { left } else { Quantity::ZERO });
    }
    result
}

/// `a=1,b=2Gi`, as messages show amounts.
pub fn text(amounts: &Amounts) -> String {
    let parts: Vec<String> =
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}
