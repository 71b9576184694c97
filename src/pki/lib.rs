//! Certificates, keys and tokens: the cluster's authorities, what they sign, and reading it back.
//!
//! X.509 is written and read here instead of by a library because a Kubernetes subject may hold
//! several organizations (one a group), and because the little that is needed of DER is small.
//! Chains are judged by rustls' webpki, signatures made by ring.

pub mod authority;
pub mod certificate;
pub mod ciphers;
mod clock;
pub mod cluster;
mod curve521;
mod der;
pub mod files;
pub mod jwt;
pub mod key;
pub mod kubeconfig;
pub mod pem;
pub mod proven;
pub mod public;
pub mod request;
mod rsa;
pub mod trust;
pub mod verify;

pub use authority::{Authority, Profile};
pub use certificate::{AltNames, Certificate, Subject};
pub use key::PrivateKey;

/// What goes wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Bytes that are not what they should be.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A signature does not match, or nobody trusted has signed.
    #[error("{0}")]
    Untrusted(String),
    /// The system's random source or the signing itself failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
