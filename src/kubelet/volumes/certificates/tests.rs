use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use apimachinery::{Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use client::{
    Informers, Scope, Transport, WatchItem, WatchRequest,
    transport::{Body, BoxError, WatchStream},
};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// An API server with a signer that gives these answers, one a request.
struct Signer {
    /// The status of the request; null when it is deleted.
    answers: Mutex<VecDeque<Value>>,
    /// What was asked for.
    requests: Mutex<Vec<Value>>,
    events: watch::Sender<Vec<Value>>,
}

fn object(value: &Value) -> Arc<Object> {
    let bytes = Bytes::from(value.to_string());
    Arc::new(Object::parse_index(bytes, &[] as &[&str]).unwrap())
}

#[async_trait]
impl Transport for Signer {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
        let path = request.uri().path().to_owned();
        let mut answer = serde_json::from_slice(request.body()).unwrap_or(json!({"metadata": {}}));
        if path.ends_with("/serviceaccounts/sa") {
            answer["metadata"]["uid"] = json!("sa-uid");
        } else if path.ends_with("/podcertificaterequests") {
            let mut requests = self.requests.lock().unwrap();
            requests.push(answer.clone());
            answer["metadata"]["name"] = format!("req-{}", requests.len()).into();
            answer["metadata"]["resourceVersion"] = json!("1");
        } else {
            self.events.send_modify(|events| events.push(answer.clone()));
        }
        let body = Full::from(answer.to_string()).map_err(|never| match never {}).boxed();
        Ok(http::Response::new(body))
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status> {
        let items = if &*request.resource.resource == "nodes" {
            let node = json!({"metadata": {"name": "n", "uid": "n-uid", "resourceVersion": "1"}});
            vec![Ok(WatchItem::Put(object(&node))), Ok(WatchItem::Synced(1))]
        } else {
            let fields = request.fields.unwrap_or_default();
            assert!(fields.contains("spec.nodeName=n"), "nodes see no others: {fields}");
            let status = self.answers.lock().unwrap().pop_front().unwrap();
            let metadata = json!({"name": "r", "namespace": "ns", "resourceVersion": "2"});
            let seen = object(&json!({"metadata": metadata, "status": status}));
            vec![Ok(if status.is_null() { WatchItem::Delete(seen) } else { WatchItem::Put(seen) })]
        };
        Ok(futures::stream::iter(items).chain(futures::stream::pending()).boxed())
    }
}

/// The status of a certificate whose refresh is due in so many seconds.
fn issued(byte: u8, refresh: i64) -> Value {
    let time = |seconds: i64| {
        let time = Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap();
        apimachinery::time::format_seconds(time)
    };
    json!({
        "conditions": [{"type": "Issued", "status": "True"}],
        "certificateChain": pki::pem::encode("CERTIFICATE", &[byte]),
        "beginRefreshAt": time(refresh),
        "notAfter": time(refresh + 7200),
    })
}

struct Fixture {
    signer: Arc<Signer>,
    certificates: Certificates,
    changes: watch::Receiver<usize>,
    pod: Pod,
}

async fn fixture(answers: &[Value]) -> Fixture {
    let signer = Arc::new(Signer {
        answers: Mutex::new(answers.iter().cloned().collect()),
        requests: Mutex::default(),
        events: watch::Sender::new(Vec::new()),
    });
    let client = Client::new(signer.clone(), "test");
    let informers = Informers::new(client.clone(), CancellationToken::new());
    let node = informers.scoped::<Node>(Scope::fields("metadata.name=n"));
    node.synced().await;
    let (count, changes) = (AtomicUsize::new(0), watch::Sender::new(0));
    let seen = changes.subscribe();
    let changed: Changed = Arc::new(move |uid| {
        assert_eq!(uid, "p-uid");
        changes.send_replace(count.fetch_add(1, Ordering::Relaxed) + 1);
    });
    let recorder = Recorder::new(client.clone(), "kubelet", None);
    let certificates = Certificates::new(client, recorder, node, "n", changed);
    let source = json!({"signerName": "example.com/s", "keyType": "ECDSAP256",
        "maxExpirationSeconds": 3600, "userAnnotations": {"example.com/a": "b"},
        "credentialBundlePath": "b"});
    let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p-uid"},
        "spec": {"serviceAccountName": "sa", "containers": [], "volumes": [
            {"name": "v", "projected": {"sources": [
                {"downwardAPI": {}}, {"podCertificate": source}]}}]}});
    let pod = serde_json::from_value(pod).unwrap();
    Fixture { signer, certificates, changes: seen, pod }
}

