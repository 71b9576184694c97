//! Manifest files taken apart into objects.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub(super) api_version: String,
    pub(super) kind: String,
    /// Empty for objects of the cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One object of a file, with the number of its document, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub(super) number: usize,
    pub(super) object: Value,
}

impl Document {
    /// What the object says of itself; an error names what is missing.
    pub(super) fn identity(&self) -> Result<Identity, String> {
        let text = |pointer: &str| {
            self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let identity = Identity {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        };
        let required = [
            ("apiVersion", &identity.api_version),
            ("kind", &identity.kind),
            ("metadata.name", &identity.name),
        ];
        match required.iter().find(|(_, value)| value.is_empty()) {
            Some((field, _)) => Err(format!("{field} is missing")),
            None => Ok(identity),
        }
    }
}

/// Takes a file apart. A document that does not parse comes as its number and the reason; the
/// others are used all the same.
pub(super) fn read(text: &str, is_json: bool) -> Vec<Result<Document, (usize, String)>> {
    let parts = if is_json { vec![text.to_owned()] } else { split(text) };
    let mut documents = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let number = at + 1;
        let bare = part.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        if bare {
            continue;
        }
        let parsed: Result<Value, String> = match is_json {
            true => serde_json::from_str(part).map_err(|error| error.to_string()),
            false => serde_saphyr::from_str_with_options(part, yaml_1_1())
                .map_err(|error| error.to_string()),
        };
        match parsed {
            Err(error) => {
                // One line, however the parser draws where it stumbled.
                let error = error.lines().next().unwrap_or_default().to_owned();
                documents.push(Err((number, error)));
            }
            Ok(Value::Null) => {}
            Ok(object) => match object.get("items").and_then(Value::as_array) {
                Some(items) if object["kind"] == "List" => {
                    let items = items.iter().cloned();
                    documents.extend(items.map(|object| Ok(Document { number, object })));
                }
                _ => documents.push(Ok(Document { number, object })),
            },
        }
    }
    documents
}

/// The documents of a YAML stream.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#')) {
            // What comes before the first separator is a document only if there is something.
            if parts.len() > 1 || !parts[0].trim().is_empty() {
                parts.push(String::new());
            }
        } else if let Some(last) = parts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    parts
}

/// YAML as Kubernetes reads it: `0755` is a file mode in octal.
fn yaml_1_1() -> serde_saphyr::Options {
    serde_saphyr::options! { legacy_octal_numbers: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_document_by_document() {
        let text = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n\
            ---\nkind: [\n---\napiVersion: v1\nkind: List\nitems:\n\
            - {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: ns}}\n- {kind: X}\n";
        let read = read(text, false);
        let numbers: Vec<Result<usize, usize>> = read
            .iter()
            .map(|one| one.as_ref().map(|d| d.number).map_err(|(number, _)| *number))
            .collect();
        assert_eq!(numbers, [Ok(1), Err(3), Ok(4), Ok(4)]);
        let identity = read[2].as_ref().unwrap().identity().unwrap();
        assert_eq!((&*identity.namespace, &*identity.name), ("ns", "b"));
        assert_eq!(read[3].as_ref().unwrap().identity(), Err("apiVersion is missing".to_owned()));
    }
}
