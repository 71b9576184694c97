//! The `fieldPath` of a rule: `.spec.a['b.c']`, below the schema that the rule is of.

use apimachinery::field::Path;
use serde_json::Value;

use crate::kinds::value::Fields as _;

/// One step: a field, or a key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    Key(String),
}

/// Reads a path that leads somewhere in the schema; none when it does not.
pub(super) fn parse(text: &str, schema: &Value) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut schema = schema;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) = if let Some(inner) = rest.strip_prefix("['") {
            quoted(inner)?
        } else {
            let inner = rest.strip_prefix('.')?;
            let end = inner.find(['.', '[', ']']).unwrap_or(inner.len());
            let (name, behind) = inner.split_at(end);
            (name.to_owned(), behind)
        };
        if name.is_empty() {
            return None;
        }
        if let Some(properties) = schema.sub("properties") {
            schema = properties.get(&name)?;
            steps.push(Step::Field(name));
        } else {
            schema = schema.sub("additionalProperties").filter(|values| values.is_object())?;
            steps.push(Step::Key(name));
        }
        rest = behind;
    }
    Some(steps)
}

/// Reads the path of a field that objects can be selected by: its steps and the type of what it leads
/// to.
///
/// # Errors
/// Why it leads nowhere.
pub(crate) fn selectable<'s>(
    text: &str,
    schema: &'s Value,
) -> Result<(Vec<String>, &'s str), String> {
    if !text.starts_with(['.', '[']) {
        return Err(format!("expected [ or . but got: {text}"));
    }
    let steps = parse(text, schema).ok_or("does not refer to a valid field")?;
    let mut at = schema;
    let mut names = Vec::new();
    for step in steps {
        let (Step::Field(name) | Step::Key(name)) = step;
        let below = at.sub("properties").and_then(|all| all.get(&name));
        at = below.or_else(|| at.sub("additionalProperties")).unwrap_or(&Value::Null);
        names.push(name);
    }
    Ok((names, at.text("type")))
}

/// Text up to `']`, without its escapes, and what is behind.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Some((name, text.get(at + 1..)?.strip_prefix(']')?)),
            '\\' => name.push(match chars.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                other @ ('\'' | '\\') => other,
                _ => return None,
            }),
            c => name.push(c),
        }
    }
    None
}

/// The path below another.
pub(super) fn below(path: &Path, steps: &[Step]) -> Path {
    steps.iter().fold(path.clone(), |path, step| match step {
        Step::Field(name) => path.child(name),
        Step::Key(key) => path.key(key),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_through_fields_and_keys() {
        let schema = json!({"properties": {
            "a": {"properties": {"b.c": {"type": "string"}}},
            "m": {"additionalProperties": {"type": "string"}},
        }});
        let shown = |text: &str| {
            parse(text, &schema).map(|steps| below(&Path::root("spec"), &steps).as_str().to_owned())
        };
        assert_eq!(shown(".a['b.c']").as_deref(), Some("spec.a.b.c"));
        assert_eq!(shown(".m.x").as_deref(), Some("spec.m[x]"));
        for wrong in ["a", ".", ".z", ".a.", ".a['", ".a['b.c", ".a[0]", "['\\", ".m.x.y"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }
}
