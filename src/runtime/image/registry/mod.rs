//! A client of image registries (the distribution API), as far as pulling needs it.

mod auth;
mod endpoint;
mod proxy;
mod transport;

use std::collections::HashMap;
use std::sync::Mutex;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};

use super::manifest::ACCEPT;
use super::reference::Reference;
use super::stream::digest;
use crate::config::{Credential, RegistryConfig};
use crate::sync::lock;
pub(super) use endpoint::Endpoint;
use transport::Transport;

/// Largest manifest or configuration.
const MAX_SMALL: usize = 8 << 20;
const MAX_REDIRECTS: usize = 5;

/// Why a registry did not give what was asked for.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    Unauthorized,
    Unavailable,
    Invalid,
}

impl Refusal {
    fn new(kind: Kind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into() }
    }
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(Kind::Invalid, message)
    }
    pub(super) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::new(Kind::Unavailable, message)
    }
}

/// A manifest as it came.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) bytes: Bytes,
    pub(super) digest: String,
}

/// Registries, with what was learned about them.
#[derive(Debug)]
pub(super) struct Registries {
    config: RegistryConfig,
    transport: Transport,
}

/// One repository of one registry, for one pull with one credential.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    registries: &'a Registries,
    endpoint: Endpoint,
    repository: String,
    credential: Option<Credential>,
    /// The Authorization header that was last accepted, by host.
    authorization: Mutex<HashMap<String, String>>,
}

impl Registries {
    pub(super) fn new(config: RegistryConfig) -> Registries {
        Registries { transport: Transport::new(&config), config }
    }

    /// Where to look for an image, in order.
    pub(super) fn endpoints(&self, host: &str) -> Vec<Endpoint> {
        endpoint::endpoints(&self.config, host)
    }

    /// The credential of the configuration for a host.
    pub(super) fn credential(&self, host: &str) -> Option<Credential> {
        self.config.auth.get(host).cloned()
    }

    pub(super) fn repository(
        &self,
        endpoint: Endpoint,
        reference: &Reference,
        credential: Option<Credential>,
    ) -> Repository<'_> {
        Repository {
            registries: self,
            endpoint,
            repository: reference.repository.clone(),
            credential,
            authorization: Mutex::default(),
        }
    }
}

impl Repository<'_> {
    /// A manifest or index by tag or digest. What was asked for by digest has it.
    pub(super) async fn manifest(&self, target: &str) -> Result<Raw, Refusal> {
        let bytes = self.small("manifests", target).await?;
        let digest = digest(&bytes);
        if target.starts_with("sha256:") && target != digest {
            return Err(Refusal::invalid(format!("manifest {target} has digest {digest}")));
        }
        Ok(Raw { bytes, digest })
    }

    /// A small blob, which has its digest.
    pub(super) async fn small_blob(&self, wanted: &str) -> Result<Bytes, Refusal> {
        let bytes = self.small("blobs", wanted).await?;
        let got = digest(&bytes);
        if got != wanted {
            return Err(Refusal::invalid(format!("blob {wanted} has digest {got}")));
        }
        Ok(bytes)
    }

    async fn small(&self, kind: &str, target: &str) -> Result<Bytes, Refusal> {
        let response = self.get(kind, target, 0).await?;
        let limited = http_body_util::Limited::new(response.into_body(), MAX_SMALL);
        let body = transport::in_time("response body", limited.collect()).await?;
        body.map(|b| b.to_bytes()).map_err(|e| Refusal::unavailable(e.to_string()))
    }

    /// The bytes of a blob from an offset on. The flag says whether the answer begins there; a
    /// registry without ranges begins at the start.
    pub(super) async fn blob(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<(Incoming, bool), Refusal> {
        let response = self.get("blobs", digest, offset).await?;
        let ranged = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok((response.into_body(), ranged || offset == 0))
    }

    async fn get(
        &self,
        kind: &str,
        target: &str,
        offset: u64,
    ) -> Result<Response<Incoming>, Refusal> {
        let mut url = self.endpoint.url(&self.repository, kind, target);
        let mut asked = false;
        let mut redirects = 0;
        loop {
            let authorization = lock(&self.authorization).get(&url.authority).cloned();
            let mut request = Request::builder()
                .method(Method::GET)
                .uri(url.path_and_query.as_str())
                .header(header::HOST, &url.authority)
                .header(header::USER_AGENT, "knarr")
                .header(header::ACCEPT, if kind == "manifests" { ACCEPT } else { "*/*" });
            if offset > 0 {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
            }
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request
                .body(Empty::new())
                .map_err(|e| Refusal::invalid(format!("request for {url}: {e}")))?;
            let response = self.registries.transport.send(&url, request).await?;
            let status = response.status();
            if status.is_redirection() {
                redirects += 1;
                let location = text(response.headers(), header::LOCATION);
                let next = location.and_then(|to| url.join(&to));
                url = next
                    .filter(|_| redirects <= MAX_REDIRECTS)
                    .ok_or_else(|| Refusal::unavailable(format!("{url}: bad redirect")))?;
                continue;
            }
            // Only the registry itself is answered with a secret, and only once.
            if status == StatusCode::UNAUTHORIZED && !asked && redirects == 0 {
                asked = true;
                let challenge = text(response.headers(), header::WWW_AUTHENTICATE);
                let answer = self.authorize(challenge.as_deref().unwrap_or("")).await?;
                lock(&self.authorization).insert(url.authority.clone(), answer);
                continue;
            }
            return check(&url, response);
        }
    }

    /// The Authorization header that answers a challenge.
    async fn authorize(&self, challenge: &str) -> Result<String, Refusal> {
        let denied = || {
            let name = &self.repository;
            let message = format!(
                "pull access denied, repository {name} does not exist or may require \
                 authorization: authorization failed: no basic auth credentials"
            );
            Refusal::new(Kind::Unauthorized, message)
        };
        let credential = self.credential.as_ref();
        match auth::Challenge::parse(challenge) {
            Some(auth::Challenge::Basic) => credential.and_then(auth::basic).ok_or_else(denied),
            Some(auth::Challenge::Bearer { realm, service, scope }) => {
                if let Some(token) = credential.filter(|c| !c.registry_token.is_empty()) {
                    return Ok(format!("Bearer {}", token.registry_token));
                }
                let scope = scope.unwrap_or(format!("repository:{}:pull", self.repository));
                let transport = &self.registries.transport;
                auth::token(transport, &realm, service.as_deref(), &scope, credential).await
            }
            None => Err(denied()),
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Sorts the answers that are refusals.
fn check(url: &endpoint::Url, response: Response<Incoming>) -> Result<Response<Incoming>, Refusal> {
    let status = response.status();
    let unexpected = || format!("unexpected status from GET request to {url}: {status}");
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        StatusCode::NOT_FOUND => Err(Refusal::new(Kind::NotFound, "not found")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Refusal::new(Kind::Unauthorized, unexpected()))
        }
        _ => Err(Refusal::unavailable(unexpected())),
    }
}
