//! JSON text to values, with the checks that serde_json cannot make: duplicate keys, and Go's
//! wording of what is malformed. With a schema the values are made canonical on the way.

use serde_json::{Map, Value, map::Entry};

use super::{
    decode::Conform,
    graph::{Graph, Kind, NodeId, field},
    json_schema,
    leaf::{self, Token},
    trail::{Findings, Mismatch, Step, Trail},
};

/// Lists and objects nested deeper than this are refused. Go allows 10,000; every later walk over
/// the value recurses, and no object comes near.
pub(crate) const MAX_DEPTH: usize = 500;

/// Text that is not JSON, in Go's words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    pub(crate) findings: Findings,
}

/// What is to be read: a value of a built-in type, or free JSON.
type Guide<'g> = Option<(&'g Graph, NodeId)>;

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Reader { text, at: 0, depth: 0, findings: Findings::default() }
    }

    /// Reads the whole text as one value.
    pub(crate) fn document(&mut self, guide: Guide<'_>) -> Result<Value, Malformed> {
        let value = self.value(guide, &Trail::ROOT)?;
        self.space();
        match self.text.get(self.at) {
            None => Ok(value.unwrap_or(Value::Null)),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// Reads a value; None where it does not fit the guide, which is noted.
    fn value(&mut self, guide: Guide<'_>, trail: &Trail<'_>) -> Result<Option<Value>, Malformed> {
        if let Some((graph, id)) = guide
            && json_schema::is_one(graph.node(id))
        {
            return self.schema(graph, id, trail);
        }
        self.space();
        // What is nested is on the stack once a level, so no more than that is done here.
        match self.peek() {
            Some(b'{') => self.nested(guide, trail, Self::object),
            Some(b'[') => self.nested(guide, trail, Self::array),
            _ => self.leaf(guide, trail),
        }
    }

    /// Reads a value in which no others are.
    fn leaf(&mut self, guide: Guide<'_>, trail: &Trail<'_>) -> Result<Option<Value>, Malformed> {
        let token = match self.peek() {
            Some(b'"') => Token::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Token::Number(self.number()?),
            Some(b't') => {
                self.literal("true")?;
                Token::Bool(true)
            }
            Some(b'f') => {
                self.literal("false")?;
                Token::Bool(false)
            }
            Some(b'n') => {
                self.literal("null")?;
                return Ok(Some(Value::Null));
            }
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        let Some((graph, id)) = guide else {
            return match token {
                Token::Number(literal) => match leaf::number(literal) {
                    Some(number) => Ok(Some(number)),
                    None => {
                        let why = format!(
                            "json: cannot unmarshal number {literal} into Go value of type float64"
                        );
                        self.findings.error.get_or_insert(why);
                        Ok(None)
                    }
                },
                Token::Text(text) => Ok(Some(Value::String(text))),
                Token::Bool(value) => Ok(Some(Value::Bool(value))),
                Token::Array | Token::Object => Ok(None),
            };
        };
        Ok(self.noting(graph, id, trail, leaf::read(graph.node(id), token)))
    }

    /// Reads a part of a definition that may be a schema or something else.
    fn schema(
        &mut self,
        graph: &Graph,
        id: NodeId,
        trail: &Trail<'_>,
    ) -> Result<Option<Value>, Malformed> {
        let read = self.opaque(trail, |reader, _, trail| reader.value(None, trail))?;
        let mut value = read.unwrap_or(Value::Null);
        let depth = self.depth;
        let mut walk = Conform { graph, findings: &mut self.findings };
        json_schema::conform(&mut walk, id, &mut value, trail, depth);
        Ok(Some(value))
    }

    fn noting(
        &mut self,
        graph: &Graph,
        id: NodeId,
        trail: &Trail<'_>,
        read: Result<Value, Mismatch>,
    ) -> Option<Value> {
        read.map_err(|why| self.findings.mismatch(graph, id, trail, why)).ok()
    }

    fn nested(
        &mut self,
        guide: Guide<'_>,
        trail: &Trail<'_>,
        read: fn(&mut Self, Guide<'_>, &Trail<'_>) -> Result<Option<Value>, Malformed>,
    ) -> Result<Option<Value>, Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Malformed("exceeded max depth".to_owned()));
        }
        self.at += 1;
        let value = read(self, guide, trail)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self, guide: Guide<'_>, trail: &Trail<'_>) -> Result<Option<Value>, Malformed> {
        match guide {
            None => self.free_object(None, trail),
            Some((graph, id)) => match graph.node(id).kind {
                Kind::Object => self.typed_object(graph, id, trail),
                Kind::Map => self.free_object(Some((graph, graph.node(id).child)), trail),
                Kind::RawExtension | Kind::FieldsV1 | Kind::Any => {
                    self.opaque(trail, Self::free_object)
                }
                _ => {
                    self.opaque(trail, Self::free_object)?;
                    let read = leaf::read(graph.node(id), Token::Object);
                    Ok(self.noting(graph, id, trail, read))
                }
            },
        }
    }

    /// Reads what Go keeps as it came, in which it looks for nothing.
    fn opaque(
        &mut self,
        trail: &Trail<'_>,
        read: fn(&mut Self, Guide<'_>, &Trail<'_>) -> Result<Option<Value>, Malformed>,
    ) -> Result<Option<Value>, Malformed> {
        self.findings.muted += 1;
        let value = read(self, None, trail)?;
        self.findings.muted -= 1;
        Ok(value)
    }

    /// An object whose keys are data.
    fn free_object(
        &mut self,
        values: Guide<'_>,
        trail: &Trail<'_>,
    ) -> Result<Option<Value>, Malformed> {
        let mut map = Map::new();
        let mut first = true;
        while let Some(key) = self.key(first)? {
            first = false;
            let value = self.value(values, &trail.then(Step::Key(&key)))?;
            let value = match (value, values) {
                (Some(Value::Null), Some((graph, id))) => leaf::zero(graph, id),
                (value, _) => value.unwrap_or(Value::Null),
            };
            match map.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => {
                    self.findings.duplicate(trail, entry.key());
                    entry.insert(value);
                }
            }
        }
        Ok(Some(Value::Object(map)))
    }

    /// An object with the fields of a Go struct.
    fn typed_object(
        &mut self,
        graph: &Graph,
        id: NodeId,
        trail: &Trail<'_>,
    ) -> Result<Option<Value>, Malformed> {
        let node = graph.node(id);
        let fields = graph.fields(node);
        // No struct has more fields than there are bits here; a test holds that.
        let (mut seen, mut set) = (0u128, 0u128);
        let mut map = Map::new();
        let mut first = true;
        // Keys are mostly sorted, and then the next field is the one after the last.
        let mut next = 0;
        while let Some(key) = self.key(first)? {
            first = false;
            let position = match fields.get(next) {
                Some(field) if graph.name(field) == key => Some(next),
                _ => graph.position(node, &key),
            };
            let Some(at) = position else {
                self.findings.unknown(trail, &key);
                self.opaque(trail, |reader, _, trail| reader.value(None, trail))?;
                continue;
            };
            if seen & (1 << at) != 0 {
                self.findings.duplicate(trail, &key);
            }
            seen |= 1 << at;
            next = at + 1;
            let field = &fields[at];
            let step = Step::Field(id, graph.name(field));
            match self.value(Some((graph, field.node)), &trail.then(step))? {
                Some(value) if !value.is_null() && !leaf::omitted(graph, field, &value) => {
                    map.insert(key, value);
                    set |= 1 << at;
                }
                // Null does not undo what an earlier field of the same name said of a scalar.
                Some(Value::Null) if leaf::is_scalar(graph, field) => {}
                _ if set & (1 << at) != 0 => {
                    map.remove(&key);
                    set &= !(1 << at);
                }
                _ => {}
            }
        }
        for (at, field) in fields.iter().enumerate() {
            if field.has(field::ALWAYS_WRITTEN)
                && set & (1 << at) == 0
                && let Some(value) = leaf::absent(graph, field)
            {
                map.insert(graph.name(field).to_owned(), value);
            }
        }
        Ok(Some(Value::Object(map)))
    }

    fn array(&mut self, guide: Guide<'_>, trail: &Trail<'_>) -> Result<Option<Value>, Malformed> {
        match guide {
            None => self.list(None, trail),
            Some((graph, id)) => match graph.node(id).kind {
                Kind::Array => self.list(Some((graph, graph.node(id).child)), trail),
                Kind::RawExtension | Kind::FieldsV1 | Kind::Any => self.opaque(trail, Self::list),
                _ => {
                    self.opaque(trail, Self::list)?;
                    let read = leaf::read(graph.node(id), Token::Array);
                    Ok(self.noting(graph, id, trail, read))
                }
            },
        }
    }

    fn list(&mut self, items: Guide<'_>, trail: &Trail<'_>) -> Result<Option<Value>, Malformed> {
        let mut list = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Some(Value::Array(list)));
        }
        loop {
            let value = self.value(items, &trail.then(Step::Index(list.len())))?;
            list.push(match (value, items) {
                (Some(Value::Null), Some((graph, id))) => leaf::zero(graph, id),
                (value, _) => value.unwrap_or(Value::Null),
            });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Some(Value::Array(list)));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    /// The next key of an object and the colon behind it; None at its end.
    fn key(&mut self, first: bool) -> Result<Option<String>, Malformed> {
        self.space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => {
                self.at += 1;
                self.space();
            }
            Some(_) if first => {}
            _ => return Err(self.unexpected("after object key:value pair")),
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// The literal of a number.
    fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Malformed> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", expected as char);
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// A string, from its opening quote to behind its closing one.
    fn string(&mut self) -> Result<String, Malformed> {
        let start = self.at + 1;
        let rest = &self.text[start..];
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        self.at = start + end.unwrap_or(rest.len());
        match self.peek() {
            Some(b'"') => {
                let text = &self.text[start..self.at];
                self.at += 1;
                Ok(match std::str::from_utf8(text) {
                    Ok(text) => text.to_owned(),
                    Err(_) => String::from_utf8_lossy(text).into_owned(),
                })
            }
            Some(b'\\') => self.escaped_string(start),
            _ => Err(self.unexpected("in string literal")),
        }
    }

    /// A string with an escape at the present place.
    fn escaped_string(&mut self, start: usize) -> Result<String, Malformed> {
        let mut bytes = self.text[start..self.at].to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match String::from_utf8(bytes) {
                        Ok(text) => text,
                        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    });
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut bytes)?;
                }
                Some(0..=0x1f) => return Err(self.unexpected("in string literal")),
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
                None => return Err(self.unexpected("")),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let mut unit = u32::from(self.unit()?);
                // A pair of surrogates is one character; a lone one is none.
                if (0xd800..0xdc00).contains(&unit) && self.text[self.at..].starts_with(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let low = u32::from(self.unit()?);
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    } else {
                        self.at = before;
                    }
                }
                let c = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        bytes.push(byte);
        self.at += 1;
        Ok(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, Malformed> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn unexpected(&self, context: &str) -> Malformed {
        Malformed(match self.peek() {
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => format!("invalid character {} {context}", quoted(byte)),
        })
    }
}

/// A byte as Go's messages show it: as the character with that number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => {
            let text = crate::quote::go_quote(&(byte as char).to_string());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}
