//! JSON patch (RFC 6902, `application/json-patch+json`) as upstream's library does it, which is
//! not the RFC: `replace` may add a field, indices may be negative (from the end), a missing
//! `value` is null, and what stands before the first slash of a path is ignored.

use std::io;

use serde_json::{Map, Value};

use super::{PatchError, wrong_type};
use crate::quote::{go_quote, json_type};

/// Most operations that one patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// Most bytes of JSON that the `copy` operations of one patch may add up to.
const MAX_COPIED_BYTES: usize = 3 << 20;

/// A patch that has been read.
#[derive(Clone, Debug)]
pub struct JsonPatch {
    operations: Vec<Operation>,
    /// What strict field validation complains about: `json patch unknown field "[0].x"`.
    pub strict_errors: Vec<String>,
}

#[derive(Clone, Debug)]
struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

impl JsonPatch {
    /// Reads a list of operations. What an operation lacks is found out when it is applied.
    pub fn parse(patch: Value) -> Result<Self, PatchError> {
        let bad = |why: String| PatchError::BadRequest(format!("error decoding patch: {why}"));
        let items = match patch {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return Err(bad(wrong_type(&other, "[]handlers.jsonPatchOp"))),
        };
        if items.len() > MAX_OPERATIONS {
            return Err(PatchError::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                items.len()
            )));
        }
        let (mut operations, mut strict_errors) = (Vec::with_capacity(items.len()), Vec::new());
        for (i, item) in items.into_iter().enumerate() {
            let mut fields = match item {
                Value::Object(fields) => fields,
                Value::Null => Map::new(),
                other => return Err(bad(wrong_type(&other, "handlers.jsonPatchOp"))),
            };
            let mut text = |name: &str| match fields.remove(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text)),
                Some(other) => Err(bad(format!(
                    "json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type \
                     string",
                    json_type(&other)
                ))),
            };
            let op = text("op")?.unwrap_or_else(|| "unknown".to_owned());
            let (path, from) = (text("path")?, text("from")?);
            let value = fields.remove("value").filter(|v| !v.is_null());
            for name in fields.keys() {
                let field = go_quote(&format!("[{i}].{name}"));
                strict_errors.push(format!("json patch unknown field {field}"));
            }
            operations.push(Operation { op, path, from, value });
        }
        Ok(JsonPatch { operations, strict_errors })
    }

    /// Applies the operations in order. After an error the document is half patched.
    pub fn apply(self, document: &mut Value) -> Result<(), PatchError> {
        let mut copied = 0;
        for operation in self.operations {
            operation.apply(document, &mut copied).map_err(PatchError::Unprocessable)?;
        }
        Ok(())
    }
}

impl Operation {
    fn apply(self, document: &mut Value, copied: &mut usize) -> Result<(), String> {
        let Operation { op, path, from, value } = self;
        let undecoded = match op.as_str() {
            "add" | "remove" | "copy" => "missing value",
            _ => "operation missing path field: missing value",
        };
        let path =
            || path.ok_or_else(|| format!("{op} operation failed to decode path: {undecoded}"));
        let from = || {
            from.ok_or_else(|| {
                format!("{op} operation failed to decode from: operation, missing from field: missing value")
            })
        };
        match op.as_str() {
            "add" => {
                let path = path()?;
                let (parent, key) = find(
                    document,
                    &path,
                    "add operation does not apply: doc is missing path",
                    true,
                )?;
                add(parent, key, value.unwrap_or_default())
                    .map_err(|e| format!("error in add for path: '{path}': {e}"))
            }
            "remove" => {
                let path = path()?;
                let why = "remove operation does not apply: doc is missing path";
                let (parent, key) = find(document, &path, why, true)?;
                remove(parent, &key)
                    .map(drop)
                    .map_err(|e| format!("error in remove for path: '{path}': {e}"))
            }
            "replace" => {
                let path = path()?;
                if path.is_empty() {
                    let value = value.filter(|v| v.is_object() || v.is_array());
                    *document = value.ok_or("replace operation value must be object or array")?;
                    return Ok(());
                }
                let why = "replace operation does not apply: doc is missing path";
                let (parent, key) = find(document, &path, why, false)?;
                match parent {
                    Value::Array(items) => {
                        let at = index(&key, items.len()).map_err(|_| {
                            format!(
                                "replace operation does not apply: doc is missing key: {path}: \
                                 missing value"
                            )
                        })?;
                        items[at] = value.unwrap_or_default();
                        Ok(())
                    }
                    _ => add(parent, key, value.unwrap_or_default()),
                }
            }
            "move" => {
                let from = from()?;
                let why = "move operation does not apply: doc is missing from path";
                let (parent, key) = find(document, &from, why, false)?;
                let moved = remove(parent, &key)
                    .map_err(|e| format!("error in move for path: '{key}': {e}"))?;
                let path = path()?;
                let why = "move operation does not apply: doc is missing destination path";
                let (parent, key) = find(document, &path, why, false)?;
                add(parent, key, moved)
                    .map_err(|e| format!("error in move for path: '{path}': {e}"))
            }
            "copy" => {
                let from = from()?;
                let why = "copy operation does not apply: doc is missing from path";
                let (parent, key) = find(document, &from, why, false)?;
                let source = get(parent, &key)
                    .map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
                *copied += source.map_or(0, json_size);
                if *copied > MAX_COPIED_BYTES {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is \
                         {copied}, exceeding the limit {MAX_COPIED_BYTES}"
                    ));
                }
                let copy = source.cloned().unwrap_or_default();
                let path = path()?;
                let why = "copy operation does not apply: doc is missing destination path";
                let (parent, key) = find(document, &path, why, false)?;
                add(parent, key, copy)
                    .map_err(|e| format!("error while adding value during copy: {e}"))
            }
            "test" => {
                let path = path()?;
                let found = if path.is_empty() {
                    Some(&*document)
                } else {
                    let why = "test operation does not apply: is missing path";
                    let (parent, key) = find(document, &path, why, false)?;
                    get(parent, &key)
                        .map_err(|e| format!("error in test for path: '{path}': {e}"))?
                };
                // A missing field equals null.
                if found.filter(|v| !v.is_null()) == value.as_ref() {
                    return Ok(());
                }
                Err(format!("testing value {path} failed: test failed"))
            }
            other => Err(format!("Unexpected kind: {other}")),
        }
    }
}

