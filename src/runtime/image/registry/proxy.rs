//! HTTP proxies between a node and its registries, as the environment names them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::endpoint::Url;

/// Longest answer of a proxy to CONNECT.
const MAX_HEAD: usize = 16 << 10;

/// The proxies that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (or their lower-case forms) name.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    plain: Option<Proxy>,
    tls: Option<Proxy>,
    exceptions: Vec<String>,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) url: Url,
    authorization: Option<String>,
}

impl Proxies {
    pub(super) fn from_env() -> Proxies {
        Proxies::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            let value = lookup(name).or_else(|| lookup(&name.to_ascii_lowercase()));
            value.filter(|v| !v.is_empty())
        };
        let exceptions = either("NO_PROXY").unwrap_or_default();
        Proxies {
            plain: either("HTTP_PROXY").and_then(|text| Proxy::parse(&text)),
            tls: either("HTTPS_PROXY").and_then(|text| Proxy::parse(&text)),
            exceptions: exceptions.split(',').map(|e| e.trim().to_owned()).collect(),
        }
    }

    /// The proxy for an address. This machine itself never needs one.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let (host, _) = url.host_and_port();
        let local = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let excepted = |e: &String| {
            let domain = e.trim_start_matches("*.").trim_start_matches('.');
            e == "*"
                || !domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}")))
        };
        if local || self.exceptions.iter().any(excepted) {
            return None;
        }
        if url.tls { self.tls.as_ref() } else { self.plain.as_ref() }
    }
}

impl Proxy {
    fn parse(text: &str) -> Option<Proxy> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        if rest.contains("://") {
            return None;
        }
        let (secret, address) = match rest.rsplit_once('@') {
            Some((secret, address)) => (Some(secret), address),
            None => (None, rest),
        };
        let url = Url::parse(&format!("http://{}", address.trim_end_matches('/')))?;
        let authorization = secret.map(|s| format!("Basic {}", BASE64_STANDARD.encode(s)));
        Some(Proxy { url, authorization })
    }

    /// The header that a request through the proxy carries.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Has the proxy connect to a host, of which it then sees only bytes.
    pub(super) async fn tunnel(&self, stream: &mut TcpStream, url: &Url) -> Result<(), String> {
        let (host, port) = url.host_and_port();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        let failed = |e: std::io::Error| format!("proxyconnect tcp: {e}");
        stream.write_all(head.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the head belongs to the tunnel.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > MAX_HEAD {
                return Err("proxyconnect tcp: answer is too long".to_owned());
            }
            answer.push(stream.read_u8().await.map_err(failed)?);
        }
        let line = String::from_utf8_lossy(&answer);
        let line = line.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) == Some("200") {
            return Ok(());
        }
        Err(format!("proxyconnect tcp: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_by_address() {
        let env = |name: &str| {
            let value = match name {
                "https_proxy" => "http://u:p@proxy:3128/",
                "HTTP_PROXY" => "plain:80",
                "NO_PROXY" => "corp.lan, .example.org,10.0.0.1",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let proxies = Proxies::from_lookup(env);
        let of = |url: &str| {
            let url = Url::parse(url).unwrap();
            proxies.of(&url).map(|p| p.url.authority.clone())
        };
        assert_eq!(of("https://quay.io/"), Some("proxy:3128".into()));
        assert_eq!(of("http://quay.io/"), Some("plain:80".into()));
        let direct = [
            "https://corp.lan/",
            "https://r.corp.lan:5000/",
            "https://x.example.org/",
            "http://10.0.0.1/",
            "http://127.0.0.1:5000/",
            "http://localhost/",
        ];
        for url in direct {
            assert_eq!(of(url), None, "{url}");
        }
        assert_eq!(of("https://notcorp.lan.io/"), Some("proxy:3128".into()));
        let proxy = proxies.tls.unwrap();
        assert_eq!(proxy.authorization(), Some("Basic dTpw"));
        assert_eq!(Proxy::parse("socks5://x:1"), None);
        assert!(Proxies::from_lookup(|_| None).of(&Url::parse("https://q.io/").unwrap()).is_none());
    }
}
