//! The file that configures image registries, in the form that k3s gave it.

use std::{collections::BTreeMap, io, path::Path};

use runtime::{Credential, RegistryConfig};
use serde::Deserialize;

/// Why the file was not taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}: {why}")]
pub(crate) struct RegistriesError {
    path: String,
    why: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, Registry>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Mirror {
    endpoint: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Registry {
    auth: Auth,
    tls: Tls,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    username: String,
    password: String,
    identity_token: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    ca_file: Option<String>,
    insecure_skip_verify: bool,
}

/// Reads the file; where there is none, nothing is configured.
pub(crate) fn read(path: &Path) -> Result<RegistryConfig, RegistriesError> {
    let failed = |why: String| RegistriesError { path: path.display().to_string(), why };
    let content = match std::fs::read_to_string(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(RegistryConfig::default());
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    parse(&content).map_err(failed)
}

fn parse(content: &str) -> Result<RegistryConfig, String> {
    let file: Option<File> = serde_saphyr::from_str(content).map_err(|error| error.to_string())?;
    let file = file.unwrap_or_default();
    let mut config = RegistryConfig::default();
    for (host, mirror) in file.mirrors {
        let mut addresses = mirror.endpoint;
        // That a registry is its own mirror is how one says that it speaks plain HTTP.
        let own = format!("http://{host}");
        if addresses.iter().any(|address| address.trim_end_matches('/') == own) {
            config.plain_http.push(host.clone());
            addresses.retain(|address| address.trim_end_matches('/') != own);
        }
        if !addresses.is_empty() {
            config.mirrors.insert(host, addresses);
        }
    }
    for (host, Registry { auth, tls }) in file.configs {
        if let Some(path) = tls.ca_file {
            let pem = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            config.ca.insert(host.clone(), pem);
        }
        if tls.insecure_skip_verify {
            config.insecure.push(host.clone());
        }
        let credential = Credential {
            username: auth.username,
            password: auth.password,
            identity_token: auth.identity_token,
            registry_token: String::new(),
        };
        if credential != Credential::default() {
            config.auth.insert(host, credential);
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_k3s_reads_is_read() {
        let config = parse(
            "mirrors:\n  docker.io: {endpoint: [https://mirror.lan]}\n  \
             'r.lan:5000': {endpoint: ['http://r.lan:5000']}\n\
             configs:\n  r.lan:5000:\n    auth: {username: me, password: secret}\n    \
             tls: {insecure_skip_verify: true}\n",
        )
        .unwrap();
        assert_eq!(config.mirrors["docker.io"], ["https://mirror.lan"]);
        assert!(!config.mirrors.contains_key("r.lan:5000"));
        assert_eq!(
            (config.plain_http, config.insecure),
            (vec!["r.lan:5000".into()], vec!["r.lan:5000".into()])
        );
        assert_eq!(config.auth["r.lan:5000"].username, "me");
        assert!(parse("").unwrap().mirrors.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("mirrors: {docker.io: {rewrite: {a: b}}}").unwrap_err().contains("rewrite"));
        assert!(parse("[]").is_err());
    }
}
