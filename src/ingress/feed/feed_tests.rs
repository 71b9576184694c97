//! The feed over a transport that a test drives.

use std::collections::HashMap;
use std::sync::Mutex;

use apimachinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use client::transport::{Body, BoxError, WatchStream};
use client::{Client, Transport, WatchItem, WatchRequest};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// An API of watches alone.
#[derive(Default, Clone)]
struct Api {
    watches: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<WatchItem>>>>,
    revision: Arc<Mutex<u64>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
        Err("only watches".into())
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let resource = request.resource.resource.to_string();
        assert!(
            resource != "secrets" || request.fields.as_deref() == Some("type=kubernetes.io/tls")
        );
        self.watches.lock().unwrap().insert(resource, sender);
        let items = futures::stream::unfold(receiver, |mut receiver| async {
            Some((Ok(receiver.recv().await?), receiver))
        });
        Ok(items.boxed())
    }
}

impl Api {
    async fn tell(&self, resource: &str, item: WatchItem) {
        loop {
            if let Some(watch) = self.watches.lock().unwrap().get(resource) {
                watch.send(item).unwrap();
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn object(&self, value: Value) -> Arc<Object> {
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        let mut value = value;
        value["metadata"]["namespace"] = json!("ns");
        value["metadata"]["resourceVersion"] = json!(revision.to_string());
        value["metadata"]["uid"] = json!(value["metadata"]["name"]);
        let bytes = serde_json::to_vec(&value).unwrap();
        Arc::new(Object::parse_index(bytes.into(), &[] as &[&str]).unwrap())
    }

    async fn put(&self, resource: &str, value: Value) {
        self.tell(resource, WatchItem::Put(self.object(value))).await;
    }

    async fn delete(&self, resource: &str, value: Value) {
        self.tell(resource, WatchItem::Delete(self.object(value))).await;
    }
}

fn class() -> Value {
    json!({"metadata": {"name": "knarr"}, "spec": {"controller": CONTROLLER}})
}

fn ingress_of(class: &str, service: &str, secret: &str) -> Value {
    json!({
        "metadata": {"name": "i"},
        "spec": {
            "ingressClassName": class,
            "defaultBackend": {"service": {"name": service, "port": {"number": 80}}},
            "tls": [{"secretName": secret}],
        },
    })
}

fn service_of_name(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}

fn slice(service: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": format!("of-{service}"), "labels": {SERVICE_NAME: service}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [ip]}],
    })
}

fn secret(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"tls.crt": "eA==", "tls.key": "eQ=="}})
}

/// An update as a line.
fn line(update: Update) -> String {
    match update {
        Update::Synced => "synced".into(),
        Update::Ingress(ingress) => {
            format!("ingress -> {}", ingress.default_backend.unwrap().service)
        }
        Update::RemoveIngress { name, .. } => format!("-ingress {name}"),
        Update::Service(service) => {
            let endpoints: Vec<String> =
                service.ports[0].endpoints.iter().map(ToString::to_string).collect();
            format!("service {} {endpoints:?}", service.name)
        }
        Update::RemoveService { name, .. } => format!("-service {name}"),
        Update::Certificate(certificate) => format!("certificate {}", certificate.name),
        Update::RemoveCertificate { name, .. } => format!("-certificate {name}"),
        Update::DefaultCertificate(_) => "default".into(),
    }
}

#[tokio::test]
async fn only_what_is_ours_and_what_it_names() {
    let api = Api::default();
    let client = Client::new(Arc::new(api.clone()), "test");
    let informers = Informers::new(client, CancellationToken::new());
    let default = Certificate {
        namespace: String::new(),
        name: String::new(),
        chain: "x".into(),
        key: "y".into(),
    };
    let feed = Feed::new(&informers, Some(default));
    let (sender, mut updates) = mpsc::channel(64);
    let following = feed.clone();
    let running = tokio::spawn(async move { following.run(sender).await });
    for name in ["web", "other", "unnamed"] {
        api.put("services", service_of_name(name)).await;
        api.put("endpointslices", slice(name, "10.0.0.1")).await;
        api.put("secrets", secret(name)).await;
    }
    api.put("ingressclasses", class()).await;
    api.put("ingresses", ingress_of("knarr", "web", "web")).await;
    for resource in ["services", "endpointslices", "secrets", "ingressclasses", "ingresses"] {
        api.tell(resource, WatchItem::Synced(100)).await;
    }
    let mut next = async || line(updates.recv().await.unwrap());
    let web = "service web [\"10.0.0.1:8080\"]";
    let first = [next().await, next().await, next().await, next().await, next().await];
    assert_eq!(first, ["default", web, "certificate web", "ingress -> web", "synced"]);
    // The informers' own first calls repeat these.
    let mut again = [next().await, next().await, next().await];
    again.sort();
    assert_eq!(again, ["certificate web", "ingress -> web", web]);

    // Endpoints are followed; those of services that nobody names are not.
    api.put("endpointslices", slice("unnamed", "10.0.0.9")).await;
    api.put("endpointslices", slice("web", "10.0.0.2")).await;
    assert_eq!(next().await, "service web [\"10.0.0.2:8080\"]");
    // Another service is named, and the former one no longer.
    api.put("ingresses", ingress_of("knarr", "other", "web")).await;
    let change = [next().await, next().await, next().await, next().await];
    let other = "service other [\"10.0.0.1:8080\"]";
    assert_eq!(change, [other, "certificate web", "ingress -> other", "-service web"]);
    // A Secret goes and comes back.
    api.delete("secrets", secret("web")).await;
    assert_eq!(next().await, "-certificate web");
    api.put("secrets", secret("web")).await;
    assert_eq!(next().await, "certificate web");
    // The Ingress is given to somebody else.
    api.put("ingresses", ingress_of("nginx", "other", "web")).await;
    let mut change = [next().await, next().await, next().await];
    change.sort();
    assert_eq!(change, ["-certificate web", "-ingress i", "-service other"]);
    // And what becomes of it is no concern of ours.
    api.put("ingresses", ingress_of("nginx", "web", "web")).await;
    api.put("ingresses", ingress_of("knarr", "web", "web")).await;
    let mut change = [next().await, next().await, next().await];
    change.sort();
    let web = "service web [\"10.0.0.2:8080\"]";
    assert_eq!(change, ["certificate web", "ingress -> web", web]);
    // Without its class it is nobody's.
    api.delete("ingressclasses", class()).await;
    let mut change = [next().await, next().await, next().await];
    change.sort();
    assert_eq!(change, ["-certificate web", "-ingress i", "-service web"]);

    drop(updates);
    running.await.unwrap();
}
