//! Who asks: client certificates, service account tokens, the front proxy, or nobody.
//!
//! A connection's certificate is judged once, when the connection is made ([`Authenticator::peer`]);
//! each request then costs a map look-up. Impersonation comes after authentication, because it has
//! to be authorized.

pub mod impersonation;
pub mod review;
pub mod service_account;
pub mod token_request;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use apimachinery::Status;
use http::{HeaderMap, header::AUTHORIZATION};
use pki::{jwt::TokenKeys, verify::ClientVerifier};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use storage::{OpenError, Store};

pub use self::service_account::Tokens;
use crate::request::UserInfo;

/// What tokens and certificates are judged by.
pub struct Options {
    /// Authorities of client certificates (DER).
    pub client_authorities: Vec<Vec<u8>>,
    /// Authorities of the front proxies that may name any user in headers (DER).
    pub front_proxy_authorities: Vec<Vec<u8>>,
    /// Common names that a front proxy's certificate may have; none means any.
    pub front_proxy_names: Vec<String>,
    /// Keys of service account tokens.
    pub tokens: Arc<TokenKeys>,
    /// The `iss` of tokens, which is also the audience of the API server,
    /// `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
}

/// Why an authenticator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An authority is not a certificate.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// What tokens are bound to could not be loaded.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// What the client certificate of a connection says.
#[derive(Clone, Debug, Default)]
pub enum Peer {
    /// No certificate was sent.
    #[default]
    None,
    /// Signed by the cluster's client CA: common name and organizations are user and groups.
    Client {
        /// Who the certificate names.
        user: Arc<UserInfo>,
        /// Unix seconds after which it no longer counts.
        not_after: i64,
    },
    /// Signed by the front-proxy CA: the `X-Remote-*` headers name the user.
    FrontProxy {
        /// Unix seconds after which it no longer counts.
        not_after: i64,
    },
    /// Signed by nobody we know, or expired.
    Invalid,
}

/// Turns credentials into a user.
pub struct Authenticator {
    clients: Option<ClientVerifier>,
    front_proxies: Option<ClientVerifier>,
    front_proxy_names: Vec<String>,
    /// PEM of the authorities of clients and of front proxies.
    authorities: [String; 2],
    /// Service account tokens: issued and verified.
    pub tokens: Tokens,
}

impl Authenticator {
    /// Judges by `options`; tokens are held against the objects in `store` that they are bound to.
    ///
    /// # Errors
    /// When an authority is no certificate or a collection cannot be loaded.
    pub async fn open(store: &Store, options: Options) -> Result<Self, Error> {
        let verifier = |authorities: &[Vec<u8>]| match authorities {
            [] => Ok(None),
            some => ClientVerifier::new(some.iter().map(Vec::as_slice)).map(Some),
        };
        let pem = |authorities: &[Vec<u8>]| {
            authorities.iter().map(|der| pki::pem::encode("CERTIFICATE", der)).collect()
        };
        Ok(Self {
            authorities: [pem(&options.client_authorities), pem(&options.front_proxy_authorities)],
            clients: verifier(&options.client_authorities)?,
            front_proxies: verifier(&options.front_proxy_authorities)?,
            front_proxy_names: options.front_proxy_names,
            tokens: Tokens::open(store, options.tokens, options.issuer).await?,
        })
    }

