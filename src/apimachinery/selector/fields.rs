//! Field selectors (`spec.nodeName=a,status.phase!=Running`) with the syntax and the error texts
//! of k8s.io/apimachinery/pkg/fields.

use std::fmt;

use super::labels::SelectorError;

/// One condition on one field; a field that is missing counts as the empty string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Path of the field: `metadata.name`.
    pub field: String,
    /// Whether the field must have the value, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// A condition on an object's fields: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Matches every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// A single field with a single value.
    pub fn exactly(field: impl Into<String>, value: impl Into<String>) -> Self {
        let requirement = Requirement { field: field.into(), equals: true, value: value.into() };
        Selector { requirements: vec![requirement] }
    }

    /// Parses the `fieldSelector` of a query.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let (field, equals, value) = split_term(term).ok_or_else(|| {
                SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            requirements.push(Requirement {
                field: field.to_owned(),
                equals,
                value: unescape(value)?,
            });
        }
        Ok(Selector { requirements })
    }

    /// Checks and rewrites each requirement, as a kind does that knows which fields it can select
    /// by; a requirement for which `check` returns None is dropped.
    pub fn try_map<E>(
        self,
        mut check: impl FnMut(Requirement) -> Result<Option<Requirement>, E>,
    ) -> Result<Self, E> {
        let mut requirements = Vec::with_capacity(self.requirements.len());
        for requirement in self.requirements {
            requirements.extend(check(requirement)?);
        }
        Ok(Selector { requirements })
    }

    /// Whether all requirements hold; `field` gives a field's value, or the empty string.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> &'a str) -> bool {
        self.requirements.iter().all(|r| (field(&r.field) == r.value) == r.equals)
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, in the order of their text.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The value that the field must have, where there is one.
    pub fn exact_match(&self, field: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.equals && r.field == field)?;
        Some(&requirement.value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if r.equals { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", r.field, escape(&r.value))?;
        }
        Ok(())
    }
}

/// A value as it can stand in a field selector.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{}",
                        other.map(String::from).unwrap_or_default()
                    )));
                }
            },
            // Upstream prints the number of the character.
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

/// The terms between commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// The field, whether it must be equal, and the value as it was written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find('=')?;
    let (field, value) = (&term[..at], &term[at + 1..]);
    match field.strip_suffix('!') {
        Some(field) => Some((field, false, value)),
        None => Some((field, true, value.strip_prefix('=').unwrap_or(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cases {
        field_sets: Vec<BTreeMap<String, String>>,
        fields: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        #[serde(default)]
        error: String,
        canonical: String,
        matches: Option<Vec<usize>>,
    }

    #[test]
    fn agrees_with_upstream() {
        let cases: Cases = serde_json::from_str(include_str!("../testdata/selectors.json"))
            .expect("fixture is JSON");
        for case in &cases.fields {
            let text = &case.text;
            match Selector::parse(text) {
                Err(error) => assert_eq!(error.to_string(), case.error, "{text:?}"),
                Ok(selector) => {
                    assert_eq!(case.error, "", "{text:?}");
                    assert_eq!(selector.to_string(), case.canonical, "{text:?}");
                    let matching: Vec<usize> = (0..cases.field_sets.len())
                        .filter(|i| {
                            let set = &cases.field_sets[*i];
                            selector.matches(|f| set.get(f).map(String::as_str).unwrap_or_default())
                        })
                        .collect();
                    assert_eq!(Some(matching), case.matches, "{text:?}");
                    assert_eq!(Selector::parse(&selector.to_string()), Ok(selector), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn kinds_rewrite_requirements() {
        let selector = Selector::parse("a=1,b!=2,c=").expect("valid");
        assert_eq!(selector.exact_match("a"), Some("1"));
        assert_eq!(selector.exact_match("b"), None);
        let known = selector.clone().try_map(|r| match r.field.as_str() {
            "c" => Ok(None),
            _ => Ok::<_, SelectorError>(Some(r)),
        });
        assert_eq!(known.expect("known").to_string(), "a=1,b!=2");
        let refused = selector.try_map(|r| Err(format!("field label not supported: {}", r.field)));
        assert_eq!(refused, Err("field label not supported: a".to_owned()));
    }
}
