//! From words to a tree. Messages are those of cel-go's generated parser for what people usually
//! get wrong; after the first one nothing more is read.

use crate::{
    ast::{Call, Entry, Expr, Field, Item, Kind, Literal, Select},
    issue::Issues,
    macros,
    token::{self, Token, Word},
};

/// Deepest tree, as upstream's.
const DEEPEST: usize = 250;
/// Most brackets around something. Upstream's trees may be of these alone; nobody's are, and this
/// is what a small stack holds.
const MOST_BRACKETS: usize = 100;
/// Most characters of an expression, as upstream's.
const LONGEST: usize = 100_000;

/// What an expression begins with, in the parser generator's words.
const STARTS: &str = "'.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                      STRING, BYTES, IDENTIFIER";

const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
    "false",
];

/// Nothing, and an issue was noted.
pub(crate) struct Stop;

type Parsed<T> = Result<T, Stop>;

/// Reads an expression; none when something is wrong with it.
pub(crate) fn parse(source: &str, issues: &mut Issues) -> Option<Expr> {
    let length = source.chars().count();
    if length > LONGEST {
        let message =
            format!("expression code point size exceeds limit: size: {length}, limit {LONGEST}");
        issues.add(0, message);
        return None;
    }
    let tokens = token::split(source, issues);
    let mut parser = Parser { tokens, next: 0, depth: 0, issues };
    let expr = parser.whole().ok()?;
    parser.issues.is_empty().then_some(expr)
}

pub(crate) struct Parser<'i> {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    pub(crate) issues: &'i mut Issues,
}

