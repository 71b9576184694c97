//! The top-level fields of a JSON object, found without parsing what is in them.

use std::ops::Range;

/// Where a field stands in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, without quotes and as written (escapes and all).
    pub name: Range<usize>,
    /// Name, colon and value.
    pub whole: Range<usize>,
}

/// The fields of `object`, which must be valid JSON; of anything else what was understood.
pub fn fields(object: &[u8]) -> impl Iterator<Item = Field> + '_ {
    let mut at = skip(object, 0);
    let open = object.get(at) == Some(&b'{');
    at += 1;
    std::iter::from_fn(move || {
        if !open {
            return None;
        }
        at = skip(object, at);
        if object.get(at) == Some(&b',') {
            at = skip(object, at + 1);
        }
        if object.get(at) != Some(&b'"') {
            return None;
        }
        let start = at;
        let name_end = string(object, at)?;
        let colon = skip(object, name_end);
        if object.get(colon) != Some(&b':') {
            return None;
        }
        at = value(object, skip(object, colon + 1))?;
        Some(Field { name: start + 1..name_end - 1, whole: start..at })
    })
}

fn skip(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of the string that begins at `at`.
fn string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins at `at`.
fn value(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => at = string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {
                at += 1;
                continue;
            }
            _ => {
                while !matches!(
                    text.get(at),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_field() {
        let text = br#"{"a":1,"b\"":{"c":["x,}",{}],"d":"\\"},"kind":"Pod" , "e":null}"#;
        let found: Vec<_> = fields(text)
            .map(|f| {
                (
                    std::str::from_utf8(&text[f.name]).unwrap(),
                    std::str::from_utf8(&text[f.whole]).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a", r#""a":1"#),
                (r#"b\""#, r#""b\"":{"c":["x,}",{}],"d":"\\"}"#),
                ("kind", r#""kind":"Pod""#),
                ("e", r#""e":null"#),
            ]
        );
    }

    #[test]
    fn broken_text_ends_the_search() {
        for text in
            [&b""[..], b"[", b"{", b"{\"a", b"{\"a\"", b"{\"a\":", b"{\"a\":\"\\", b"{\"a\":]"]
        {
            assert_eq!(fields(text).count(), 0);
        }
    }
}
