//! Words of an expression. What cannot be read is an issue, and reading goes on behind it.

use crate::{issue::Issues, literal};

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    /// A name, reserved words included (`in`, `true`, `false` and `null` are operators or literals).
    Name,
    /// A name in backticks; the text is without them.
    Escaped(String),
    Int(String),
    Uint(String),
    Double(String),
    String(String),
    Bytes(Vec<u8>),
    /// An operator, a bracket, `in`, `true`, `false` or `null`.
    Sign(&'static str),
    End,
}

/// A word and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) word: Word,
    /// Characters before it.
    pub(crate) at: usize,
    /// As written; shown in messages.
    pub(crate) text: String,
}

/// Longer signs first.
const SIGNS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%", "\u{0}",
];

const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// Splits an expression into words; the last one is the end.
pub(crate) fn split(source: &str, issues: &mut Issues) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}') {
            at += 1;
            continue;
        }
        if c == '/' && chars.get(at + 1) == Some(&'/') {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
            continue;
        }
        match read(&chars, at) {
            Ok((word, end)) => {
                let text = chars[at..end].iter().collect();
                tokens.push(Token { word, at, text });
                at = end;
            }
            Err(end) => {
                let end = end.clamp(at + 1, chars.len().max(at + 1)).min(chars.len());
                let text: String = chars[at..end].iter().collect();
                issues.add(at, format!("Syntax error: token recognition error at: '{text}'"));
                at = end;
            }
        }
    }
    tokens.push(Token { word: Word::End, at: chars.len(), text: "<EOF>".into() });
    tokens
}

/// The word at `at` and where it ends, or where what is no word ends.
fn read(chars: &[char], at: usize) -> Result<(Word, usize), usize> {
    let c = chars[at];
    if let Some(found) = quoted(chars, at) {
        return found;
    }
    if c.is_ascii_digit() || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) {
        return Ok(number(chars, at));
    }
    if c.is_ascii_alphabetic() || c == '_' {
        let end = run(chars, at, |c| c.is_ascii_alphanumeric() || c == '_');
        let text: String = chars[at..end].iter().collect();
        let word = WORDS.iter().find(|word| **word == text);
        return Ok((word.map_or(Word::Name, |word| Word::Sign(word)), end));
    }
    if c == '`' {
        let end = run(chars, at + 1, |c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
        if end > at + 1 && chars.get(end) == Some(&'`') {
            return Ok((Word::Escaped(chars[at + 1..end].iter().collect()), end + 1));
        }
        return Err(end + 1);
    }
    for sign in SIGNS {
        let length = sign.len();
        if sign.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c)) {
            return if sign == "\u{0}" { Err(at + 1) } else { Ok((Word::Sign(sign), at + length)) };
        }
    }
    // The start of a longer sign takes its unfitting neighbour along.
    Err(if matches!(c, '&' | '|' | '=') { at + 2 } else { at + 1 })
}

fn run(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    let length = chars[from.min(chars.len())..].iter().take_while(|c| wanted(**c)).count();
    from + length
}

fn number(chars: &[char], at: usize) -> (Word, usize) {
    let digits = |from| run(chars, from, |c| c.is_ascii_digit());
    let hex = |from| run(chars, from, |c| c.is_ascii_hexdigit());
    let text = |end: usize| chars[at..end].iter().collect::<String>();
    if chars[at] == '0' && chars.get(at + 1) == Some(&'x') {
        let end = hex(at + 2);
        if end > at + 2 {
            return match chars.get(end) {
                Some('u' | 'U') => (Word::Uint(text(end)), end + 1),
                _ => (Word::Int(text(end)), end),
            };
        }
    }
    let whole = digits(at);
    let mut end = whole;
    if chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        end = digits(end + 1);
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    if end > whole {
        return (Word::Double(text(end)), end);
    }
    match chars.get(end) {
        Some('u' | 'U') => (Word::Uint(text(end)), end + 1),
        _ => (Word::Int(text(end)), end),
    }
}

/// A string or bytes, where one begins at `at`.
fn quoted(chars: &[char], at: usize) -> Option<Result<(Word, usize), usize>> {
    let (mut start, mut bytes, mut raw) = (at, false, false);
    if matches!(chars.get(start), Some('b' | 'B')) {
        (bytes, start) = (true, start + 1);
    }
    if matches!(chars.get(start), Some('r' | 'R')) {
        (raw, start) = (true, start + 1);
    }
    let quote = *chars.get(start).filter(|c| matches!(c, '"' | '\''))?;
    let triple = chars.get(start + 1) == Some(&quote) && chars.get(start + 2) == Some(&quote);
    if triple && let Ok(found) = literal::read(chars, start + 3, quote, true, raw, bytes) {
        return Some(Ok(found));
    }
    match literal::read(chars, start + 1, quote, false, raw, bytes) {
        Err(end) if start > at && end > chars.len() => {
            // The letter before the quote is then a name of its own.
            let end = run(chars, at, |c| c.is_ascii_alphanumeric() || c == '_');
            Some(Ok((Word::Name, end)))
        }
        found => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> (Vec<String>, Vec<String>) {
        let mut issues = Issues::new(source);
        let tokens = split(source, &mut issues);
        let texts = tokens.into_iter().map(|token| token.text).collect();
        (texts, issues.messages().map(ToOwned::to_owned).collect())
    }

    #[test]
    fn words_are_split() {
        let (texts, issues) = words("a.b>=1.5e3&&!x[0xFu] // end");
        assert_eq!(texts.join(" "), "a . b >= 1.5e3 && ! x [ 0xFu ] <EOF>");
        assert!(issues.is_empty());
    }

    #[test]
    fn what_is_no_word_is_named() {
        assert_eq!(words("i & 1").1, ["Syntax error: token recognition error at: '& '"]);
        assert_eq!(words("'abc").1, ["Syntax error: token recognition error at: ''abc'"]);
        assert_eq!(words("'''a").0, ["''", "<EOF>"]);
        for hostile in ["`", "b'", "'\\", "'\\u12", "\"\"\"", "0x", "1e", "&", "\u{0}", "r"] {
            words(hostile);
        }
    }
}