impl Parser<'_> {
    fn whole(&mut self) -> Parsed<Expr> {
        let expr = self.expr()?;
        if self.word() == &Word::End {
            return Ok(expr);
        }
        let what = if self.ahead(1).word == Word::End { "extraneous" } else { "mismatched" };
        Err(self.fail(what, "<EOF>"))
    }

    fn ahead(&self, by: usize) -> &Token {
        let last = self.tokens.len().saturating_sub(1);
        &self.tokens[(self.next + by).min(last)]
    }

    fn word(&self) -> &Word {
        &self.ahead(0).word
    }

    fn at(&self) -> usize {
        self.ahead(0).at
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.word(), Word::Sign(it) if *it == sign)
    }

    /// Steps over the word when it is `sign`; its place.
    fn take(&mut self, sign: &str) -> Option<usize> {
        let at = self.at();
        self.is(sign).then(|| {
            self.next += 1;
            at
        })
    }

    fn issue(&mut self, at: usize, message: impl Into<String>) -> Stop {
        self.issues.add(at, message);
        Stop
    }

    /// Notes that the word is `what` ("mismatched", "extraneous").
    fn fail(&mut self, what: &str, expected: &str) -> Stop {
        let (at, text) = (self.at(), self.ahead(0).text.clone());
        self.issue(at, format!("Syntax error: {what} input '{text}' expecting {expected}"))
    }

    /// Steps over `sign`, which has to be there.
    fn expect(&mut self, sign: &str) -> Parsed<usize> {
        if let Some(at) = self.take(sign) {
            return Ok(at);
        }
        let quoted = format!("'{sign}'");
        if matches!(&self.ahead(1).word, Word::Sign(it) if *it == sign) {
            return Err(self.fail("extraneous", &quoted));
        }
        let missing = match sign {
            ":" => starts(self.word()),
            _ => self.word() == &Word::End,
        };
        if missing {
            let (at, text) = (self.at(), self.ahead(0).text.clone());
            return Err(self.issue(at, format!("Syntax error: missing {quoted} at '{text}'")));
        }
        Err(self.fail("mismatched", &quoted))
    }

    /// The end of a list or map, where a comma might stand as well.
    fn close(&mut self, sign: &str) -> Parsed<()> {
        if self.take(sign).is_some() {
            return Ok(());
        }
        let next = matches!(&self.ahead(1).word, Word::Sign(it) if *it == sign || *it == ",");
        let expected = format!("{{'{sign}', ','}}");
        Err(self.fail(if next { "extraneous" } else { "mismatched" }, &expected))
    }

    /// A node, unless it lies too deep.
    pub(crate) fn node(&mut self, at: usize, kind: Kind) -> Parsed<Expr> {
        let expr = Expr::new(at, kind);
        if expr.depth > DEEPEST { Err(self.too_deep()) } else { Ok(expr) }
    }

    fn too_deep(&mut self) -> Stop {
        self.issue(0, "max recursion depth exceeded")
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > MOST_BRACKETS {
            return Err(self.too_deep());
        }
        let condition = self.binary(0)?;
        let Some(at) = self.take("?") else {
            self.depth -= 1;
            return Ok(condition);
        };
        let yes = self.binary(0)?;
        if !self.is(":") && self.word() == &Word::End {
            return Err(self.fail("mismatched", "':'"));
        }
        self.expect(":")?;
        let no = self.expr()?;
        self.depth -= 1;
        self.node(at, Kind::Choose(Box::new([condition, yes, no])))
    }

    /// The operator of the next word: how firmly it binds, and its sign.
    fn operator(&self) -> Option<(u8, &'static str)> {
        let Word::Sign(sign) = self.word() else { return None };
        let level = match *sign {
            "||" => 1,
            "&&" => 2,
            "<" | "<=" | ">=" | ">" | "==" | "!=" | "in" => 3,
            "+" | "-" => 4,
            "*" | "/" | "%" => 5,
            _ => return None,
        };
        Some((level, sign))
    }

    /// Operators that bind as firmly as `level` or more.
    fn binary(&mut self, level: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some((firm, sign)) = self.operator().filter(|(firm, _)| *firm >= level) {
            left = match firm {
                1 | 2 => self.terms(left, firm, sign)?,
                _ => self.operation(left, firm, sign)?,
            };
        }
        Ok(left)
    }

    /// `a && b && c`, of which `a` has been read.
    fn terms(&mut self, first: Expr, firm: u8, sign: &str) -> Parsed<Expr> {
        let at = self.at();
        let mut terms = vec![first];
        while self.take(sign).is_some() {
            terms.push(self.binary(firm + 1)?);
        }
        self.node(at, Kind::Logic { and: firm == 2, terms })
    }

    /// `a + b`, of which `a` has been read.
    fn operation(&mut self, left: Expr, firm: u8, sign: &str) -> Parsed<Expr> {
        let at = self.at();
        self.next += 1;
        let right = self.binary(firm + 1)?;
        let name = if sign == "in" { "@in".to_owned() } else { format!("_{sign}_") };
        self.call(at, &name, false, vec![left, right])
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        let number = |token: &Token| matches!(token.word, Word::Int(_) | Word::Double(_));
        if self.is("!") || (self.is("-") && !number(self.ahead(1))) {
            let (sign, name) = if self.is("!") { ("!", "!_") } else { ("-", "-_") };
            let mut count = 0usize;
            while self.take(sign).is_some() {
                count += 1;
            }
            let operand = self.member()?;
            return match count % 2 {
                0 => Ok(operand),
                _ => self.call(at, name, false, vec![operand]),
            };
        }
        self.member()
    }

    fn call(&mut self, at: usize, name: &str, method: bool, args: Vec<Expr>) -> Parsed<Expr> {
        let call = Call { name: name.to_owned(), method, args, function: None };
        self.node(at, Kind::Call(call))
    }

    /// Something and the selections, calls and indices behind it.
    fn member(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            if let Some(at) = self.take(".") {
                expr = self.selection(expr, at)?;
            } else if let Some(at) = self.take("[") {
                let name = if self.take("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                expr = self.call(at, name, false, vec![expr, index])?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn selection(&mut self, operand: Expr, at: usize) -> Parsed<Expr> {
        let optional = self.take("?").is_some();
        let (field, escaped) = match self.word() {
            Word::Name => (self.ahead(0).text.clone(), false),
            Word::Escaped(name) => (name.clone(), true),
            Word::Sign(word @ ("true" | "false" | "null" | "in")) => {
                let message =
                    format!("Syntax error: mismatched input '{word}' expecting IDENTIFIER");
                let at = self.at();
                return Err(self.issue(at, message));
            }
            _ => {
                let end = self.word() == &Word::End;
                let text = if end { String::new() } else { self.ahead(0).text.clone() };
                let place = self.at();
                let message = format!("Syntax error: no viable alternative at input '.{text}'");
                return Err(self.issue(place, message));
            }
        };
        self.next += 1;
        if !optional && !escaped && self.is("(") {
            let open = self.at();
            self.next += 1;
            let args = self.arguments()?;
            return self.method(operand, &field, open, args);
        }
        let how = if optional { Select::Optional } else { Select::Plain };
        self.node(at, Kind::Select { operand: Box::new(operand), field, how })
    }

    fn method(&mut self, target: Expr, name: &str, at: usize, args: Vec<Expr>) -> Parsed<Expr> {
        if macros::is_method(name, args.len()) {
            return macros::method(self, target, name, at, args);
        }
        let mut all = vec![target];
        all.extend(args);
        self.call(at, name, true, all)
    }

    /// Arguments behind the opening bracket.
    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        if !starts(self.word()) {
            return Err(self.no_start(true));
        }
        loop {
            args.push(self.expr()?);
            if self.take(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    /// Notes that no expression begins here.
    fn no_start(&mut self, closes: bool) -> Stop {
        let next = &self.ahead(1).word;
        let fits = self.word() != &Word::End && (starts(next) || (closes && is_close(next)));
        let open = if closes { "'[', '{', '(', ')', " } else { "'[', '{', '(', " };
        self.fail(if fits { "extraneous" } else { "mismatched" }, &format!("{{{open}{STARTS}}}"))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        if self.take("(").is_some() {
            let expr = self.expr()?;
            self.expect(")")?;
            return Ok(expr);
        }
        if self.take("[").is_some() {
            return self.list(at);
        }
        if self.take("{").is_some() {
            return self.map(at);
        }
        if self.is(".") && self.ahead(1).word == Word::Name {
            self.next += 1;
            return self.name(".");
        }
        if self.word() == &Word::Name {
            return self.name("");
        }
        self.literal(at)
    }

    fn name(&mut self, dot: &str) -> Parsed<Expr> {
        let at = self.at();
        let text = self.ahead(0).text.clone();
        if let Some(open) = self.message_name() {
            return self.message(dot, open);
        }
        if RESERVED.contains(&text.as_str()) {
            return Err(self.issue(at, format!("reserved identifier: {text}")));
        }
        self.next += 1;
        let Some(open) = self.take("(") else {
            return self.node(at, Kind::Ident(text));
        };
        let args = self.arguments()?;
        if text == "has" && args.len() == 1 {
            return macros::has(self, open, args);
        }
        self.call(open, &text, false, args)
    }

    /// How many words the name of a message has that begins here, where one does.
    fn message_name(&self) -> Option<usize> {
        let mut words = 1;
        loop {
            match &self.ahead(words).word {
                Word::Sign("{") => return Some(words),
                Word::Sign(".") if self.ahead(words + 1).word == Word::Name => words += 2,
                _ => return None,
            }
        }
    }

    fn message(&mut self, dot: &str, words: usize) -> Parsed<Expr> {
        let name: String = (0..words).map(|by| self.ahead(by).text.as_str()).collect();
        let name = format!("{dot}{name}").trim_start_matches('.').to_owned();
        self.next += words;
        let open = self.expect("{")?;
        let mut fields = Vec::new();
        while !self.is("}") {
            if self.is(",") {
                self.next += 1;
                break;
            }
            let optional = self.take("?").is_some();
            let field = match self.word() {
                Word::Name => self.ahead(0).text.clone(),
                Word::Escaped(name) => name.clone(),
                _ => {
                    let expected = "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}";
                    return Err(self.fail("mismatched", expected));
                }
            };
            self.next += 1;
            let at = self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field { at, name: field, value, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.close("}")?;
        self.node(open, Kind::Struct { name, fields })
    }

    fn list(&mut self, at: usize) -> Parsed<Expr> {
        let mut items = Vec::new();
        while !self.is("]") {
            if items.is_empty() && self.take(",").is_some() {
                break;
            }
            let optional = self.take("?").is_some();
            items.push(Item { value: self.expr()?, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.close("]")?;
        self.node(at, Kind::List(items))
    }

    fn map(&mut self, at: usize) -> Parsed<Expr> {
        let mut entries = Vec::new();
        while !self.is("}") {
            if entries.is_empty() && self.take(",").is_some() {
                break;
            }
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            if self.word() == &Word::End {
                return Err(self.fail("mismatched", "':'"));
            }
            self.expect(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.close("}")?;
        self.node(at, Kind::Map(entries))
    }

    fn literal(&mut self, at: usize) -> Parsed<Expr> {
        let minus = if self.is("-") { "-" } else { "" };
        let token = self.ahead(minus.len()).clone();
        let literal = match token.word {
            Word::Int(text) => Some(Literal::Int(match integer(&text, minus) {
                Some(value) => value,
                None => return Err(self.issue(at, "invalid int literal")),
            })),
            Word::Double(text) => match format!("{minus}{text}").parse::<f64>() {
                Ok(value) if value.is_finite() => Some(Literal::Double(value)),
                _ => return Err(self.issue(at, "invalid double literal")),
            },
            _ if !minus.is_empty() => None,
            Word::Uint(text) => Some(Literal::Uint(match unsigned(&text) {
                Some(value) => value,
                None => return Err(self.issue(at, "invalid uint literal")),
            })),
            Word::String(text) => Some(Literal::String(text)),
            Word::Bytes(bytes) => Some(Literal::Bytes(bytes)),
            Word::Sign("true") => Some(Literal::Bool(true)),
            Word::Sign("false") => Some(Literal::Bool(false)),
            Word::Sign("null") => Some(Literal::Null),
            _ => None,
        };
        let Some(literal) = literal else { return Err(self.no_start(false)) };
        self.next += 1 + minus.len();
        self.node(at, Kind::Literal(literal))
    }
}

/// Whether a text can be the name of a variable.
pub fn is_identifier(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| name(c) && !c.is_ascii_digit())
        && text.chars().all(name)
        && !RESERVED.contains(&text)
        && !matches!(text, "true" | "null" | "in")
}

fn starts(word: &Word) -> bool {
    match word {
        Word::End | Word::Escaped(_) => false,
        Word::Sign(sign) => {
            matches!(*sign, "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null")
        }
        _ => true,
    }
}

fn is_close(word: &Word) -> bool {
    matches!(word, Word::Sign(")"))
}

fn integer(text: &str, minus: &str) -> Option<i64> {
    let (digits, radix) = radix(text);
    i64::from_str_radix(&format!("{minus}{digits}"), radix).ok()
}

fn unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = radix(text);
    u64::from_str_radix(digits, radix).ok()
}

fn radix(text: &str) -> (&str, u32) {
    text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        let mut issues = Issues::new(source);
        let _ = parse(source, &mut issues);
        issues.messages().map(ToOwned::to_owned).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn hostile_nesting_is_refused_without_a_deep_stack() {
        let run = || {
            for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("a.b(", ")"), ("a[", "]")]
            {
                let source = format!("{}1{}", open.repeat(9_000), close.repeat(9_000));
                assert!(refused(&source).contains("max recursion depth exceeded"), "{open}");
            }
            for chain in ["+1", ".b", "[0]", " ? 1 : 1"] {
                let source = format!("1{}", chain.repeat(9_000));
                assert!(refused(&source).contains("max recursion depth"), "{chain}");
            }
            for flat in ["!", "-", "&&true", "||true", ","] {
                let _ = refused(&format!("true{}", flat.repeat(20_000)));
                let _ = refused(&format!("{}true", flat.repeat(20_000)));
            }
            assert!(refused(&"1".repeat(200_000)).contains("code point size exceeds limit"));
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn many_terms_are_no_nesting() {
        assert_eq!(refused(&vec!["true"; 5_000].join(" && ")), "");
        assert_eq!(refused("has(a.b) && a.b[0].c(1, 'x') ? {'k': [1u, -2]} : T{f: b'x'}"), "");
    }
}
