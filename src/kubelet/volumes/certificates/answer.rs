//! What a signer answers to a PodCertificateRequest.

use apimachinery::{GroupVersionResource, Object};
use client::{Event, Follower, WatchRequest};
use jiff::Timestamp;
use serde::Deserialize;
use tracing::debug;

use super::Issuer;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Issued {
        /// PEM, certificates alone.
        chain: String,
        begin_refresh_at: Timestamp,
        not_after: Timestamp,
    },
    Denied {
        reason: String,
        message: String,
    },
    Failed {
        reason: String,
        message: String,
    },
    /// The request is gone, and no answer can come any more.
    Deleted,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    certificate_chain: String,
    begin_refresh_at: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// What a request says by now, if the signer has answered.
fn read(object: &Object) -> Option<Answer> {
    let status = object.parse::<Body>().ok()?.status;
    let kind = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind);
    let words = |found: &Condition| (found.reason.clone(), found.message.clone());
    if let Some(found) = kind("Denied") {
        let (reason, message) = words(found);
        return Some(Answer::Denied { reason, message });
    }
    if let Some(found) = kind("Failed") {
        let (reason, message) = words(found);
        return Some(Answer::Failed { reason, message });
    }
    kind("Issued")?;
    Some(Answer::Issued {
        chain: clean(&status.certificate_chain),
        begin_refresh_at: status.begin_refresh_at?,
        not_after: status.not_after?,
    })
}

/// The certificates of a chain, without headers and whatever stands between them.
fn clean(chain: &str) -> String {
    let blocks = pki::pem::decode(chain).unwrap_or_default();
    blocks.iter().map(|block| pki::pem::encode("CERTIFICATE", &block.der)).collect()
}

impl Issuer {
    /// Waits for the answer to a request that was just made.
    pub(super) async fn answer(&self, namespace: &str, name: &str, since: u64) -> Answer {
        let request = WatchRequest {
            resource: GroupVersionResource::new(
                "certificates.k8s.io",
                "v1",
                "podcertificaterequests",
            ),
            namespace: Some(namespace.to_owned()),
            labels: None,
            // A node may watch requests of its own pods only.
            fields: Some(format!("metadata.name={name},spec.nodeName={}", self.node_name)),
            since: Some(since),
        };
        let mut follower = Follower::new(self.client.clone(), request);
        let mut seen = true;
        loop {
            match follower.next().await {
                Event::Begin => seen = false,
                Event::Put(object) => {
                    seen = true;
                    if let Some(answer) = read(&object) {
                        return answer;
                    }
                }
                Event::Delete(_) => return Answer::Deleted,
                Event::Synced if !seen => return Answer::Deleted,
                Event::Synced => {}
                Event::Failed(status) => debug!(name, error = %status, "watch refused"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn answers_are_read_from_conditions() {
        let answer = |status: Value| {
            let object = json!({"metadata": {"name": "r", "namespace": "n", "uid": "u",
                "resourceVersion": "1"}, "status": status});
            let bytes = serde_json::to_vec(&object).unwrap();
            read(&Object::parse_index(bytes.into(), &[] as &[&str]).unwrap())
        };
        let condition = |kind: &str| json!([{"type": kind, "reason": "R", "message": "M"}]);
        assert_eq!(answer(json!({})), None);
        let (reason, message) = ("R".to_owned(), "M".to_owned());
        assert_eq!(
            answer(json!({"conditions": condition("Denied")})),
            Some(Answer::Denied { reason, message })
        );
        let chain = format!("a comment\n{}", pki::pem::encode("CERTIFICATE", &[1]));
        assert_eq!(
            answer(json!({"conditions": condition("Issued"), "certificateChain": chain,
                "beginRefreshAt": "1970-01-01T00:00:01Z", "notAfter": "1970-01-01T00:00:02Z"})),
            Some(Answer::Issued {
                chain: pki::pem::encode("CERTIFICATE", &[1]),
                begin_refresh_at: Timestamp::from_second(1).unwrap(),
                not_after: Timestamp::from_second(2).unwrap(),
            })
        );
    }
}
