//! One source: its key, its request, its certificate, and the next one in time.

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use jiff::Timestamp;
use pki::proven::{KeyType, Proven};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{Credentials, Issuer, State, Wanted, answer::Answer};
use crate::requests;

/// What fails is tried again after this long at first, and later each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Nodes do not renew all certificates at the same moment.
const MAX_JITTER: i64 = 5 * 60;
/// A refresh that has not come by now is overdue.
const OVERDUE: Duration = Duration::from_secs(10 * 60);
/// The clock may be set while a task sleeps: it looks again this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// When a certificate that is in use is to be replaced, and what was told of that.
struct InUse {
    refresh: Timestamp,
    not_after: Timestamp,
    told_overdue: bool,
    told_expired: bool,
}

impl InUse {
    /// Tells when it should have been replaced by now. Never ends.
    async fn tell(&mut self, issuer: &Issuer, wanted: &Wanted) -> ! {
        let overdue = self.refresh.saturating_add(OVERDUE).unwrap_or(self.not_after);
        loop {
            let now = Timestamp::now();
            let warn = |reason: &str, message: &str| {
                issuer.recorder.warning(&wanted.pod, reason, message);
            };
            if now >= overdue && !self.told_overdue {
                self.told_overdue = true;
                warn("CertificateOverdueForRefresh", "PodCertificate refresh overdue");
            }
            if now >= self.not_after && !self.told_expired {
                self.told_expired = true;
                warn("CertificateExpired", "PodCertificate expired");
            }
            let next = [(overdue, self.told_overdue), (self.not_after, self.told_expired)];
            match next.iter().filter(|(_, told)| !told).map(|(at, _)| *at).min() {
                Some(at) => until(at).await,
                None => std::future::pending::<()>().await,
            }
        }
    }
}

