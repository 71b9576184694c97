//! Who asks: client certificates, service account tokens, the front proxy, or nobody.
//!
//! A connection's certificate is judged once, when the connection is made ([`Authenticator::peer`]);
//! each request then costs a map lookup. Impersonation comes after authorization of the real user.

use apimachinery::Status;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::request::UserInfo;

/// What the client certificate of a connection says.
#[derive(Clone, Debug, Default)]
pub enum Peer {
    /// No certificate was sent.
    #[default]
    None,
    /// Signed by the cluster's client CA: common name and organizations are user and groups.
    Client {
        /// Who the certificate names.
        user: UserInfo,
        /// Unix seconds after which it no longer counts.
        not_after: i64,
    },
    /// Signed by the front-proxy CA: the `X-Remote-*` headers name the user.
    FrontProxy {
        /// Unix seconds after which it no longer counts.
        not_after: i64,
    },
    /// Signed by nobody we know, or expired.
    Invalid(String),
}

/// Turns credentials into a user.
pub struct Authenticator {}

impl Authenticator {
    /// Judges the certificate chain of a connection, leaf first. The TLS layer has proved that the
    /// peer holds the key; whether anyone vouches for it is decided here, so that a bad certificate
    /// is a 401 and not a broken handshake.
    pub fn peer(&self, _chain: &[CertificateDer<'_>]) -> Peer {
        Peer::None
    }

    /// Who sends a request with these headers over this connection.
    ///
    /// # Errors
    /// 401 when credentials are given and wrong. No credentials at all are `system:anonymous`.
    pub fn authenticate(&self, _headers: &HeaderMap, _peer: &Peer) -> Result<UserInfo, Status> {
        Err(Status::unauthorized())
    }
}