impl Fixture {
    fn get(&self) -> Result<Arc<Credentials>, String> {
        self.certificates.get("p-uid", "v", 1)
    }
}

#[tokio::test]
async fn a_pod_gets_what_the_signer_issues() {
    let it = fixture(&[issued(1, 3600)]).await;
    assert_eq!(it.get().unwrap_err(), "credential bundle is not issued yet");
    it.certificates.ready(&it.pod).await;
    let credentials = it.get().unwrap();
    assert_eq!(credentials.chain, pki::pem::encode("CERTIFICATE", &[1]));
    assert!(credentials.key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    // The same ones for every container.
    it.certificates.ready(&it.pod).await;
    let mut request = it.signer.requests.lock().unwrap().remove(0);
    assert!(it.signer.requests.lock().unwrap().is_empty());
    assert!(request["spec"]["stubPKCS10Request"].take().is_string());
    assert_eq!(
        request,
        json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
            "metadata": {"namespace": "ns", "generateName": "req-", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p-uid"}]},
            "spec": {"signerName": "example.com/s", "podName": "p", "podUID": "p-uid",
                "serviceAccountName": "sa", "serviceAccountUID": "sa-uid",
                "nodeName": "n", "nodeUID": "n-uid", "maxExpirationSeconds": 3600,
                "unverifiedUserAnnotations": {"example.com/a": "b"}, "stubPKCS10Request": null},
        })
    );
    it.certificates.forget("p-uid");
    assert!(it.get().is_err());
}

#[tokio::test]
async fn a_refusal_is_final_and_told() {
    let condition = json!({"type": "Denied", "reason": "No", "message": "not you"});
    let it = fixture(&[json!({"conditions": [condition]})]).await;
    it.certificates.ready(&it.pod).await;
    let why = r#"PodCertificateRequest was permanently denied: reason="No" message="not you""#;
    assert_eq!(it.get().unwrap_err(), why);
    let mut events = it.signer.events.subscribe();
    let told = events.wait_for(|events| !events.is_empty()).await.unwrap()[0].clone();
    assert_eq!((&told["type"], &told["reason"]), (&json!("Warning"), &json!("Denied")));
    let message = r#"PodCertificateRequest ns/req-1 was denied, reason="No", message="not you""#;
    assert_eq!(told["message"], message);
}

#[tokio::test]
async fn a_request_that_is_deleted_is_made_again() {
    let mut it = fixture(&[Value::Null, issued(1, 3600)]).await;
    it.certificates.ready(&it.pod).await;
    it.changes.wait_for(|changes| *changes == 1).await.unwrap();
    assert!(it.get().is_ok());
    let requests = it.signer.requests.lock().unwrap();
    let keys: Vec<_> = requests.iter().map(|it| &it["spec"]["stubPKCS10Request"]).collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1], "a key is asked for once");
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_with_a_new_key() {
    // Overdue by more than the jitter.
    let mut it = fixture(&[issued(1, -600), issued(2, 3600)]).await;
    it.certificates.ready(&it.pod).await;
    it.changes.wait_for(|changes| *changes == 2).await.unwrap();
    assert_eq!(it.get().unwrap().chain, pki::pem::encode("CERTIFICATE", &[2]));
    assert_eq!(it.signer.requests.lock().unwrap().len(), 2);
}