/// Waits until a time of the wall clock.
async fn until(time: Timestamp) {
    while let Ok(left) = Duration::try_from(time.duration_since(Timestamp::now()))
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// Keeps one source supplied for as long as its pod is here.
pub(super) async fn keep(issuer: Arc<Issuer>, wanted: Wanted, state: watch::Sender<State>) {
    let mut in_use: Option<InUse> = None;
    loop {
        let (key, answer) = {
            let obtained = obtain(&issuer, &wanted, &state);
            match &mut in_use {
                Some(in_use) => tokio::select! {
                    obtained = obtained => obtained,
                    never = in_use.tell(&issuer, &wanted) => never,
                },
                None => obtained.await,
            }
        };
        match answer {
            Verdict::Issued { chain, begin_refresh_at, not_after } => {
                let credentials = Credentials { key, chain };
                state.send_replace(State::Issued(Arc::new(credentials)));
                (issuer.changed)(&wanted.uid);
                let jitter = Duration::from_secs(rand::random_range(0..MAX_JITTER).unsigned_abs());
                let refresh = begin_refresh_at.saturating_add(jitter).unwrap_or(begin_refresh_at);
                until(refresh).await;
                in_use =
                    Some(InUse { refresh, not_after, told_overdue: false, told_expired: false });
            }
            Verdict::Refused(why) => {
                state.send_replace(State::Refused(why));
                (issuer.changed)(&wanted.uid);
                // Nothing but a new pod changes that.
                return std::future::pending().await;
            }
        }
    }
}

/// How a signer has decided.
enum Verdict {
    Issued { chain: String, begin_refresh_at: Timestamp, not_after: Timestamp },
    Refused(String),
}

/// Asks until somebody decides. Answers the key, too.
async fn obtain(
    issuer: &Issuer,
    wanted: &Wanted,
    state: &watch::Sender<State>,
) -> (String, Verdict) {
    let mut retry = FIRST_RETRY;
    loop {
        let why = match ask(issuer, wanted).await {
            Ok((key, name, answer)) => match verdict(issuer, wanted, &name, answer) {
                Some(verdict) => return (key, verdict),
                None => format!(
                    "PodCertificateRequest {:?} appears to have been deleted",
                    format!("{}/{name}", wanted.namespace)
                ),
            },
            Err(why) => why,
        };
        debug!(pod = wanted.name, why, "no certificate yet");
        state.send_modify(|state| {
            if let State::Pending(last) = state {
                *last = Some(why);
            }
        });
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

fn verdict(issuer: &Issuer, wanted: &Wanted, name: &str, answer: Answer) -> Option<Verdict> {
    let refused = |kind: &str, how: &str, reason: &str, message: &str| {
        let full = format!("{}/{name}", wanted.namespace);
        let event =
            format!("PodCertificateRequest {full} {how}, reason={reason:?}, message={message:?}");
        issuer.recorder.warning(&wanted.pod, kind, event);
        Some(Verdict::Refused(format!(
            "PodCertificateRequest was permanently {}: reason={reason:?} message={message:?}",
            kind.to_lowercase()
        )))
    };
    match answer {
        Answer::Issued { chain, begin_refresh_at, not_after } => {
            Some(Verdict::Issued { chain, begin_refresh_at, not_after })
        }
        Answer::Denied { reason, message } => refused("Denied", "was denied", &reason, &message),
        Answer::Failed { reason, message } => refused("Failed", "failed", &reason, &message),
        Answer::Deleted => None,
    }
}

/// Makes a key and a request for it. Answers the key, the name of the request and its answer.
async fn ask(issuer: &Issuer, wanted: &Wanted) -> Result<(String, String, Answer), String> {
    let kind: KeyType = wanted.source.key_type.parse().map_err(|_| {
        format!("while generating keypair: unknown key type {:?}", wanted.source.key_type)
    })?;
    let namespace = &wanted.namespace;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{}", wanted.account);
    let account = requests::get(&issuer.client, &path).await;
    let account = account.map_err(|error| format!("while fetching service account: {error}"))?;
    let account = account.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let node = issuer.node.get(&Key::new("", issuer.node_name.as_str()));
    let node = node.ok_or("while getting node object from local cache: not found")?;
    // RSA takes long.
    let made = tokio::task::spawn_blocking(move || Proven::generate(kind)).await;
    let made = made.map_err(|error| error.to_string())?;
    let made = made.map_err(|error| format!("while generating keypair: {error}"))?;
    let body = body(wanted, account, (&issuer.node_name, &node.uid), &made.request);
    let path =
        format!("/apis/certificates.k8s.io/v1/namespaces/{namespace}/podcertificaterequests");
    let created = requests::post(&issuer.client, &path, &body).await.map_err(|error| {
        warn!(pod = wanted.name, namespace, %error, "PodCertificateRequest not created");
        format!("while creating on API: {error}")
    })?;
    let text = |path: &str| created.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name").to_owned();
    let since = text("/metadata/resourceVersion").parse().unwrap_or_default();
    let answer = issuer.answer(namespace, &name, since).await;
    Ok((made.key, name, answer))
}

/// The request as upstream's kubelet makes it.
fn body(wanted: &Wanted, account_uid: &str, node: (&str, &str), proof: &[u8]) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let Wanted { source, .. } = wanted;
    let mut spec = json!({
        "signerName": source.signer_name,
        "podName": wanted.name,
        "podUID": wanted.uid,
        "serviceAccountName": wanted.account,
        "serviceAccountUID": account_uid,
        "nodeName": node.0,
        "nodeUID": node.1,
        "stubPKCS10Request": STANDARD.encode(proof),
    });
    if let Some(seconds) = source.max_expiration_seconds {
        spec["maxExpirationSeconds"] = seconds.into();
    }
    if let Some(annotations) = &source.user_annotations {
        spec["unverifiedUserAnnotations"] = json!(annotations);
    }
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {
            "namespace": wanted.namespace,
            "generateName": "req-",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": wanted.name, "uid": wanted.uid},
            ],
        },
        "spec": spec,
    })
}
