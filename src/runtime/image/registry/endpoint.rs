//! Addresses of registries and their mirrors.

use std::fmt;

use crate::config::RegistryConfig;

/// An address that requests go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// Host with port, as in the Host header.
    pub(super) authority: String,
    pub(super) path_and_query: String,
}

impl Url {
    /// Reads an `http://` or `https://` address.
    pub(super) fn parse(text: &str) -> Option<Url> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        let path = match path.strip_prefix('?') {
            Some(_) => format!("/{path}"),
            None if path.is_empty() => "/".to_owned(),
            None => path.to_owned(),
        };
        let path = path.split('#').next().unwrap_or("/").to_owned();
        Some(Url { tls, authority: authority.to_owned(), path_and_query: path })
    }

    /// Where a redirect from here leads. Never from TLS to plain text.
    pub(super) fn join(&self, location: &str) -> Option<Url> {
        let next = if let Some(rest) = location.strip_prefix("//") {
            Url::parse(&format!("{}{rest}", self.scheme()))?
        } else if location.starts_with('/') {
            Url { path_and_query: location.to_owned(), ..self.clone() }
        } else {
            Url::parse(location)?
        };
        (next.tls || !self.tls).then_some(next)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https://" } else { "http://" }
    }

    /// Host without port, and port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        let default = if self.tls { 443 } else { 80 };
        let (host, port) = split_port(&self.authority);
        (host, port.and_then(|p| p.parse().ok()).unwrap_or(default))
    }
}

/// Splits a port off, minding the colons of IPv6 addresses in brackets, which are taken off.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.scheme(), self.authority, self.path_and_query)
    }
}

/// A registry or a mirror of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    base: Url,
    /// The registry that a mirror for several has to be told (`ns=`), as containerd does.
    mirrors: Option<String>,
}

impl Endpoint {
    pub(super) fn url(&self, repository: &str, kind: &str, target: &str) -> Url {
        let base = self.base.path_and_query.trim_end_matches('/');
        let base = base.strip_suffix("/v2").unwrap_or(base);
        let mut path = format!("{base}/v2/{repository}/{kind}/{target}");
        if let Some(host) = &self.mirrors {
            path.push_str("?ns=");
            path.push_str(host);
        }
        Url { path_and_query: path, ..self.base.clone() }
    }

    /// Whether this is a mirror.
    pub(crate) fn is_mirror(&self) -> bool {
        self.mirrors.is_some()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base.authority)
    }
}

/// Whether a host speaks plain HTTP: it says so in the configuration, or it is this machine.
fn is_plain(config: &RegistryConfig, host: &str) -> bool {
    let (name, _) = split_port(host);
    let local = name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    local || config.plain_http.iter().any(|plain| plain == host || plain == name)
}

/// The places to try for a registry, in order: its mirrors, then itself.
pub(super) fn endpoints(config: &RegistryConfig, host: &str) -> Vec<Endpoint> {
    let mirrors = config.mirrors.get(host).or_else(|| config.mirrors.get("*"));
    let mut all: Vec<Endpoint> = mirrors
        .into_iter()
        .flatten()
        .filter_map(|address| {
            let complete = if address.contains("://") {
                address.clone()
            } else if is_plain(config, address) {
                format!("http://{address}")
            } else {
                format!("https://{address}")
            };
            Some(Endpoint { base: Url::parse(&complete)?, mirrors: Some(host.to_owned()) })
        })
        .collect();
    // The name is not the address of docker's registry.
    let authority = if host == "docker.io" { "registry-1.docker.io" } else { host };
    all.push(Endpoint {
        base: Url {
            tls: !is_plain(config, host),
            authority: authority.to_owned(),
            path_and_query: "/".to_owned(),
        },
        mirrors: None,
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url = Url::parse("https://r.io:5000/a/b?x=1#f").unwrap();
        assert_eq!(url.to_string(), "https://r.io:5000/a/b?x=1");
        assert_eq!(url.host_and_port(), ("r.io", 5000));
        assert_eq!(Url::parse("http://[::1]/").unwrap().host_and_port(), ("::1", 80));
        assert_eq!(url.join("/c").unwrap().to_string(), "https://r.io:5000/c");
        assert_eq!(url.join("https://cdn/x").unwrap().to_string(), "https://cdn/x");
        assert_eq!(url.join("//cdn/x").unwrap().to_string(), "https://cdn/x");
        assert_eq!(url.join("http://cdn/x"), None, "not from TLS to plain text");
        for bad in ["ftp://x", "https://", "https://user@host/"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let mut config = RegistryConfig { plain_http: vec!["r.lan".into()], ..Default::default() };
        config.mirrors.insert("docker.io".into(), vec!["https://m/base/v2".into(), "r.lan".into()]);
        let urls = |host: &str| -> Vec<String> {
            let all = endpoints(&config, host);
            all.iter().map(|e| e.url("library/x", "manifests", "t").to_string()).collect()
        };
        assert_eq!(
            urls("docker.io"),
            [
                "https://m/base/v2/library/x/manifests/t?ns=docker.io",
                "http://r.lan/v2/library/x/manifests/t?ns=docker.io",
                "https://registry-1.docker.io/v2/library/x/manifests/t",
            ]
        );
        assert_eq!(urls("127.0.0.1:5000"), ["http://127.0.0.1:5000/v2/library/x/manifests/t"]);
        assert_eq!(urls("quay.io"), ["https://quay.io/v2/library/x/manifests/t"]);
    }
}
