//! URLs: absolute ones and absolute paths, as Go's `url.ParseRequestURI` takes them.

use super::{Function, cost, function, operators::arg};
use crate::value::{Entries, EvalError, Outcome, Value};

const GETTER: &[&str] = &["kubernetes.URL | -> string"];

pub(super) const FUNCTIONS: &[Function] = &[
    function("url", |_, args| url(args), cost::first, &["string -> kubernetes.URL"]),
    function("isURL", |_, args| is_url(args), cost::one, &["string -> bool"]),
    function("getScheme", |_, a| get(a, |url| url.scheme.clone()), cost::one, GETTER),
    function("getHost", |_, a| get(a, |url| url.host.clone()), cost::one, GETTER),
    function("getHostname", |_, a| get(a, Url::hostname), cost::one, GETTER),
    function("getPort", |_, a| get(a, Url::port), cost::one, GETTER),
    function("getEscapedPath", |_, a| get(a, |url| escape(&url.path)), cost::one, GETTER),
    function(
        "getQuery",
        |_, args| query(args),
        cost::one,
        &["kubernetes.URL | -> map(string, list(string))"],
    ),
];

/// A URL in its parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    /// As written.
    path: String,
    query: String,
}

impl Url {
    /// Reads a URL; the error is Go's.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.is_empty() {
            return wrong("empty url");
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return wrong("net/url: invalid control character in URL");
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some(("", _)) => return wrong("missing protocol scheme"),
            _ => (String::new(), text),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') && scheme.is_empty() {
            return wrong("invalid URI for request");
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                let end = rest.find('/').unwrap_or(rest.len());
                rest.split_at(end)
            }
            _ => ("", rest),
        };
        if let Some(escape) = bad_escape(path) {
            return wrong(&format!("invalid URL escape {escape:?}"));
        }
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.contains([' ', '<', '>', '"', '^', '`', '{', '}', '|', '\\']) {
            let bad = host.find([' ', '<', '>', '"', '^', '`', '{', '}', '|', '\\']);
            let bad = bad.and_then(|at| host[at..].chars().next()).unwrap_or(' ');
            return wrong(&format!("invalid character {:?} in host name", bad.to_string()));
        }
        if let Some(end) = host.rfind(']').filter(|_| host.starts_with('[')) {
            if let Some(port) = bad_port(&host[end + 1..]) {
                return wrong(&format!("invalid port {port:?} after host"));
            }
        } else if host.starts_with('[') {
            return wrong("missing ']' in host");
        } else if let Some(at) = host.find(':')
            && let Some(port) = bad_port(&host[at..])
        {
            return wrong(&format!("invalid port {port:?} after host"));
        }
        let owned = str::to_owned;
        Ok(Self { scheme, host: owned(host), path: owned(path), query: owned(query) })
    }

    fn hostname(&self) -> String {
        if let Some(rest) = self.host.strip_prefix('[') {
            return rest.split(']').next().unwrap_or_default().to_owned();
        }
        self.host.split(':').next().unwrap_or_default().to_owned()
    }

    fn port(&self) -> String {
        let behind = self.host.rsplit(']').next().unwrap_or_default();
        behind.rsplit_once(':').map_or_else(String::new, |(_, port)| port.to_owned())
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// What stands behind the host and is no port.
fn bad_port(text: &str) -> Option<&str> {
    let port = match text.strip_prefix(':') {
        Some(port) => port,
        None if text.is_empty() => return None,
        None => return Some(text),
    };
    (!port.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn bad_escape(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let at = (0..bytes.len()).find(|at| bytes[*at] == b'%' && !(hex(at + 1) && hex(at + 2)))?;
    let mut end = (at + 3).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(&text[at..end])
}

/// A path with escapes for what may not stand in one.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Text without its escapes, where they are ones.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                bytes.push(u8::try_from(value).ok()?);
            }
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn url<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::String(text) = arg(args, 0) else { return EvalError::no_overload() };
    match Url::parse(text) {
        Ok(url) => Ok(Value::Url(url.into())),
        Err(error) => {
            EvalError::new(format!("URL parse error during conversion from string: {error}"))
        }
    }
}

/// Why Go does not take a URL; for the format.
pub(super) fn error(text: &str) -> Option<String> {
    Url::parse(text).err()
}

fn is_url<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::String(text) = arg(args, 0) else { return EvalError::no_overload() };
    Ok(Value::Bool(Url::parse(text).is_ok()))
}

fn get<'a>(args: &[Value<'a>], part: fn(&Url) -> String) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Url(url) => Ok(Value::text(part(url))),
        _ => EvalError::no_overload(),
    }
}

fn query<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::Url(url) = arg(args, 0) else { return EvalError::no_overload() };
    let mut all: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (unescape(key), unescape(value)) else { continue };
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(Value::text(value)),
            None => all.push((key, vec![Value::text(value)])),
        }
    }
    let mut entries = Entries::default();
    for (key, values) in all {
        entries.insert(Value::text(key), Value::list(values));
    }
    Ok(Value::map(entries))
}
