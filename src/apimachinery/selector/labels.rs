//! Label selectors, from query strings (`app in (web, api),!canary`) and from LabelSelector
//! objects, with the syntax and the error texts of k8s.io/apimachinery/pkg/labels.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::labels_syntax;
use crate::names;
use crate::quote::go_quote;

/// Labels of an object, however they are kept.
pub trait Labels {
    /// The value of the label with this key.
    fn label(&self, key: &str) -> Option<&str>;
}

impl<K: AsRef<str> + Ord + std::borrow::Borrow<str>, V: AsRef<str>> Labels for BTreeMap<K, V> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(AsRef::as_ref)
    }
}

/// A slice that is sorted by key.
impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(self[at].1.as_ref())
    }
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl Labels for crate::Object {
    fn label(&self, key: &str) -> Option<&str> {
        crate::Object::label(self, key)
    }
}

/// How a requirement's key relates to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`; also true where the key is missing.
    NotIn,
    /// `key=a`.
    Equals,
    /// `key==a`, the same.
    DoubleEquals,
    /// `key!=a`; also true where the key is missing.
    NotEquals,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>1`, for integers.
    GreaterThan,
    /// `key<1`, for integers.
    LessThan,
}

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(super) String);

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    /// Sorted and unique.
    values: Vec<String>,
}

impl Requirement {
    /// A condition, where the key, the values and their number fit the operator.
    pub fn new(
        key: impl Into<String>,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Self, SelectorError> {
        let key = key.into();
        let mut errors = Vec::new();
        let key_errors = names::qualified_name(&key);
        if !key_errors.is_empty() {
            errors.push(format!(
                "key: Invalid value: {}: {}",
                go_quote(&key),
                key_errors.join("; ")
            ));
        }
        let wrong_number = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(why) = wrong_number {
            let values = if values.is_empty() { Value::Null } else { values.as_slice().into() };
            errors.push(format!("values: Invalid value: {values}: {why}"));
        }
        for (i, value) in values.iter().enumerate() {
            let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if ordered && value.parse::<i64>().is_err() {
                errors.push(format!(
                    "values[{i}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be \
                     an integer",
                    go_quote(value)
                ));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let value_errors = names::label_value(value);
            if !value_errors.is_empty() {
                errors.push(format!(
                    "values[{i}][{key}]: Invalid value: {}: {}",
                    go_quote(value),
                    value_errors.join("; ")
                ));
            }
        }
        match errors.len() {
            0 => Ok(Requirement::unchecked(key, operator, values)),
            1 => Err(SelectorError(errors.remove(0))),
            _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
        }
    }

    fn unchecked(key: String, operator: Operator, mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Requirement { key, operator, values }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it relates to the values.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted and unique.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// The values one of which the label must have, where that is what is asked: an index over
    /// labels can answer these.
    pub fn wanted(&self) -> Option<&[String]> {
        matches!(self.operator, Operator::In | Operator::Equals | Operator::DoubleEquals)
            .then_some(&self.values)
    }

    /// Whether the labels meet the condition.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        let among = |value: &str| self.values.binary_search_by(|v| v.as_str().cmp(value)).is_ok();
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (value.and_then(|v| v.parse::<i64>().ok()), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::GreaterThan => {
                        value > bound
                    }
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A condition on an object's labels: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key.
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Matches every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Matches no object: what a missing LabelSelector means.
    pub fn nothing() -> Self {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// All of the requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// Parses the `labelSelector` of a query.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        labels_syntax::parse(text).map(Selector::new)
    }

    /// Exactly these labels, which are not checked (a Service's or a ReplicationController's
    /// selector); none means every object.
    pub fn from_labels<K: Into<String>, V: Into<String>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let equals =
            |(k, v): (K, V)| Requirement::unchecked(k.into(), Operator::Equals, vec![v.into()]);
        Selector::new(labels.into_iter().map(equals).collect())
    }

    /// A `metav1.LabelSelector` in JSON; null matches nothing and `{}` everything.
    pub fn from_object(object: &Value) -> Result<Self, SelectorError> {
        if object.is_null() {
            return Ok(Selector::nothing());
        }
        let texts = |list: &Value| -> Vec<String> {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let labels = object["matchLabels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
        let expressions = object["matchExpressions"].as_array().into_iter().flatten();
        let expressions = expressions.map(|e| {
            let text = |field: &str| e[field].as_str().unwrap_or_default().to_owned();
            (text("key"), text("operator"), texts(&e["values"]))
        });
        Selector::from_parts(labels, expressions)
    }

    /// A `metav1.LabelSelector` by its parts: the labels, and the expressions as key, operator
    /// (`In`, `NotIn`, `Exists`, `DoesNotExist`) and values.
    pub fn from_parts<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        expressions: impl IntoIterator<Item = (String, String, Vec<String>)>,
    ) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in labels {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.to_owned()])?);
        }
        for (key, operator, values) in expressions {
            let operator = match operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        go_quote(other)
                    )));
                }
            };
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(Selector::new(requirements))
    }

    /// Whether the labels meet all requirements.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it can match nothing because there is no selector.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The single value that the label must have, where there is one.
    pub fn exact_match(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key == key)?;
        match requirement.wanted()? {
            [value] => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cases {
        label_sets: Vec<BTreeMap<String, String>>,
        labels: Vec<Case>,
        objects: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        #[serde(default)]
        error: String,
        canonical: String,
        matches: Option<Vec<usize>>,
    }

    fn compare(
        case: &Case,
        sets: &[BTreeMap<String, String>],
        got: Result<Selector, SelectorError>,
    ) {
        let text = &case.text;
        match got {
            Err(error) => assert_eq!(error.to_string(), case.error, "{text:?}"),
            Ok(selector) => {
                assert_eq!(case.error, "", "{text:?}");
                assert_eq!(selector.to_string(), case.canonical, "{text:?}");
                let matching: Vec<usize> =
                    (0..sets.len()).filter(|i| selector.matches(&sets[*i])).collect();
                assert_eq!(Some(matching), case.matches, "{text:?}");
            }
        }
    }

    #[test]
    fn agrees_with_upstream() {
        let cases: Cases = serde_json::from_str(include_str!("../testdata/selectors.json"))
            .expect("fixture is JSON");
        for case in &cases.labels {
            compare(case, &cases.label_sets, Selector::parse(&case.text));
        }
        for case in &cases.objects {
            let object = serde_json::from_str(&case.text).expect("fixture is JSON");
            compare(case, &cases.label_sets, Selector::from_object(&object));
        }
    }

    #[test]
    fn every_way_to_keep_labels() {
        let selector = Selector::parse("a=1,b in (2,3)").expect("valid");
        assert!(selector.matches([("a", "1"), ("b", "3")].as_slice()));
        assert!(!selector.matches([("a", "1")].as_slice()));
        let json = serde_json::json!({"a": "1", "b": "2"});
        assert!(selector.matches(json.as_object().expect("object")));
        assert_eq!(selector.exact_match("a"), Some("1"));
        assert_eq!(selector.exact_match("b"), None);
        assert!(
            Selector::from_labels([("a", "not checked")])
                .matches([("a", "not checked")].as_slice())
        );
    }
}
