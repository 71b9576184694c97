//! The header fields that a proxy has to change: those that end at it, and those that tell the
//! backend who its client is.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What only a proxy may say: from anyone else it is forged.
const OF_PROXIES: [HeaderName; 12] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_PROTO,
    X_REAL_IP,
    HeaderName::from_static("x-forwarded-by"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-original-forwarded-for"),
];

/// Who a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) peer: IpAddr,
    /// Whether the peer is a proxy that says the truth about its own client.
    pub(crate) trusted: bool,
    pub(crate) tls: bool,
    pub(crate) port: u16,
    /// The host as the client wrote it.
    pub(crate) authority: &'a str,
}

/// Removes what is meant for the next hop only (RFC 9110, 7.6.1).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
}

/// The protocol that a request asks to switch to.
pub(crate) fn wanted_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    let asks = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    // Nobody upgrades to HTTP/2 this way any more (RFC 9113, 3.1), and it must not be passed on.
    let obsolete = wanted.as_bytes().eq_ignore_ascii_case(b"h2c");
    (version == Version::HTTP_11 && asks && !obsolete).then(|| wanted.clone())
}

/// Makes a client's header fields those of the request to the backend.
pub(crate) fn prepare(headers: &mut HeaderMap, origin: Origin<'_>) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The proxy itself says "100 Continue", when the backend begins to take the body.
    headers.remove(EXPECT);
    remove_lookalikes(headers);
    if !origin.trusted {
        for name in OF_PROXIES {
            headers.remove(name);
        }
    }
    let peer = origin.peer.to_string();
    let chain: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .chain([peer.as_str()])
        .collect();
    let chain = chain.join(", ");
    insert(headers, X_FORWARDED_FOR, &chain, true);
    insert(headers, X_REAL_IP, &peer, false);
    insert(headers, X_FORWARDED_PROTO, if origin.tls { "https" } else { "http" }, false);
    insert(headers, X_FORWARDED_PORT, &origin.port.to_string(), false);
    insert(headers, X_FORWARDED_HOST, origin.authority, false);
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str, replace: bool) {
    if !replace && headers.contains_key(&name) {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// CGI and its descendants take `X_Forwarded_For` for `X-Forwarded-For`.
fn remove_lookalikes(headers: &mut HeaderMap) {
    let lookalike = |name: &&HeaderName| {
        name.as_str().contains('_') && {
            let meant = name.as_str().replace('_', "-");
            OF_PROXIES.iter().any(|of_proxy| of_proxy.as_str() == meant)
        }
    };
    let names: Vec<HeaderName> = headers.keys().filter(lookalike).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Joins the cookies that HTTP/2 allows to be sent apart (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn prepared(lines: &[(&str, &str)], trusted: bool) -> HeaderMap {
        let mut headers = headers(lines);
        let peer = "192.0.2.7".parse().unwrap();
        let origin = Origin { peer, trusted, tls: true, port: 443, authority: "a.example:443" };
        prepare(&mut headers, origin);
        headers
    }

    #[test]
    fn strangers_do_not_say_who_they_are() {
        let forged = [
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("x-real-ip", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_for", "10.0.0.1"),
            ("x_other", "stays"),
        ];
        let headers = prepared(&forged, false);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-real-ip"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-port"], "443");
        assert_eq!(headers["x-forwarded-host"], "a.example:443");
        assert_eq!(headers["x_other"], "stays");
        assert_eq!(headers.len(), 6);
    }

    #[test]
    fn trusted_proxies_do() {
        let sent = [
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "10.0.0.1"),
        ];
        let headers = prepared(&sent, true);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-real-ip"], "10.0.0.1");
        assert_eq!(headers["forwarded"], "for=10.0.0.1");
    }

    #[test]
    fn what_ends_here() {
        let sent = [
            ("connection", "close, X-Private"),
            ("connection", "host, x-forwarded-for"),
            ("host", "a.example"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("trailer", "grpc-status"),
            ("authorization", "Bearer x"),
        ];
        let headers = prepared(&sent, false);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["trailer"], "grpc-status");
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["host"], "a.example");
        assert_eq!(headers.len(), 4 + 5);
        assert!(!prepared(&[("te", "gzip")], false).contains_key("te"));
    }

    #[test]
    fn upgrades() {
        let wanted = |lines: &[(&str, &str)], version| wanted_upgrade(&headers(lines), version);
        let websocket = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(wanted(&websocket, Version::HTTP_11).unwrap(), "websocket");
        assert!(wanted(&websocket, Version::HTTP_10).is_none());
        assert!(wanted(&[("upgrade", "websocket")], Version::HTTP_11).is_none());
        let h2c = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")];
        assert!(wanted(&h2c, Version::HTTP_11).is_none());
    }

    #[test]
    fn cookies() {
        let mut apart = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("x", "y")]);
        join_cookies(&mut apart);
        assert_eq!(apart["cookie"], "a=1; b=2");
        assert_eq!(apart.len(), 2);
    }
}
