//! What is looked at beyond types: literals that some functions could never read.

use regex::Regex;

use crate::{
    ast::{Call, Expr, Kind},
    issue::Issues,
    library::{check_format, regexes, time},
};

/// Notes what is wrong with literal arguments.
pub(crate) fn check(root: &Expr, issues: &mut Issues) {
    root.walk(&mut |expr| {
        let Kind::Call(call) = &expr.kind else { return };
        match call.name.as_str() {
            "duration" => argument(call, 0, issues, |text| time::duration(text).is_some()),
            "timestamp" => argument(call, 0, issues, |text| time::timestamp(text).is_some()),
            "matches" => argument(call, 1, issues, |text| regexes::compile(text).is_ok()),
            "format" => format(expr.at, call, issues),
            _ => {}
        }
    });
}

fn argument(call: &Call, at: usize, issues: &mut Issues, reads: fn(&str) -> bool) {
    if let Some(arg) = call.args.get(at)
        && let Some(text) = arg.as_text()
        && !reads(text)
    {
        issues.add(arg.at, format!("invalid {} argument", call.name));
    }
}

fn format(at: usize, call: &Call, issues: &mut Issues) {
    let [text, args] = call.args.as_slice() else { return };
    let (Some(format), Kind::List(items)) = (text.as_text(), &args.kind) else { return };
    if let Some((item, message)) = check_format(format, items) {
        let place = item.and_then(|item| items.get(item)).map_or(at, |item| item.value.at);
        issues.add(place, message);
    }
}

/// The patterns that are written down.
pub(crate) fn patterns(root: &Expr) -> Vec<&str> {
    let mut all = Vec::new();
    root.walk(&mut |expr| {
        let Kind::Call(call) = &expr.kind else { return };
        if matches!(call.name.as_str(), "matches" | "find" | "findAll")
            && let Some(text) = call.args.get(1).and_then(Expr::as_text)
        {
            all.push(text);
        }
    });
    all
}

/// A pattern that is made at evaluation.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    regexes::compile(pattern)
}
