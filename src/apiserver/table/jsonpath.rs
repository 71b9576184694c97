//! The JSONPath of printer columns: what client-go's `jsonpath` finds first.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Field(std::borrow::Cow<'a, str>),
    /// Negative indices count from the end.
    Index(i64),
    All,
    /// Everything below, at any depth.
    Deep,
    /// `[?(@.path op literal)]`; without an operator the path must be there.
    Filter(Vec<Step<'a>>, Option<(&'a str, Value)>),
}

/// The first value that `path` (`.spec.a[0]`, with or without braces) finds in `object`.
pub fn first<'v>(path: &str, object: &'v Value) -> Option<&'v Value> {
    let steps = parse(path.trim_start_matches('{').trim_end_matches('}'))?;
    find(&steps, object)
}

/// Whether `path` can be read.
pub fn is_valid(path: &str) -> bool {
    parse(path.trim_start_matches('{').trim_end_matches('}')).is_some()
}

fn find<'v>(steps: &[Step<'_>], value: &'v Value) -> Option<&'v Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => find(rest, value.get(&**name)?),
        Step::Index(at) => {
            let list = value.as_array()?;
            let at = if *at < 0 { at.checked_add(i64::try_from(list.len()).ok()?)? } else { *at };
            find(rest, list.get(usize::try_from(at).ok()?)?)
        }
        Step::All => children(value).find_map(|child| find(rest, child)),
        Step::Deep => {
            find(rest, value).or_else(|| children(value).find_map(|child| find(steps, child)))
        }
        Step::Filter(inner, condition) => children(value)
            .filter(|child| {
                let found = find(inner, child);
                match condition {
                    None => found.is_some(),
                    Some((operator, wanted)) => {
                        found.is_some_and(|found| compare(found, operator, wanted))
                    }
                }
            })
            .find_map(|child| find(rest, child)),
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn compare(found: &Value, operator: &str, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b)),
        (a, b) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    match operator {
        "==" => found == wanted || order.is_some_and(std::cmp::Ordering::is_eq),
        "!=" => found != wanted && !order.is_some_and(std::cmp::Ordering::is_eq),
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        ">" => order.is_some_and(std::cmp::Ordering::is_gt),
        ">=" => order.is_some_and(std::cmp::Ordering::is_ge),
        _ => false,
    }
}

fn parse(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    while !rest.is_empty() {
        if steps.len() > 64 {
            return None;
        }
        if let Some(deep) = rest.strip_prefix("..") {
            steps.push(Step::Deep);
            rest = deep;
            if !rest.starts_with('[') {
                rest = name(rest, &mut steps)?;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = name(after, &mut steps)?;
        } else if let Some(after) = rest.strip_prefix('[') {
            rest = bracket(after, &mut steps)?;
        } else {
            return None;
        }
    }
    Some(steps)
}

/// A field's name up to the next step; dots within it are escaped.
fn name<'a>(text: &'a str, steps: &mut Vec<Step<'a>>) -> Option<&'a str> {
    let mut end = text.len();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '.' | '[' => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (name, rest) = text.split_at(end);
    match name {
        "" => return None,
        "*" => steps.push(Step::All),
        name if name.contains('\\') => steps.push(Step::Field(name.replace('\\', "").into())),
        name => steps.push(Step::Field(name.into())),
    }
    Some(rest)
}

fn bracket<'a>(text: &'a str, steps: &mut Vec<Step<'a>>) -> Option<&'a str> {
    if let Some(inner) = text.strip_prefix("?(") {
        let end = closing(inner)?;
        let (condition, rest) = (&inner[..end], inner[end..].strip_prefix(")]")?);
        steps.push(filter(condition)?);
        return Some(rest);
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let inner = &text[1..];
        let end = inner.find(quote)?;
        steps.push(Step::Field(inner[..end].into()));
        return inner[end + 1..].strip_prefix(']');
    }
    let end = text.find(']')?;
    let (inner, rest) = (text[..end].trim(), &text[end + 1..]);
    steps.push(match inner {
        "*" | "" | ":" => Step::All,
        // Of a slice the first item is what is shown.
        slice if slice.contains(':') => match slice.split(':').next()?.trim() {
            "" => Step::Index(0),
            from => Step::Index(from.parse().ok()?),
        },
        index => Step::Index(index.parse().ok()?),
    });
    Some(rest)
}

/// The end of a filter's condition: the parenthesis that closes it, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ')') => return Some(at),
            _ => {}
        }
    }
    None
}

fn filter(condition: &str) -> Option<Step<'_>> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some((left, right)) = condition.split_once(operator) {
            let path = parse(left.trim())?;
            return Some(Step::Filter(path, Some((operator, literal(right.trim())?))));
        }
    }
    Some(Step::Filter(parse(condition.trim())?, None))
}

fn literal(text: &str) -> Option<Value> {
    let quoted = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    if let Some(inner) = quoted('\'').or_else(|| quoted('"')) {
        return Some(inner.into());
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_what_columns_ask_for() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "spec": {"replicas": 3, "list": [{"n": 1}, {"n": 2}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "False"}, {"type": "Other (x)", "status": "True"}]},
        });
        for (path, wanted) in [
            (".spec.replicas", json!(3)),
            ("{.spec.replicas}", json!(3)),
            (".spec.list[1].n", json!(2)),
            (".spec.list[-1].n", json!(2)),
            (".spec.list[*].n", json!(1)),
            (".spec.list[1:].n", json!(2)),
            (".metadata.labels['a.b/c']", json!("x")),
            (r".metadata.labels.a\.b/c", json!("x")),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!("False")),
            (".status.conditions[?(@.type=='Other (x)')].status", json!("True")),
            (".spec.list[?(@.n>1)].n", json!(2)),
            ("..status", object["status"].clone()),
        ] {
            assert_eq!(first(path, &object), Some(&wanted), "{path}");
        }
        for path in [".spec.none", ".spec.list[9].n", ".spec.replicas.x", ".a[", "x", ".", "[?(@.a"]
        {
            assert_eq!(first(path, &object), None, "{path}");
        }
        assert!(!is_valid(".a[") && is_valid(".a"));
    }
}
