//! Names of images: `[host[:port]/]path[:tag][@digest]`.

/// The parts of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// Host and port of the registry; `docker.io` when the name has none.
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

const INVALID: &str = "invalid reference format";

/// Takes a name apart.
pub(super) fn parse(name: &str) -> Result<Name<'_>, &'static str> {
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let (rest, tag) = match rest.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
        _ => (rest, None),
    };
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", rest),
    };
    if rest.is_empty() || path.is_empty() {
        return Err(INVALID);
    }
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return Err("invalid reference format: repository name must be lowercase");
    }
    if !path.split('/').all(is_component) {
        return Err(INVALID);
    }
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c)) {
        return Err(INVALID);
    }
    let tag_char = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if tag.is_some_and(|tag| {
        tag.is_empty()
            || tag.len() > 128
            || tag.starts_with(['.', '-'])
            || !tag.chars().all(tag_char)
    }) {
        return Err(INVALID);
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(INVALID);
    }
    Ok(Name { host, path, tag, digest })
}

/// Lower case letters and digits, with single `.` or `_`, two `_` or any number of `-` in between.
fn is_component(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.chars().all(|c| c == '-');
    part.starts_with(plain) && part.ends_with(plain) && part.split(plain).all(separator)
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

/// The full name: `docker.io/library/busybox:latest` for `busybox`. Names by digest lose their tag.
pub(crate) fn full(name: &str) -> Option<String> {
    let Name { host, path, tag, digest } = parse(name).ok()?;
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    Some(match digest {
        Some(digest) => format!("{host}/{library}{path}@{digest}"),
        None => format!("{host}/{library}{path}:{}", tag.unwrap_or("latest")),
    })
}

/// Why a name is none.
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    parse(name).map(drop)
}

/// The pull policy of a container that names none: Always for `latest`.
pub(super) fn default_policy(name: &str) -> &'static str {
    match parse(name) {
        Ok(Name { digest: None, tag: None | Some("latest"), .. }) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = parse("localhost:5000/a/b:1.0").unwrap();
        assert_eq!((name.host, name.path, name.tag), ("localhost:5000", "a/b", Some("1.0")));
        let name = parse("busybox").unwrap();
        assert_eq!((name.host, name.path, name.tag), ("docker.io", "busybox", None));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parse(&format!("x/y@{digest}")).unwrap().digest, Some(digest.as_str()));
        for bad in ["", "Busybox", "a b", "a:", "a/", "a//b", "a@sha256:x", "-a", "a_.b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(full("busybox").as_deref(), Some("docker.io/library/busybox:latest"));
        assert_eq!(full("quay.io/a:1").as_deref(), Some("quay.io/a:1"));
        assert_eq!(default_policy("a"), "Always");
        assert_eq!(default_policy("a:latest"), "Always");
        assert_eq!(default_policy("a:1"), "IfNotPresent");
    }
}
