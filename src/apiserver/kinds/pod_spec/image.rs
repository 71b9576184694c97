//! References of images, as far as the default of their pull policy goes.

/// The pull policy of an image for which none is given.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if tag(image).as_deref() == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag of an image, which is `latest` where there is neither tag nor digest. `None` when the
/// reference is none.
fn tag(image: &str) -> Option<String> {
    if image.len() == 64 && image.bytes().all(|b| matches!(b, b'a'..=b'f' | b'0'..=b'9')) {
        return None;
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].split_once(':') {
        Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
        None => (rest, None),
    };
    let path = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => {
            if !valid_domain(first) {
                return None;
            }
            path
        }
        _ => name,
    };
    let valid = path.split('/').all(valid_component)
        && name.len() <= 255
        && tag.is_none_or(valid_tag)
        && digest.is_none_or(valid_digest);
    match (tag, digest) {
        _ if !valid => None,
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => Some(String::new()),
        (None, None) => Some("latest".to_owned()),
    }
}

/// Whether the first part of a name is where it comes from, and not part of the path.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first
}

fn valid_domain(domain: &str) -> bool {
    let (host, port) = domain.split_once(':').unwrap_or((domain, "0"));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower case letters and digits, with `.`, `_`, `__` or dashes between them.
fn valid_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let words: Vec<&str> = component.split(|c: char| !c.is_ascii() || word(c as u8)).collect();
    let separators = words.iter().filter(|part| !part.is_empty());
    let edges = component.bytes().next().is_some_and(word)
        && component.bytes().next_back().is_some_and(word);
    let good = |part: &&&str| matches!(**part, "." | "_" | "__") || part.bytes().all(|b| b == b'-');
    edges && component.is_ascii() && separators.into_iter().all(|part| good(&part))
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn valid_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_is_always_pulled() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for image in ["a", "a:latest", "r.example:5000/a/b_c", "localhost/a", "A/b", "a--b/c__d.e"]
        {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        assert_eq!(pull_policy(&format!("a:latest@{digest}")), "Always");
        for image in [
            "a:1",
            "",
            "Not Valid!",
            "-a",
            "UPPER",
            "a/",
            "a..b",
            "a:",
            "a@x",
            "r.example:x/a",
            "ü",
        ] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
        assert_eq!(pull_policy(&format!("a@{digest}")), "IfNotPresent");
        assert_eq!(pull_policy(&"a".repeat(64)), "IfNotPresent");
    }
}