    /// The data of the `extension-apiserver-authentication` ConfigMap: whom extension API servers
    /// shall trust to name users.
    pub fn published(&self) -> Value {
        let [clients, proxies] = &self.authorities;
        let mut data = Map::new();
        let mut set = |key: &str, value: &str| data.insert(key.to_owned(), json!(value));
        if !clients.is_empty() {
            set("client-ca-file", clients);
        }
        if !proxies.is_empty() {
            set("requestheader-allowed-names", &json!(self.front_proxy_names).to_string());
            set("requestheader-client-ca-file", proxies);
            set("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#);
            set("requestheader-group-headers", r#"["X-Remote-Group"]"#);
            set("requestheader-username-headers", r#"["X-Remote-User"]"#);
        }
        Value::Object(data)
    }

    /// PEM of the authorities of clients: what pods get as `ca.crt`, too.
    pub fn client_authorities(&self) -> &str {
        &self.authorities[0]
    }

    /// Judges the certificate chain of a connection, leaf first. The TLS layer has proved that the
    /// peer holds the key; whether anyone vouches for it is decided here, so that a bad certificate
    /// is a 401 and not a broken handshake.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let Some(leaf) = chain.first() else { return Peer::None };
        if let Some(Ok(certificate)) = self.front_proxies.as_ref().map(|v| v.verify(chain)) {
            let name = &certificate.subject.common_name;
            if self.front_proxy_names.is_empty() || self.front_proxy_names.contains(name) {
                return Peer::FrontProxy { not_after: certificate.not_after };
            }
        }
        match self.clients.as_ref().map(|verifier| verifier.verify(chain)) {
            Some(Ok(certificate)) => Peer::Client {
                user: Arc::new(certificate_user(&certificate, leaf)),
                not_after: certificate.not_after,
            },
            Some(Err(error)) => {
                tracing::debug!(%error, "client certificate refused");
                Peer::Invalid
            }
            None => Peer::Invalid,
        }
    }

    /// Who sends a request with these headers over this connection.
    ///
    /// # Errors
    /// 401 when credentials are given and wrong. No credentials at all are `system:anonymous`.
    pub fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<UserInfo, Status> {
        let valid = |not_after: &i64| now() <= *not_after;
        // The order of upstream: front proxy, certificate, token. What fails may be made up for by
        // the next; a request on which only failures are found is refused.
        let mut failed = false;
        match peer {
            Peer::FrontProxy { not_after } if valid(not_after) => {
                if let Some(user) = remote_user(headers) {
                    return Ok(user);
                }
            }
            Peer::Client { user, not_after } if valid(not_after) => return Ok((**user).clone()),
            Peer::None => {}
            _ => failed = true,
        }
        if let Some(token) = bearer(headers) {
            match self.tokens.authenticate(token) {
                Ok(user) => return Ok(authenticated(user)),
                Err(error) => tracing::debug!(%error, "bearer token refused"),
            }
            failed = true;
        }
        if failed { Err(Status::unauthorized()) } else { Ok(anonymous()) }
    }
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// The user of a request without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
        ..UserInfo::default()
    }
}

/// Adds the group of everyone who has shown credentials.
fn authenticated(mut user: UserInfo) -> UserInfo {
    let known = user.name == "system:anonymous"
        || user.in_group("system:authenticated")
        || user.in_group("system:unauthenticated");
    if !known {
        user.groups.push("system:authenticated".to_owned());
    }
    user
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn certificate_user(certificate: &pki::Certificate, der: &[u8]) -> UserInfo {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut id = String::from("X509SHA256=");
    for byte in digest.as_ref() {
        let _ = write!(id, "{byte:02x}");
    }
    authenticated(UserInfo {
        name: certificate.subject.common_name.clone(),
        uid: String::new(),
        groups: certificate.subject.organizations.clone(),
        extra: BTreeMap::from([(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![id],
        )]),
    })
}

/// The user that a front proxy names.
fn remote_user(headers: &HeaderMap) -> Option<UserInfo> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let name = text("x-remote-user").filter(|name| !name.is_empty())?;
    let groups = headers.get_all("x-remote-group").iter();
    let groups = groups.filter_map(|value| value.to_str().ok()).map(ToOwned::to_owned);
    Some(authenticated(UserInfo {
        name: name.to_owned(),
        uid: text("x-remote-uid").unwrap_or_default().to_owned(),
        groups: groups.collect(),
        extra: extra(headers, "x-remote-extra-"),
    }))
}

/// Headers with this prefix as extra facts; their keys are percent-encoded.
pub(crate) fn extra(headers: &HeaderMap, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(prefix)
            && let Ok(value) = value.to_str()
        {
            extra.entry(unescape(key)).or_default().push(value.to_owned());
        }
    }
    extra
}

/// Undoes percent-encoding; a malformed key is kept as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return key.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_found_whatever_the_case() {
        let token = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(token("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(token("bearer  a").as_deref(), Some("a"));
        assert_eq!(token("Basic a"), None);
        assert_eq!(token("Bearer"), None);
    }

    #[test]
    fn a_front_proxy_names_users() {
        let mut headers = HeaderMap::new();
        assert_eq!(remote_user(&headers), None);
        headers.insert("x-remote-user", "a".parse().unwrap());
        headers.append("x-remote-group", "g".parse().unwrap());
        headers.append("x-remote-group", "h".parse().unwrap());
        headers.insert("x-remote-extra-acme.com%2fproject", "p".parse().unwrap());
        let user = remote_user(&headers).unwrap();
        assert_eq!(user.groups, ["g", "h", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/project"], ["p"]);
    }

    #[test]
    fn malformed_escapes_stay() {
        assert_eq!(unescape("a%2"), "a%2");
        assert_eq!(unescape("a%zz"), "a%zz");
        assert_eq!(unescape("a%2Fb"), "a/b");
    }
}
