//! The functions that expressions may call: a file a subject, each with its table.

pub(crate) mod authorizer;
mod cost;
pub(crate) mod estimate;
mod format;
pub(crate) mod formats;
pub(crate) mod lists;
mod net;
pub(crate) mod number;
pub(crate) mod operators;
pub(crate) mod optional;
mod patch;
mod quantity;
pub(crate) mod regexes;
pub(crate) mod semver;
mod sets;
mod strings;
pub(crate) mod time;
pub(crate) mod url;

use std::{collections::HashMap, fmt, sync::OnceLock};

use crate::{
    eval::Run,
    signature::{self, Overload},
    value::{Outcome, Value},
};

pub(crate) use strings::check_format;

/// What a function does.
pub(crate) type Handler = for<'a> fn(&Run<'a>, &[Value<'a>]) -> Outcome<'a>;

/// A function: its name, what it does, what a call costs, and what it takes and gives, as
/// `receiver | arguments -> result`.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) call: Handler,
    pub(crate) cost: fn(&[Value<'_>]) -> u64,
    overloads: &'static [&'static str],
}

impl fmt::Debug for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

const fn function(
    name: &'static str,
    call: Handler,
    cost: fn(&[Value<'_>]) -> u64,
    overloads: &'static [&'static str],
) -> Function {
    Function { name, call, cost, overloads }
}

/// A function with its signatures read.
pub(crate) struct Declared {
    pub(crate) function: &'static Function,
    pub(crate) overloads: Vec<Overload>,
}

static TABLES: &[&[Function]] = &[
    operators::FUNCTIONS,
    number::FUNCTIONS,
    time::FUNCTIONS,
    strings::FUNCTIONS,
    lists::FUNCTIONS,
    sets::FUNCTIONS,
    regexes::FUNCTIONS,
    url::FUNCTIONS,
    net::FUNCTIONS,
    quantity::FUNCTIONS,
    semver::FUNCTIONS,
    formats::FUNCTIONS,
    optional::FUNCTIONS,
    authorizer::FUNCTIONS,
    patch::FUNCTIONS,
];

/// The function of a name. Several subjects may have signatures of one name; they are one function
/// then, and what it does is the first table's.
pub(crate) fn find(name: &str) -> Option<&'static Declared> {
    static ALL: OnceLock<HashMap<&'static str, Declared>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        TABLES
            .iter()
            .flat_map(|table| table.iter())
            .map(|function| {
                let overloads = function.overloads.iter().filter_map(|text| signature::read(text));
                (function.name, Declared { function, overloads: overloads.collect() })
            })
            .collect()
    });
    all.get(name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_signature_can_be_read_and_every_name_is_there_once() {
        let mut names = HashSet::new();
        for function in TABLES.iter().flat_map(|table| table.iter()) {
            assert!(names.insert(function.name), "{} twice", function.name);
            for text in function.overloads {
                assert!(signature::read(text).is_some(), "{text}");
            }
        }
    }
}
