//! The text syntax of label selectors: a lexer and a parser that accept, refuse and complain as
//! upstream's do, in time linear in the text.

use super::labels::{Operator, Requirement, SelectorError};
use crate::names;
use crate::quote::go_quote;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    Close,
    Open,
    Comma,
    Not,
    Identifier,
    In,
    NotIn,
    Binary(Operator),
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

impl Token<'_> {
    /// `in` and `notin` are words like any other wherever an operator is not expected.
    fn kind_as_word(&self) -> Kind {
        match self.kind {
            Kind::In | Kind::NotIn => Kind::Identifier,
            kind => kind,
        }
    }
}

/// The requirements of a selector, in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { rest: text, token: Token { kind: Kind::End, text: "" } };
    parser.advance();
    parser.requirements().map_err(SelectorError)
}

struct Parser<'a> {
    rest: &'a str,
    token: Token<'a>,
}

impl<'a> Parser<'a> {
    /// Takes the current token and reads the next one.
    fn advance(&mut self) -> Token<'a> {
        let (token, rest) = lex(self.rest);
        self.rest = rest;
        std::mem::replace(&mut self.token, token)
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.token.kind_as_word() {
                Kind::Identifier | Kind::Not => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| format!("unable to parse requirement: {e}"))?;
                    requirements.push(requirement);
                    let token = self.advance();
                    match token.kind {
                        Kind::End => return Ok(requirements),
                        Kind::Comma => {
                            if !matches!(self.token.kind_as_word(), Kind::Identifier | Kind::Not) {
                                return Err(format!(
                                    "found '{}', expected: identifier after ','",
                                    self.token.text
                                ));
                            }
                        }
                        _ => {
                            return Err(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                token.text
                            ));
                        }
                    }
                }
                Kind::End => return Ok(requirements),
                _ => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        self.token.text
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.advance();
        let negated = token.kind == Kind::Not;
        if negated {
            token = self.advance();
        }
        if token.kind_as_word() != Kind::Identifier {
            return Err(format!("found '{}', expected: identifier", token.text));
        }
        let key = token.text;
        let key_errors = names::qualified_name(key);
        if !key_errors.is_empty() {
            return Err(format!(
                "<nil>: Invalid value: {}: {}",
                go_quote(key),
                key_errors.join("; ")
            ));
        }
        let ends = matches!(self.token.kind, Kind::End | Kind::Comma);
        let (operator, values) = match (negated, ends) {
            (true, _) => (Operator::DoesNotExist, Vec::new()),
            (false, true) => (Operator::Exists, Vec::new()),
            (false, false) => {
                let token = self.advance();
                match token.kind {
                    Kind::In => (Operator::In, self.values()?),
                    Kind::NotIn => (Operator::NotIn, self.values()?),
                    Kind::Binary(operator) => (operator, vec![self.value()?]),
                    _ => {
                        return Err(format!(
                            "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                            token.text
                        ));
                    }
                }
            }
        };
        Requirement::new(key, operator, values).map_err(|e| e.to_string())
    }

    /// The values behind `in`: `(a,,b)`, where an empty place is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let token = self.advance();
        if token.kind != Kind::Open {
            return Err(format!("found '{}' expected: '('", token.text));
        }
        let first = self.token.text;
        let values = match self.token.kind_as_word() {
            Kind::Identifier | Kind::Comma => self.value_list()?,
            Kind::Close => vec![String::new()],
            _ => return Err(format!("found '{first}', expected: ',', ')' or identifier")),
        };
        if self.advance().kind != Kind::Close {
            return Err(format!("found '{first}', expected: ')'"));
        }
        // Upstream keeps them in a set, and what is wrong is reported in the set's order.
        let mut values = values;
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn value_list(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        loop {
            let token = self.advance();
            match token.kind_as_word() {
                Kind::Identifier => {
                    values.push(token.text.to_owned());
                    match self.token.kind {
                        Kind::Comma => {}
                        Kind::Close => return Ok(values),
                        _ => {
                            return Err(format!(
                                "found '{}', expected: ',' or ')'",
                                self.token.text
                            ));
                        }
                    }
                }
                Kind::Comma => {
                    if values.is_empty() || matches!(self.token.kind, Kind::Close | Kind::Comma) {
                        values.push(String::new());
                    }
                    if self.token.kind == Kind::Close {
                        return Ok(values);
                    }
                }
                _ => {
                    return Err(format!("found '{}', expected: ',', or identifier", token.text));
                }
            }
        }
    }

    /// The value behind `=`, which may be missing.
    fn value(&mut self) -> Result<String, String> {
        if matches!(self.token.kind, Kind::End | Kind::Comma) {
            return Ok(String::new());
        }
        let token = self.advance();
        match token.kind_as_word() {
            Kind::Identifier => Ok(token.text.to_owned()),
            _ => Err(format!("found '{}', expected: identifier", token.text)),
        }
    }
}

fn is_symbol(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first token of the text, and what follows it.
fn lex(text: &str) -> (Token<'_>, &str) {
    let start = text.bytes().position(|b| !is_space(b)).unwrap_or(text.len());
    let text = &text[start..];
    // Upstream takes a NUL for the end of the text.
    match text.bytes().next() {
        None | Some(0) => (Token { kind: Kind::End, text: "" }, ""),
        Some(b) if is_symbol(b) => {
            let (kind, length) = match text.as_bytes() {
                [b'=', b'=', ..] => (Kind::Binary(Operator::DoubleEquals), 2),
                [b'!', b'=', ..] => (Kind::Binary(Operator::NotEquals), 2),
                [b'=', ..] => (Kind::Binary(Operator::Equals), 1),
                [b'!', ..] => (Kind::Not, 1),
                [b'>', ..] => (Kind::Binary(Operator::GreaterThan), 1),
                [b'<', ..] => (Kind::Binary(Operator::LessThan), 1),
                [b'(', ..] => (Kind::Open, 1),
                [b')', ..] => (Kind::Close, 1),
                _ => (Kind::Comma, 1),
            };
            (Token { kind, text: &text[..length] }, &text[length..])
        }
        Some(_) => {
            let end = text
                .bytes()
                .position(|b| is_symbol(b) || is_space(b) || b == 0)
                .unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            let kind = match word {
                "in" => Kind::In,
                "notin" => Kind::NotIn,
                _ => Kind::Identifier,
            };
            (Token { kind, text: word }, rest)
        }
    }
}
