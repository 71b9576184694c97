//! YAML in and out. Most "YAML" bodies are JSON (kubectl's applies) and never come here.

use apimachinery::schema::Decoded;
use serde_json::{Number, Value};
use serde_saphyr::{Error, options::DuplicateKeyPolicy};

/// Parses one YAML document. Aliases are expanded within the parser's budget, so that small texts
/// cannot grow without bounds. Of a key that is there twice the last counts; strict field
/// validation objects to it.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    // YAML 1.1, as upstream reads it: `0755` is a file mode in octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let error = match serde_saphyr::from_str_with_options(text, options) {
        Ok(value) => return Ok(Decoded { value, strict: Vec::new() }),
        Err(error) => error,
    };
    let Error::DuplicateMappingKey { key, location } = error.without_snippet() else {
        return Err(message(&error));
    };
    let key = key.as_deref().unwrap_or_default();
    let line = location.line();
    let strict = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let value = serde_saphyr::from_str_with_options(text, options).map_err(|e| message(&e))?;
    Ok(Decoded { value, strict: vec![strict] })
}

/// The first line of an error without its position; the rest is a picture of the text.
fn message(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once("column ")
        .map_or(line, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, message)| message))
        .to_owned()
}

/// Writes `value` as YAML, in the layout of sigs.k8s.io/yaml: lists are not indented.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// Writes `value` after a key or dash: scalars on the same line, the rest below.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    pad(indent, out);
                }
                scalar(key, out);
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        pad(indent + 2, out);
                        block(value, indent + 2, out);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        pad(indent, out);
                        block(value, indent, out);
                    }
                    Value::String(text) if text.contains('\n') => {
                        out.push(' ');
                        literal(text, indent + 2, out);
                    }
                    _ => {
                        out.push(' ');
                        block(value, indent, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                match item {
                    Value::String(text) if text.contains('\n') => literal(text, indent + 2, out),
                    _ => block(item, indent + 2, out),
                }
            }
        }
        other => {
            match other {
                Value::Null => out.push_str("null"),
                Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
                Value::Number(number) => write_number(number, out),
                Value::String(text) => scalar(text, out),
                Value::Object(_) => out.push_str("{}"),
                Value::Array(_) => out.push_str("[]"),
            }
            out.push('\n');
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write_number(number: &Number, out: &mut String) {
    out.push_str(&number.to_string());
}

/// A text of several lines as a literal block where YAML can hold it so, else quoted.
fn literal(text: &str, indent: usize, out: &mut String) {
    let plain = text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control());
    if !plain || text.starts_with([' ', '\n', '\t']) || text.lines().any(|l| l.ends_with(' ')) {
        quoted(text, out);
        out.push('\n');
        return;
    }
    let trailing = text.len() - text.trim_end_matches('\n').len();
    out.push_str(match trailing {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    out.push('\n');
    let body = if trailing > 0 { &text[..text.len() - 1] } else { text };
    for line in body.split('\n') {
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn scalar(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        quoted(text, out);
    }
}

/// Whether `text` means itself, unquoted, to readers of YAML 1.1 and 1.2.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if text.trim() != text || "-?:,[]{}#&*!|>'\"%@`=<~.+0123456789".contains(first) {
        // Names such as `0a` and dates could be taken for numbers: a quote is never wrong. The
        // common case of a dotted or dashed word that begins with a letter stays bare.
        return false;
    }
    let lower = text.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "nan" | "inf"
    ) {
        return false;
    }
    !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.chars().any(char::is_control)
}

fn quoted(text: &str, out: &mut String) {
    // JSON strings are YAML double-quoted scalars.
    out.push_str(&Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {}, "finalizers": []},
            "data": {
                "text": "line one\nline two\n", "keep": "a\n\n", "strip": "a\nb", "odd": " a\nb",
                "number": "8", "yes": "yes", "colon": "a: b", "empty": "", "dash": "-", "nul": "null",
                "tab": "a\tb\n", "unicode": "ü", "control": "\u{1}", "version": "1.10",
            },
            "list": [{"a": 1, "b": [1, 2.5, null]}, [true], "x\ny\n"],
        });
        let text = write(&value);
        assert_eq!(parse(text.as_bytes()).unwrap().value, value, "{text}");
    }

    #[test]
    fn lays_out_like_upstream() {
        let value = json!({"a": {"b": [{"c": 1, "d": "x"}]}, "e": "f"});
        assert_eq!(write(&value), "a:\n  b:\n  - c: 1\n    d: x\ne: f\n");
    }

    #[test]
    fn hostile_text_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                    c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                    e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        let deep = "[".repeat(100_000);
        for text in [bomb.as_bytes(), deep.as_bytes(), b"a: b: c", b"\xff", b"a: [", b"{"] {
            assert!(parse(text).is_err());
        }
    }
}
