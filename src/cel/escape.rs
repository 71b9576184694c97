//! Names of fields that are no names in expressions: words of the language and names with dots,
//! dashes or slashes get escapes. The rules are Kubernetes'.

const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

const ESCAPES: [(&str, &str); 4] =
    [("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")];

/// The name for expressions of a field; none where it can have none.
pub fn escape(name: &str) -> Option<String> {
    let first = name.chars().next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if !(first.is_ascii_alphabetic() || matches!(first, '_' | '.' | '-' | '/'))
        || !name.chars().all(fits)
    {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    'next: while let Some(c) = rest.chars().next() {
        for (text, word) in ESCAPES {
            if let Some(behind) = rest.strip_prefix(text) {
                escaped.push_str("__");
                escaped.push_str(word);
                escaped.push_str("__");
                rest = behind;
                continue 'next;
            }
        }
        escaped.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(escaped)
}

/// The name of the field that an escaped name is about; none where it is the same.
pub fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return Some(word.to_owned());
    }
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    'next: while let Some(c) = rest.chars().next() {
        for (text, word) in ESCAPES {
            let behind = rest.strip_prefix("__").and_then(|rest| rest.strip_prefix(word));
            if let Some(behind) = behind.and_then(|rest| rest.strip_prefix("__")) {
                plain.push_str(text);
                rest = behind;
                continue 'next;
            }
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_back() {
        for (name, escaped) in [
            ("a", "a"),
            ("namespace", "__namespace__"),
            ("a.b-c/d", "a__dot__b__dash__c__slash__d"),
            ("a__b", "a__underscores__b"),
            ("__dot__", "__underscores__dot__underscores__"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).unwrap_or(escaped.into()), name);
        }
        for name in ["", "1a", "é", "a b", "$x"] {
            assert_eq!(escape(name), None);
        }
    }
}
