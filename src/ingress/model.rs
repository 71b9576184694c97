//! What the agent tells the proxy: plain rules and addresses, without a Kubernetes type in sight.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Settings of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Proxies in front of this one, whose word about the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections of clients that are served at the same time; more wait to be accepted.
    pub max_connections: u32,
    /// Seconds that a backend may take until its answer begins.
    pub response_timeout: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { trusted_proxies: Vec::new(), max_connections: 4096, response_timeout: 300 }
    }
}

/// One change.
///
/// After a reconnect the agent begins a new generation on the receiving proxy and sends everything
/// again; [`Update::Synced`] then drops what was not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Update {
    /// An Ingress is there, or has changed.
    Ingress(Ingress),
    /// An Ingress is gone, or no longer ours.
    RemoveIngress {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A service that an Ingress names is there, or it or its endpoints have changed.
    Service(Service),
    /// A service is gone, or no longer named by any Ingress.
    RemoveService {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A certificate that an Ingress names is there, or has changed.
    Certificate(Certificate),
    /// A certificate is gone, or no longer named by any Ingress.
    RemoveCertificate {
        /// The namespace of its Secret.
        namespace: String,
        /// The name of its Secret.
        name: String,
    },
    /// What hosts get that have no certificate of their own; its namespace and name are empty.
    DefaultCertificate(Certificate),
    /// Everything there is has been sent.
    Synced,
}

/// The rules of one Ingress.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// Its namespace, in which its services and secrets are too.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Unix time of its creation: of two equal rules the older one holds.
    pub created: i64,
    /// The rules.
    pub rules: Vec<Rule>,
    /// What serves requests that no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_backend: Option<Backend>,
    /// The certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<Tls>,
}

/// The paths of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// A host name in lower case, `*.` and a domain for any one label before it, or empty for all.
    pub host: String,
    /// The paths; without any the Ingress's default backend serves the host.
    pub paths: Vec<Path>,
}

/// One path and what serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The path, beginning with a slash.
    pub path: String,
    /// How a request's path is compared to it.
    pub kind: PathKind,
    /// What serves the requests that match.
    pub backend: Backend,
}

/// How paths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathKind {
    /// Byte by byte.
    Exact,
    /// Element by element, as many as the rule has.
    Prefix,
}

/// A port of a service in the Ingress's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The service's name.
    pub service: String,
    /// Which of its ports.
    pub port: PortRef,
}

/// How an Ingress names a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Which hosts a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Host names or wildcards in lower case.
    pub hosts: Vec<String>,
    /// The Secret in the Ingress's namespace that holds the certificate.
    pub secret: String,
}

/// A service and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a service and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; the only port of a service may have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its number.
    pub port: u16,
    /// What the endpoints speak.
    #[serde(default)]
    pub protocol: AppProtocol,
    /// The endpoints that get new requests.
    pub endpoints: Vec<SocketAddr>,
}

/// What a backend speaks, as its `appProtocol` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AppProtocol {
    /// HTTP/1.1 in clear text.
    #[default]
    Http,
    /// HTTP/2 in clear text, without an upgrade (`kubernetes.io/h2c`).
    H2c,
    /// HTTP/2 or HTTP/1.1 over TLS. The certificate is not verified: endpoints are addresses, and
    /// there is nothing that says who signs for them.
    Https,
}

/// A certificate and its key, from a Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub name: String,
    /// The certificate and those of its issuers, in PEM.
    pub chain: String,
    /// The private key, in PEM.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key does not belong in a log.
        f.debug_struct("Certificate")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How a namespaced object is named in maps and messages.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    let mut key = String::with_capacity(namespace.len() + 1 + name.len());
    key.push_str(namespace);
    key.push('/');
    key.push_str(name);
    key
}
