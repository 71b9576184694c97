//! Names of images, as docker and containerd read them.

use std::fmt;

/// Where short names come from.
const DEFAULT_HOST: &str = "docker.io";

/// A complete image name: registry, repository, and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub(crate) host: String,
    /// `library/nginx`.
    pub(crate) repository: String,
    /// `latest`.
    pub(crate) tag: Option<String>,
    /// `sha256:…`.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a name; `nginx` is `docker.io/library/nginx:latest`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Reference, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err("invalid digest format");
        }
        let (host, rest) = match rest.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, rest)
            }
            _ => (DEFAULT_HOST, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("repository name must be lowercase");
        }
        if !is_host(host)
            || !repository.split('/').all(is_component)
            || tag.is_some_and(|t| !is_tag(t))
        {
            return Err("invalid reference format");
        }
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if repository.len() > 255 {
            return Err("repository name must not be more than 255 characters");
        }
        let default = digest.is_none().then_some("latest");
        Ok(Reference {
            host: host.to_owned(),
            repository,
            tag: tag.or(default).map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Registry and repository.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The name with its tag alone.
    pub(crate) fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// The name with a digest alone.
    pub(crate) fn with_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub(crate) fn target(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether a text is a sha256 digest, the only kind that is used.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, port)) => {
            if !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            ("v6", port.strip_prefix(':').or((!port.is_empty()).then_some("x")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

/// Lower case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(plain) || !bytes.last().is_some_and(plain) {
        return false;
    }
    bytes.split(plain).filter(|s| !s.is_empty()).all(|separator| {
        matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_short_and_long() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, want) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.2", "docker.io/library/nginx:1.2".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("index.docker.io/b", "docker.io/library/b:latest".to_owned()),
            ("localhost/b", "localhost/b:latest".to_owned()),
            ("localhost:5000/b:x", "localhost:5000/b:x".to_owned()),
            ("[::1]:5000/b", "[::1]:5000/b:latest".to_owned()),
            ("registry.k8s.io/e2e/a__b-c.d:V1", "registry.k8s.io/e2e/a__b-c.d:V1".to_owned()),
            (&format!("q.io/b@sha256:{hex}"), format!("q.io/b@sha256:{hex}")),
            (&format!("q.io/b:t@sha256:{hex}"), format!("q.io/b:t@sha256:{hex}")),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), want, "{text}");
            assert_eq!(Reference::parse(&want).unwrap(), reference);
        }
    }

    #[test]
    fn names_that_are_none() {
        for bad in [
            "",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "a:",
            ":a",
            "a b",
            "a@sha256:12",
            "a@md5:x",
            "-a",
            "a..b",
            "a___b",
            "q.io/",
            "q.io:x/a",
            "a:-t",
            "../a",
            "a:t:u",
            "[x]/a",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
