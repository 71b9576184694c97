//! Request paths and hosts in the form that rules are compared with.

use std::borrow::Cow;

/// Resolves dot segments, also in their percent-encoded form, as clients should have done
/// (RFC 3986, 6.2.2.3). A backend that resolves them itself would otherwise see another path than
/// the rules did.
pub(crate) fn without_dot_segments(path: &str) -> Cow<'_, str> {
    if !path.split('/').any(|segment| dots(segment) > 0) {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = true;
        match dots(segment) {
            0 => {
                kept.push(segment);
                open = false;
            }
            1 => {}
            _ => {
                kept.pop();
            }
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if open || resolved.is_empty() {
        resolved.push('/');
    }
    Cow::Owned(resolved)
}

/// 1 for `.`, 2 for `..`, and 0 for everything else.
fn dots(segment: &str) -> usize {
    let mut rest = segment.as_bytes();
    let mut count = 0;
    loop {
        rest = match rest {
            [] if count <= 2 => return count,
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return 0,
        };
        count += 1;
    }
}

/// A host without port and final dot, in lower case.
pub(crate) fn host_of(authority: &str) -> Cow<'_, str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The wildcard that a host falls under: exactly one label may stand for the star.
pub(crate) fn wildcard_of(host: &str) -> Option<String> {
    let (label, domain) = host.split_once('.')?;
    (!label.is_empty() && !domain.is_empty()).then(|| format!("*.{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments() {
        let cases = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            ("/a//b", "/a//b"),
            ("/a/b%2f..", "/a/b%2f.."),
        ];
        for (path, expected) in cases {
            assert_eq!(without_dot_segments(path), expected, "{path}");
        }
    }

    #[test]
    fn hosts() {
        let cases = [
            ("example.com", "example.com"),
            ("Example.COM:8443", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("[fd00::1]:80", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("", ""),
        ];
        for (authority, expected) in cases {
            assert_eq!(host_of(authority), expected, "{authority}");
        }
    }

    #[test]
    fn wildcards() {
        assert_eq!(wildcard_of("a.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(wildcard_of("localhost"), None);
        assert_eq!(wildcard_of(".com"), None);
        assert_eq!(wildcard_of("a."), None);
    }
}
