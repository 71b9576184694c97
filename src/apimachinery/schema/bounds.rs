//! The bounds that a custom resource's schema sets to strings, numbers and lists.

use serde_json::Value;

use super::{
    formats,
    graph::{Kind, Node, Validation},
    validate::{Outcome, at, too_many},
};
use crate::{field::FieldError, quote::go_quote};

pub(super) fn string(
    rules: &Validation,
    format: Option<&str>,
    text: &str,
    path: &str,
    out: &mut Outcome,
) {
    let chars = || text.chars().count() as i64;
    if let Some(max) = rules.max_length.filter(|max| chars() > *max) {
        let limit = usize::try_from(max).unwrap_or_default();
        out.errors.push(FieldError::too_long(&at(path), limit));
    } else if let Some(min) = rules.min_length.filter(|min| chars() < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        out.invalid(path, text, &detail);
    } else if let Some(pattern) = &rules.pattern
        && !pattern.regex().is_some_and(|regex| regex.is_match(text))
    {
        out.invalid(path, text, &format!("{path} in body should match '{}'", pattern.text));
    }
    if let Some(format) = format.filter(|f| formats::known(f)) {
        out.fits += 1;
        if !formats::fits(format, text) {
            let detail = format!("{path} in body must be of type {format}: {}", go_quote(text));
            out.errors.push(FieldError::type_invalid(&at(path), text, &detail));
        }
    }
}

pub(super) fn number(
    node: &Node,
    rules: &Validation,
    format: Option<&str>,
    value: &Value,
    path: &str,
    out: &mut Outcome,
) {
    out.fits += 1;
    if let Some(error) = out_of_range(node.kind, format, value, "Checked", path) {
        out.of_schema(&error);
    }
    let Some(number) = value.as_f64() else { return };
    let integer = value.as_i64();
    let detail = |text: String| format!("{path} in body should be {text}");
    if let Some(factor) = rules.multiple_of {
        let multiple = match integer {
            Some(n) if factor as i64 > 0 => n % factor as i64 == 0,
            _ if factor <= 0.0 => {
                let text = format!(
                    "factor MultipleOf declared for {path} must be positive: {}",
                    go_float(factor)
                );
                out.invalid(path, go_number(factor), &text);
                true
            }
            _ if factor < 1.0 => (1.0 / factor * number).fract().abs() < 1e-9,
            _ => (number / factor).fract().abs() < 1e-9,
        };
        if !multiple {
            out.invalid(
                path,
                value.clone(),
                &detail(format!("a multiple of {}", go_float(factor))),
            );
        }
    }
    // Upstream compares whole numbers with the whole part of a bound.
    let beyond = |bound: f64, sign: f64, exclusive: bool| match integer {
        Some(n) => {
            let (n, bound) = (i128::from(n), bound as i64 as i128);
            let over = (n - bound) * sign as i128;
            over > 0 || exclusive && over == 0
        }
        None => (number - bound) * sign > 0.0 || exclusive && number == bound,
    };
    let shown = |bound: f64| match integer {
        Some(_) => (bound as i64).to_string(),
        None => go_float(bound),
    };
    if let Some(max) = rules.maximum.filter(|max| beyond(*max, 1.0, rules.exclusive_maximum)) {
        let than = if rules.exclusive_maximum { "less than" } else { "less than or equal to" };
        out.invalid(path, value.clone(), &detail(format!("{than} {}", shown(max))));
    }
    if let Some(min) = rules.minimum.filter(|min| beyond(*min, -1.0, rules.exclusive_minimum)) {
        let than =
            if rules.exclusive_minimum { "greater than" } else { "greater than or equal to" };
        out.invalid(path, value.clone(), &detail(format!("{than} {}", shown(min))));
    }
}

fn out_of_range(
    kind: Kind,
    format: Option<&str>,
    value: &Value,
    what: &str,
    path: &str,
) -> Option<String> {
    let (name, fits) = match (kind, format) {
        (Kind::Integer, Some("int32")) => {
            ("integer", value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()))
        }
        (Kind::Integer, _) => ("integer", value.is_i64()),
        (Kind::Number, Some("float")) => {
            ("number", value.as_f64().is_some_and(|n| n.abs() <= f64::from(f32::MAX)))
        }
        _ => return None,
    };
    let format = match format {
        Some(format) => format!("with format {format}"),
        None => "(default format)".to_owned(),
    };
    (!fits).then(|| format!("{what} value must be of type {name} {format} in {path}"))
}

/// A float as Go's `%v` prints it.
fn go_float(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    number.to_string()
}

fn go_number(number: f64) -> Value {
    if number.fract() == 0.0 { Value::from(number as i64) } else { Value::from(number) }
}

pub(super) fn list_size(rules: &Validation, list: &[Value], path: &str, out: &mut Outcome) {
    out.fits += 1;
    let size = list.len() as i64;
    if let Some(min) = rules.min_items.filter(|min| size < *min) {
        out.invalid(path, size, &format!("{path} in body should have at least {min} items"));
    }
    if let Some(max) = rules.max_items.filter(|max| size > *max) {
        out.errors.push(too_many(path, size, max));
    }
    if rules.unique_items && list.iter().enumerate().any(|(i, item)| list[..i].contains(item)) {
        out.invalid(path, "", &format!("{path} in body shouldn't contain duplicates"));
    }
}
