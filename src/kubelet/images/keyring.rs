//! Credentials for registries from docker configurations.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use runtime::Credential;
use serde::Deserialize;

use super::name;

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Credentials with the registries and paths that they are for.
#[derive(Default)]
pub(super) struct Keyring {
    entries: Vec<(String, Credential)>,
}

impl Keyring {
    /// Adds what a `.dockerconfigjson` or `.dockercfg` holds. What cannot be read is left out: the
    /// pull may succeed without it, and says so if it does not.
    pub(super) fn add(&mut self, json: &[u8]) {
        let auths = serde_json::from_slice::<Config>(json)
            .map(|config| config.auths)
            .or_else(|_| serde_json::from_slice::<BTreeMap<String, Entry>>(json));
        for (registry, entry) in auths.unwrap_or_default() {
            let mut credential = Credential {
                username: entry.username,
                password: entry.password,
                identity_token: entry.identitytoken,
                registry_token: entry.registrytoken,
            };
            let decoded = STANDARD.decode(entry.auth.trim()).unwrap_or_default();
            if let Some((user, password)) =
                String::from_utf8(decoded).ok().as_deref().and_then(|text| text.split_once(':'))
            {
                user.clone_into(&mut credential.username);
                password.trim_end_matches('\0').clone_into(&mut credential.password);
            }
            self.entries.push((pattern(&registry), credential));
        }
    }

    /// The credentials for an image, those for the longest path first.
    pub(super) fn lookup(&self, image: &str) -> Vec<Credential> {
        let Ok(name) = name::parse(image) else { return Vec::new() };
        let mut found: Vec<_> =
            self.entries.iter().filter(|(pattern, _)| matches(pattern, &name)).collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        let mut credentials = Vec::new();
        for (_, credential) in found {
            if !credentials.contains(credential) {
                credentials.push(credential.clone());
            }
        }
        credentials
    }
}

/// `https://index.docker.io/v1/` as `docker.io`, other registries without scheme and API version.
fn pattern(registry: &str) -> String {
    let text = registry.strip_prefix("https://").unwrap_or(registry);
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    match path {
        "" | "v1" | "v2" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

fn matches(pattern: &str, name: &name::Name<'_>) -> bool {
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let split = |text: &str| -> (String, String) {
        match text.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), port.to_owned()),
            None => (text.to_owned(), String::new()),
        }
    };
    let ((host, port), (own_host, own_port)) = (split(host), split(name.host));
    let parts: Vec<&str> = host.split('.').collect();
    let own: Vec<&str> = own_host.split('.').collect();
    port == own_port
        && parts.len() == own.len()
        && parts.iter().zip(own).all(|(part, own)| glob(part, own))
        && name.path.starts_with(path)
}

/// A pattern with `*` for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && glob(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_counts_first() {
        let mut keyring = Keyring::default();
        keyring.add(
            br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
                "reg.local:5000": {"username": "all", "password": "1"},
                "reg.local:5000/team": {"username": "team", "password": "2"},
                "*.cloud.test": {"username": "any", "password": "3"}}}"#,
        );
        let users = |image: &str| -> Vec<String> {
            keyring.lookup(image).into_iter().map(|c| c.username).collect()
        };
        assert_eq!(users("busybox"), ["u"]);
        assert_eq!(users("reg.local:5000/team/app:1"), ["team", "all"]);
        assert_eq!(users("reg.local:5000/other"), ["all"]);
        assert_eq!(users("eu.cloud.test/x"), ["any"]);
        assert!(users("a.b.cloud.test/x").is_empty());
        assert!(users("reg.local/team").is_empty());
    }

    #[test]
    fn the_old_format() {
        let mut keyring = Keyring::default();
        keyring.add(br#"{"reg.local": {"auth": "YTpiOmM="}}"#);
        let found = keyring.lookup("reg.local/x");
        assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("a", "b:c"));
    }
}
