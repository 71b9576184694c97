//! Query parameters: percent-decoded pairs, and the typed reading of them.

use std::borrow::Cow;

use apimachinery::Status;

/// The parameters of one request, in the order sent.
#[derive(Clone, Debug, Default)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Splits and decodes `text`, which comes without the question mark.
    pub fn parse(text: &'a str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// The first value of `key` unless it is empty, which counts as not given.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Every value of `key`.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| &**value)
    }

    /// A flag as upstream reads one: absent is `None`, `false` and `0` are false, all else true.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is not one.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            // Go's strconv.NumError.
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })
    }
}

/// Checks the `timeout` that a client gives a request. It need not be kept: nothing here takes as
/// long as a client would wait.
///
/// # Errors
/// 400 when it is no duration.
pub fn check_timeout(query: &Query<'_>) -> Result<(), Status> {
    let Some(text) = query.text("timeout") else { return Ok(()) };
    apimachinery::time::parse_duration(text).map(drop).map_err(|error| {
        Status::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })
}

/// Decodes percent escapes; bytes that are not UTF-8 become replacement characters. In a query a
/// plus sign is a space.
pub fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                bytes = ahead;
            }
            (b'+', ..) if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_pairs() {
        let query = Query::parse("a=1&b=x%2Cy+z&c&a=2&&d=%zz%4");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("b"), Some("x,y z"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.text("c"), None);
        assert_eq!(query.get("d"), Some("%zz%4"), "malformed escapes stay");
        assert_eq!(query.number("a").unwrap(), Some(1));
        assert!(query.number("b").is_err());
    }
}