/// As [`parent`], with the complaint for a path that leads nowhere.
fn find<'a>(
    document: &'a mut Value,
    path: &str,
    complaint: &str,
    quoted: bool,
) -> Result<(&'a mut Value, String), String> {
    parent(document, path).ok_or_else(|| {
        let path = if quoted { go_quote(path) } else { path.to_owned() };
        format!("{complaint}: {path}: missing value")
    })
}

/// The object or list that holds what a path points to, and the last step of the path.
fn parent<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut steps = path.split('/').skip(1);
    let mut last = steps.next()?;
    let mut at = document;
    for next in steps {
        at = match at {
            Value::Object(fields) => fields.get_mut(&unescape(last))?,
            Value::Array(items) => {
                let i = index(last, items.len()).ok()?;
                items.get_mut(i)?
            }
            _ => return None,
        };
        last = next;
    }
    (at.is_object() || at.is_array()).then(|| (at, unescape(last)))
}

fn get<'a>(parent: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match parent {
        Value::Array(items) => index(key, items.len()).map(|i| items.get(i)),
        other => Ok(other.get(key)),
    }
}

fn add(parent: &mut Value, key: String, value: Value) -> Result<(), String> {
    match parent {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            // One more place than there are items: behind the last.
            let at = index(&key, items.len() + 1).map_err(|e| match e.contains("Atoi") {
                true => format!("value was not a proper array index: '{key}': {e}"),
                false => e,
            })?;
            items.insert(at, value);
        }
        Value::Object(fields) => {
            fields.insert(key, value);
        }
        _ => return Err("invalid state detected".to_owned()),
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::Array(items) => Ok(items.remove(index(key, items.len())?)),
        Value::Object(fields) => fields
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        _ => Err("invalid state detected".to_owned()),
    }
}

/// The place that an index means in a list of `places`; negative ones count from the end.
fn index(key: &str, places: usize) -> Result<usize, String> {
    let number: i64 = key
        .parse()
        .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(key)))?;
    let at = if number < 0 { number + places as i64 } else { number };
    usize::try_from(at).ok().filter(|at| *at < places).ok_or_else(|| {
        format!("Unable to access invalid index: {number}: invalid index referenced")
    })
}

/// A step of a JSON pointer (RFC 6901): `~1` is a slash and `~0` a tilde.
fn unescape(step: &str) -> String {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~") } else { step.to_owned() }
}

/// Length of the JSON text, without making it.
fn json_size(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and what came from JSON can be written as JSON.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        document: Value,
        patch: Value,
        #[serde(default)]
        result: Value,
        #[serde(default)]
        error: String,
    }

    #[test]
    fn agrees_with_upstream() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("testdata/json.json")).expect("fixture is JSON");
        for case in cases {
            let mut document = case.document.clone();
            let patch = JsonPatch::parse(case.patch.clone()).expect("parses");
            match patch.apply(&mut document) {
                Ok(()) => {
                    assert_eq!(case.error, "", "{} {}", case.document, case.patch);
                    assert_eq!(document, case.result, "{} {}", case.document, case.patch);
                }
                Err(error) => assert_eq!(error.to_string(), case.error, "{}", case.patch),
            }
        }
    }

    #[test]
    fn malformed_patches() {
        let error = |patch: Value| match JsonPatch::parse(patch) {
            Err(error) => error.to_string(),
            Ok(patch) => format!("{:?}", patch.strict_errors),
        };
        assert_eq!(
            error(json!({})),
            "error decoding patch: json: cannot unmarshal object into Go value of type \
             []handlers.jsonPatchOp"
        );
        assert_eq!(
            error(json!([{"op": 1}])),
            "error decoding patch: json: cannot unmarshal number into Go struct field \
             jsonPatchOp.op of type string"
        );
        assert_eq!(
            error(json!([{"op": "test", "x": 1}])),
            "[\"json patch unknown field \\\"[0].x\\\"\"]"
        );
        let many = vec![json!({"op": "add"}); MAX_OPERATIONS + 1];
        assert_eq!(
            error(Value::Array(many)),
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, \
             got 10001"
        );
    }

    #[test]
    fn copies_cannot_grow_without_end() {
        let mut patch = vec![json!({"op": "add", "path": "/a", "value": {"x": "y"}})];
        patch.extend(
            (0..100).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})),
        );
        let patch = JsonPatch::parse(Value::Array(patch)).expect("parses");
        let error = patch.apply(&mut json!({})).expect_err("too large");
        assert!(error.to_string().starts_with("Unable to complete the copy"), "{error}");
    }

    #[test]
    fn moving_into_itself_finds_nothing() {
        let patch = json!([{"op": "move", "from": "/a", "path": "/a/b"}]);
        let mut document = json!({"a": {}});
        assert!(JsonPatch::parse(patch).expect("parses").apply(&mut document).is_err());
    }
}
