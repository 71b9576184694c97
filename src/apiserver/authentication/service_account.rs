//! Service account tokens: bound to an account, and often to a pod, secret or node, whose end ends
//! the token too.
//!
//! The signature of a token is checked once and remembered by the token's hash; what it is bound to
//! is looked up in the store on every request, so that a deleted pod's token is refused at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use apimachinery::{GroupResource, Key, Object};
use pki::jwt::TokenKeys;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use storage::{Collection, Durability, OpenError, Store};

use super::now;
use crate::{kinds, request::UserInfo};

/// Signatures remembered. A node's kubelet and its pods hold about one token a pod.
const REMEMBERED: usize = 4096;
/// Objects on their way out still vouch for tokens this long (upstream's leeway), seconds.
const LEEWAY: i64 = 60;

/// What a token says: the claims of upstream's `pkg/serviceaccount`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is meant.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Unix seconds of its end.
    #[serde(default)]
    pub exp: i64,
    /// Unix seconds of its issue.
    #[serde(default)]
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its unique id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io", default)]
    pub bound: Bound,
    /// Unix seconds of its begin.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(default)]
    pub sub: String,
}

/// The private claims.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    /// Namespace of account, pod and secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The node of the pod, or the node bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The account.
    pub serviceaccount: Reference,
    /// Unix seconds from when on use of the token is reported as stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// An object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// RFC 7519 lets a single audience stand for itself.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::One(one) => vec![one],
        Form::Many(many) => many,
    })
}

/// Issues and verifies tokens.
pub struct Tokens {
    keys: Arc<TokenKeys>,
    issuer: String,
    accounts: Collection,
    pods: Collection,
    secrets: Collection,
    nodes: Collection,
    /// Claims of tokens whose signature was found good, by the token's hash.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// A refusal, in words that upstream lets the client see in a TokenReview.
pub type Refused = String;

impl Tokens {
    pub(super) async fn open(
        store: &Store,
        keys: Arc<TokenKeys>,
        issuer: String,
    ) -> Result<Self, OpenError> {
        let open = async |resource: &str| {
            let resource = GroupResource::new("", resource);
            let fields = kinds::hooks(&resource).fields();
            store.collection(&resource, fields, Durability::Durable).await
        };
        Ok(Self {
            keys,
            issuer,
            accounts: open("serviceaccounts").await?,
            pods: open("pods").await?,
            secrets: open("secrets").await?,
            nodes: open("nodes").await?,
            verified: Mutex::default(),
        })
    }

    /// The `iss` of tokens and the audience of the API server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The signing keys: for the OIDC discovery documents.
    pub fn keys(&self) -> &TokenKeys {
        &self.keys
    }

    /// The user of a token meant for the API server.
    ///
    /// # Errors
    /// When the token is no good, in words.
    pub fn authenticate(&self, token: &str) -> Result<UserInfo, Refused> {
        let audience = [self.issuer.clone()];
        self.authenticate_for(token, &audience).map(|(user, _)| user)
    }

    /// The user of a token meant for one of `audiences`, and those of them that it is meant for.
    ///
    /// # Errors
    /// When the token is no good, in words.
    pub fn authenticate_for(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), Refused> {
        let claims = self.claims(token)?;
        let meant: Vec<String> =
            audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if meant.is_empty() {
            let list = |items: &[String]| items.join(" ");
            let (got, want) = (list(&claims.aud), list(audiences));
            return Err(format!(
                "token audiences [{got}] is invalid for the target audiences [{want}]"
            ));
        }
        let now = now();
        if claims.exp != 0 && now > claims.exp + LEEWAY {
            return Err("service account token has expired".to_owned());
        }
        if now + LEEWAY < claims.nbf {
            return Err("service account token is not valid yet".to_owned());
        }
        if now + LEEWAY < claims.iat {
            return Err("service account token is issued in the future".to_owned());
        }
        self.check_bound(&claims.bound, now)?;
        Ok((user(&claims), meant))
    }

