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
use crate::model::{Addresses, Record};

/// An API of watches alone.
#[derive(Default, Clone)]
struct Api {
    watches: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<WatchItem>>>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
        Err("only watches".into())
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let resource = request.resource.resource.to_string();
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
}

fn object(revision: u64, value: Value) -> Arc<Object> {
    let mut value = value;
    value["metadata"]["namespace"] = json!("default");
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    value["metadata"]["uid"] = json!("u");
    let bytes = serde_json::to_vec(&value).unwrap();
    Arc::new(Object::parse_index(bytes.into(), &[] as &[&str]).unwrap())
}

fn service(revision: u64, name: &str, ip: &str) -> Arc<Object> {
    object(revision, json!({"metadata": {"name": name}, "spec": {"clusterIP": ip}}))
}

fn slice(revision: u64, service: &str, ips: &[&str]) -> Arc<Object> {
    let endpoints: Vec<Value> = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let labels = json!({SERVICE_NAME: service});
    object(
        revision,
        json!({
            "metadata": {"name": format!("slice-of-{service}"), "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
        }),
    )
}

/// An update as a line.
fn line(update: Update) -> String {
    match update {
        Update::Synced => "synced".into(),
        Update::Remove { name, .. } => format!("-{name}"),
        Update::Upsert(Record { name, addresses, .. }) => match addresses {
            Addresses::ClusterIp { ips, .. } => format!("{name} {ips:?}"),
            Addresses::Headless(subsets) => {
                let endpoints = subsets.iter().flat_map(|subset| &subset.endpoints);
                format!("{name} {:?}", endpoints.map(|e| e.ip).collect::<Vec<_>>())
            }
            Addresses::ExternalName(target) => format!("{name} {target}"),
        },
    }
}

#[tokio::test]
async fn everything_and_then_every_change() {
    let api = Api::default();
    let client = Client::new(Arc::new(api.clone()), "test");
    let informers = Informers::new(client, CancellationToken::new());
    let feed = Feed::new(&informers);
    let run = |sender| {
        let feed = feed.clone();
        tokio::spawn(async move { feed.run(sender).await })
    };
    let (sender, mut updates) = mpsc::channel(8);
    let running = run(sender);
    api.tell("services", WatchItem::Put(service(1, "web", "10.0.0.1"))).await;
    api.tell("services", WatchItem::Put(service(2, "db", "None"))).await;
    api.tell("endpointslices", WatchItem::Put(slice(3, "db", &["10.1.0.1"]))).await;
    api.tell("services", WatchItem::Synced(3)).await;
    // Nothing is said before everything is known.
    tokio::task::yield_now().await;
    assert!(updates.try_recv().is_err());
    api.tell("endpointslices", WatchItem::Synced(3)).await;
    let mut next = async || line(updates.recv().await.unwrap());
    let mut first = [next().await, next().await];
    first.sort();
    assert_eq!(first, ["db [10.1.0.1]", "web [10.0.0.1]"]);
    assert_eq!(next().await, "synced");
    // The informers' own first calls are repeated: the edge takes them as no change.
    for _ in 0..3 {
        next().await;
    }

    api.tell("services", WatchItem::Put(service(4, "web", "10.0.0.2"))).await;
    assert_eq!(next().await, "web [10.0.0.2]");
    // The endpoints of a service with an address of its own are of no interest.
    api.tell("endpointslices", WatchItem::Put(slice(5, "web", &["10.1.0.9"]))).await;
    api.tell("endpointslices", WatchItem::Put(slice(6, "db", &["10.1.0.1", "10.1.0.2"]))).await;
    assert_eq!(next().await, "db [10.1.0.1, 10.1.0.2]");
    api.tell("endpointslices", WatchItem::Delete(slice(7, "db", &[]))).await;
    assert_eq!(next().await, "db []");
    api.tell("services", WatchItem::Delete(service(8, "db", "None"))).await;
    assert_eq!(next().await, "-db");

    // Another edge is told everything anew, with what has changed while there was none.
    drop(updates);
    running.await.unwrap();
    api.tell("services", WatchItem::Put(service(9, "new", "10.0.0.3"))).await;
    while feed.queue.is_empty() {
        tokio::task::yield_now().await;
    }
    let (sender, mut updates) = mpsc::channel(8);
    run(sender);
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(line(updates.recv().await.unwrap()));
    }
    assert_eq!(got, ["new [10.0.0.3]", "web [10.0.0.2]", "synced", "new [10.0.0.3]"]);
}
