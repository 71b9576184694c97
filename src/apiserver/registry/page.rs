//! Continue tokens: where the next page of a list begins, and in which state of the store.

use apimachinery::{Key, Status};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The content of a continue token. Clients hand it back unread; the form is upstream's.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

/// The place behind an object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The revision that the list shows; `None` to go on in the present state, as the token of an
    /// expired list says.
    pub revision: Option<u64>,
    /// The last key already returned.
    pub after: Key,
}

impl Position {
    /// The token for the client.
    pub fn encode(&self) -> String {
        let token = Token {
            v: "meta.k8s.io/v1".to_owned(),
            rv: self.revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX)),
            start: format!("{}/{}\0", self.after.namespace, self.after.name),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// Reads what a client hands back.
    ///
    /// # Errors
    /// 400 when it is none of our tokens.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| {
            Status::bad_request(format!("invalid continue token: continue key is not valid{why}"))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| bad(&format!(": illegal base64 data at input byte {}", at(&error))))?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|error| bad(&format!(": {error}")))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(bad(&format!(
                ": server does not recognize this encoded version {}",
                token.v
            )));
        }
        if token.rv == 0 {
            return Err(bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        let start = token.start.trim_end_matches('\0');
        let (namespace, name) = start.split_once('/').ok_or_else(|| bad(&format!(": {start}")))?;
        if name.is_empty() || name.contains('/') {
            return Err(bad(&format!(": {start}")));
        }
        Ok(Self { revision: u64::try_from(token.rv).ok(), after: Key::new(namespace, name) })
    }
}

/// Where base64 went wrong, as Go counts.
fn at(error: &base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            *at
        }
        _ => 0,
    }
}

/// 410 of a page whose list is no longer kept. The token in it goes on in the present state.
pub fn expired(after: &Key) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    let position = Position { revision: None, after: after.clone() };
    status.metadata = serde_json::json!({ "continue": position.encode() });
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for revision in [Some(42), None] {
            let position = Position { revision, after: Key::new("ns", "name") };
            assert_eq!(Position::decode(&position.encode()).unwrap(), position);
        }
        let cluster = Position { revision: Some(1), after: Key::new("", "node") };
        assert_eq!(Position::decode(&cluster.encode()).unwrap(), cluster);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for text in [
            "%%%".to_owned(),
            encode("[]"),
            encode(r#"{"v":"v2","rv":1,"start":"/a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"/a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../../etc"}"#),
        ] {
            assert_eq!(Position::decode(&text).unwrap_err().code, 400);
        }
    }
}
