//! Proving to a registry who asks: basic authentication, and tokens of an authorization service.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;

use super::endpoint::Url;
use super::transport::{Transport, in_time};
use super::{Kind, Refusal};
use crate::config::Credential;

/// Largest answer of a token service.
const MAX_ANSWER: usize = 1 << 20;

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a WWW-Authenticate header.
    pub(super) fn parse(text: &str) -> Option<Challenge> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = None;
        let mut service = None;
        let mut scope = None;
        for (key, value) in parameters(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Challenge::Bearer { realm: realm?, service, scope })
    }
}

/// The `key="value"` pairs of a challenge; values may have commas within their quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.push((key, value.to_owned()));
        rest = next;
    }
    all
}

/// The header for basic authentication, where there is something to say.
pub(super) fn basic(credential: &Credential) -> Option<String> {
    let Credential { username, password, .. } = credential;
    if username.is_empty() && password.is_empty() {
        return None;
    }
    Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().fold(String::new(), |mut out, b| {
        use std::fmt::Write;
        if plain(b) {
            out.push(b.into());
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// Fetches a token, with a refresh token (OAuth2), a password, or as nobody.
pub(super) async fn token(
    transport: &Transport,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<String, Refusal> {
    let mut url = Url::parse(realm)
        .ok_or_else(|| Refusal::unavailable(format!("bad authorization realm {realm:?}")))?;
    let mut fields = vec![("scope", scope)];
    fields.extend(service.map(|service| ("service", service)));
    let request = Request::builder()
        .header(header::HOST, url.authority.clone())
        .header(header::USER_AGENT, "knarr");
    let refresh = credential.map(|c| c.identity_token.as_str()).filter(|t| !t.is_empty());
    let (request, body) = if let Some(refresh) = refresh {
        fields.push(("grant_type", "refresh_token"));
        fields.push(("client_id", "knarr"));
        fields.push(("refresh_token", refresh));
        let form = "application/x-www-form-urlencoded";
        let request = request.method(Method::POST).header(header::CONTENT_TYPE, form);
        (request.uri(url.path_and_query.clone()), form_of(&fields))
    } else {
        let separator = if url.path_and_query.contains('?') { '&' } else { '?' };
        url.path_and_query = format!("{}{separator}{}", url.path_and_query, form_of(&fields));
        let mut request = request.method(Method::GET).uri(url.path_and_query.clone());
        if let Some(basic) = credential.and_then(basic) {
            request = request.header(header::AUTHORIZATION, basic);
        }
        (request, String::new())
    };
    let request = request
        .header(header::CONTENT_LENGTH, body.len())
        .body(Full::from(body))
        .map_err(|e| Refusal::invalid(format!("request for {realm}: {e}")))?;
    let response = transport.send(&url, request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        let message = format!(
            "failed to authorize: failed to fetch token: unexpected status from GET request to \
             {realm}: {status}"
        );
        let kind = if status.is_client_error() { Kind::Unauthorized } else { Kind::Unavailable };
        return Err(Refusal::new(kind, message));
    }
    let limited = Limited::new(response.into_body(), MAX_ANSWER);
    let body = in_time("token", limited.collect()).await?;
    let body = body.map_err(|e| Refusal::unavailable(format!("token: {e}")))?.to_bytes();
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|e| Refusal::unavailable(format!("token of {realm}: {e}")))?;
    match [answer.token, answer.access_token].into_iter().find(|t| !t.is_empty()) {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Refusal::unavailable(format!("{realm} answered without a token"))),
    }
}

fn form_of(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", encoded(v))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text =
            r#"Bearer realm="https://auth/token",service="r.io",scope="repository:a:pull,push""#;
        assert_eq!(
            Challenge::parse(text),
            Some(Challenge::Bearer {
                realm: "https://auth/token".into(),
                service: Some("r.io".into()),
                scope: Some("repository:a:pull,push".into()),
            })
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
    }

    #[test]
    fn secrets_are_encoded_and_not_shown() {
        let credential =
            Credential { username: "user".into(), password: "geheim".into(), ..Default::default() };
        assert_eq!(basic(&credential).unwrap(), "Basic dXNlcjpnZWhlaW0=");
        assert!(!format!("{credential:?}").contains("geheim"));
        assert_eq!(form_of(&[("scope", "a:b c")]), "scope=a%3Ab%20c");
    }
}
