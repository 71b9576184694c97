//! Field errors: what validation says about one field, worded as upstream's
//! `k8s.io/apimachinery/pkg/util/validation/field` does, because clients show and match the text.

use std::fmt;

use serde_json::Value;

/// A path such as `spec.containers[0].ports[1].name` or `metadata.labels[a]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// Starts a path at a top-level field.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The path of the whole object, to which fields are appended.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A field below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list.
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// An entry of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Upstream prints a nil path so; it is what an object without any path shows.
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// Why a field is refused. The reason strings are part of `status.details.causes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The value is not allowed.
    Invalid,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value is missing.
    Required,
    /// The value is not in the list of supported ones.
    NotSupported,
    /// The field may not be set, or not changed.
    Forbidden,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// The referenced value does not exist.
    NotFound,
    /// The string or list is too long.
    TooLong,
    /// The list has too many entries.
    TooMany,
    /// Something failed inside the server.
    Internal,
}

impl Cause {
    /// The reason string of a Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which field.
    pub path: Path,
    /// Why, as a class.
    pub cause: Cause,
    /// Why, in words: everything after `path: `.
    pub message: String,
    /// The value in the message where its form depends on its type: a list, an object or nothing.
    pub value: Option<Value>,
}

impl FieldError {
    fn new(path: &Path, cause: Cause, value: Option<&Value>, detail: &str) -> Self {
        let mut error = Self::shown(path, cause, value.map(render).as_deref(), detail);
        error.value = value.filter(|value| depends_on_type(value)).cloned();
        error
    }

    fn shown(path: &Path, cause: Cause, value: Option<&str>, detail: &str) -> Self {
        let mut message = cause.text().to_owned();
        if let Some(value) = value {
            message.push_str(": ");
            message.push_str(value);
        }
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(detail);
        }
        Self { path: path.clone(), cause, message, value: None }
    }

    /// Shows `value`, which the message shows as plain JSON, in another form.
    pub fn show_as(&mut self, value: &Value, shown: &str) {
        let plain = format!("{}: {}", self.cause.text(), render(value));
        if let Some(rest) = self.message.strip_prefix(&plain) {
            self.message = format!("{}: {shown}{rest}", self.cause.text());
        }
    }

    /// The value is malformed, out of bounds, or contradicts another.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(path, Cause::Invalid, Some(&value.into()), detail)
    }

    /// As [`Self::invalid`], of a value that is shown in this form.
    pub fn invalid_shown(path: &Path, shown: &str, detail: &str) -> Self {
        Self::shown(path, Cause::Invalid, Some(shown), detail)
    }

    /// As [`Self::invalid`], of a value that is not shown.
    pub fn invalid_without_value(path: &Path, detail: &str) -> Self {
        Self::new(path, Cause::Invalid, None, detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(path, Cause::TypeInvalid, Some(&value.into()), detail)
    }

    /// The value must be given.
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::new(path, Cause::Required, None, detail)
    }

    /// The field may not be set here.
    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::new(path, Cause::Forbidden, None, detail)
    }

    /// The server could not find out whether the value is good.
    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::new(path, Cause::Internal, None, detail)
    }

    /// The value occurs twice.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Cause::Duplicate, Some(&value.into()), "")
    }

    /// As [`Self::duplicate`], of a value that is not shown.
    pub fn duplicate_without_value(path: &Path) -> Self {
        Self::new(path, Cause::Duplicate, None, "")
    }

    /// The value names something that does not exist.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(path, Cause::NotFound, Some(&value.into()), "")
    }

    /// The value is none of the supported ones, which are shown in this order.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let value = value.into();
        let mut error = Self::not_supported_shown(path, &render(&value), supported);
        error.value = Some(value).filter(depends_on_type);
        error
    }

    /// As [`Self::duplicate`], of a value that is shown in this form.
    pub fn duplicate_shown(path: &Path, shown: &str, detail: &str) -> Self {
        Self::shown(path, Cause::Duplicate, Some(shown), detail)
    }

    /// As [`Self::not_supported`], of a value that is shown in this form.
    pub fn not_supported_shown(path: &Path, shown: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = match supported.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", supported.join(", ")),
        };
        Self::shown(path, Cause::NotSupported, Some(shown), &detail)
    }

    /// The value is longer than `limit` bytes.
    pub fn too_long(path: &Path, limit: usize) -> Self {
        Self::new(path, Cause::TooLong, None, &format!("may not be more than {limit} bytes"))
    }

    /// The string has more than `limit` characters.
    pub fn too_long_characters(path: &Path, limit: usize) -> Self {
        let detail = format!("may not be more than {limit} characters");
        Self::new(path, Cause::TooLong, None, &detail)
    }

    /// The list has more than `limit` items.
    pub fn too_many(path: &Path, actual: usize, limit: usize) -> Self {
        let plural = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {plural}");
        Self::new(path, Cause::TooMany, Some(&actual.into()), &detail)
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Values as Go prints them in field errors: strings quoted, null as `null`, the rest as JSON.
fn depends_on_type(value: &Value) -> bool {
    value.is_object() || value.is_array() || value.is_null()
}

fn render(value: &Value) -> String {
    match value {
        Value::String(text) => crate::quote::go_quote(text),
        other => other.to_string(),
    }
}