    /// Signs claims.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, claims: &Claims) -> pki::Result<String> {
        self.keys.sign(claims)
    }

    /// Whether a token says that it is one of this cluster, true or not.
    pub fn issued(&self, token: &str) -> bool {
        pki::jwt::peek::<Claims>(token).is_some_and(|claims| claims.iss == self.issuer)
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = verified().get(&hash) {
            return Ok(claims.clone());
        }
        let claims: Claims = self.keys.verify(token).map_err(|error| match error {
            // Upstream's library of tokens says it so.
            pki::Error::Untrusted(_) => "go-jose/go-jose: error in cryptographic primitive".into(),
            other => other.to_string(),
        })?;
        if claims.iss != self.issuer {
            return Err(format!("invalid issuer {:?}", claims.iss));
        }
        let claims = Arc::new(claims);
        let mut verified = verified();
        if verified.len() >= REMEMBERED {
            let now = now();
            verified.retain(|_, claims| claims.exp > now);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
        }
        verified.insert(hash, claims.clone());
        Ok(claims)
    }

    /// Whether everything that the token is bound to is still there.
    fn check_bound(&self, bound: &Bound, now: i64) -> Result<(), Refused> {
        const INVALIDATED: &str = "service account token has been invalidated";
        let Bound { namespace, serviceaccount: account, .. } = bound;
        let found = |collection: &Collection, namespace: &str, name: &str| {
            collection.get(&Key::new(namespace, name))
        };
        let Some(object) = found(&self.accounts, namespace, &account.name) else {
            return Err(format!("serviceaccounts {:?} not found", account.name));
        };
        if *object.uid != *account.uid {
            let (is, claim) = (&object.uid, &account.uid);
            return Err(format!("service account UID ({is}) does not match claim ({claim})"));
        }
        if gone(&object, now) {
            return Err(format!("service account {namespace}/{} has been deleted", account.name));
        }
        // The node of a pod-bound token is information only.
        let node = bound.node.as_ref().filter(|_| bound.pod.is_none());
        for (reference, what, collection, namespace) in [
            (bound.secret.as_ref(), "secret", &self.secrets, namespace.as_str()),
            (bound.pod.as_ref(), "pod", &self.pods, namespace.as_str()),
            (node, "node", &self.nodes, ""),
        ] {
            let Some(reference) = reference else { continue };
            let Some(object) = found(collection, namespace, &reference.name) else {
                return Err(INVALIDATED.to_owned());
            };
            if *object.uid != *reference.uid {
                let (is, claim) = (&object.uid, &reference.uid);
                return Err(format!(
                    "{what} UID ({is}) does not match service account {what} ref claim ({claim})"
                ));
            }
            if gone(&object, now) {
                return Err(INVALIDATED.to_owned());
            }
        }
        Ok(())
    }
}

/// Whether the object's deletion began longer ago than the leeway.
fn gone(object: &Object, now: i64) -> bool {
    #[derive(Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "deletionTimestamp", default)]
        deletion: String,
    }
    if !object.deleting {
        return false;
    }
    let time = object.parse::<Body>().ok().map(|body| body.metadata.deletion);
    let time = time.and_then(|time| apimachinery::time::parse_seconds(&time).ok());
    time.is_none_or(|time| time.as_second() < now - LEEWAY)
}

/// The user that a token stands for.
fn user(claims: &Claims) -> UserInfo {
    let Bound { namespace, serviceaccount, pod, node, .. } = &claims.bound;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(Reference { name, uid }) = node {
        add("node-name", name);
        add("node-uid", uid);
    }
    if let Some(Reference { name, uid }) = pod {
        add("pod-name", name);
        add("pod-uid", uid);
    }
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{}", serviceaccount.name),
        uid: serviceaccount.uid.clone(),
        groups: groups(namespace),
        extra,
    }
}

/// The groups of every service account of a namespace.
pub fn groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Namespace and name of the service account that a user name means.
pub fn split(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':').filter(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !name.contains(':')
    })
}
