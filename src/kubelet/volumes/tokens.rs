//! Tokens of service accounts for projected volumes, kept until it is time for new ones.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use client::Client;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::podspec::PodExt;

/// A token is not kept for longer, whatever its lifetime.
const MAX_AGE: i64 = 24 * 3600;
/// The lifetime asked for when the pod names none.
const DEFAULT_LIFETIME: i64 = 3600;
/// Nodes do not renew all tokens at the same moment.
const MAX_JITTER: i64 = 10;

/// A token and when to ask for the next one.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) refresh: Timestamp,
    expires: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    account: String,
    audience: String,
    lifetime: i64,
}

/// The tokens in use on this node.
pub(crate) struct Tokens {
    client: Client,
    cache: Mutex<HashMap<Key, Token>>,
}

#[derive(Deserialize)]
struct Answer {
    spec: AnswerSpec,
    status: AnswerStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerSpec {
    #[serde(default)]
    expiration_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerStatus {
    token: String,
    expiration_timestamp: Timestamp,
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, cache: Mutex::default() }
    }

    /// The token that a pod's volume is to hold now.
    pub(crate) async fn get(
        &self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<Token, String> {
        let key = Key {
            pod: pod.uid().to_owned(),
            account: pod
                .spec_or_empty()
                .service_account_name
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            audience: projection.audience.clone().unwrap_or_default(),
            lifetime: projection.expiration_seconds.unwrap_or(DEFAULT_LIFETIME),
        };
        let now = Timestamp::now();
        let cached = self.lock().get(&key).cloned();
        if let Some(token) = cached.as_ref().filter(|token| now < token.refresh) {
            return Ok(token.clone());
        }
        match self.request(pod, &key).await {
            Ok(token) => {
                self.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(why) => match cached.filter(|token| now < token.expires) {
                Some(mut token) => {
                    warn!(pod = %pod.full_name(), why, "token not renewed, the old one is kept");
                    token.refresh = now + Duration::from_secs(10);
                    Ok(token)
                }
                None => Err(format!("failed to fetch token: {why}")),
            },
        }
    }

    /// Forgets the tokens of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|key, _| key.pod != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Token>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, pod: &Pod, key: &Key) -> Result<Token, String> {
        let audiences: Vec<&str> =
            Some(key.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": key.lifetime,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod.name(),
                    "uid": pod.uid(),
                },
            },
        });
        let path =
            format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", pod.namespace(), key.account);
        let answer = crate::requests::post(&self.client, &path, &body).await?;
        let answer: Answer =
            serde_json::from_value::<Answer>(answer).map_err(|error| error.to_string())?;
        let lifetime = answer.spec.expiration_seconds.unwrap_or(key.lifetime);
        let expires = answer.status.expiration_timestamp;
        Ok(Token { text: answer.status.token, refresh: refresh(expires, lifetime), expires })
    }
}

/// When a fifth of the lifetime is left, and no later than a day after the issue.
fn refresh(expires: Timestamp, lifetime: i64) -> Timestamp {
    let issued = expires.as_second() - lifetime;
    let due = (expires.as_second() - lifetime / 5).min(issued + MAX_AGE);
    let jitter = rand::random_range(0..=MAX_JITTER);
    Timestamp::from_second(due - jitter).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_before_a_fifth_is_left() {
        let issued = 1_000_000;
        let at = |lifetime: i64| {
            let expires = Timestamp::from_second(issued + lifetime).unwrap();
            refresh(expires, lifetime).as_second() - issued
        };
        assert!((2870..=2880).contains(&at(3600)), "{}", at(3600));
        assert!((86390..=86400).contains(&at(31_536_000)));
    }
}
