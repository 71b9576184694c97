use std::sync::Arc;

use apimachinery::{Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use client::{
    Client, Transport, WatchItem, WatchRequest,
    transport::{Body, BoxError, WatchStream},
};
use futures::StreamExt;
use serde_json::{Value, json};

use super::*;

/// An API server that has the given ConfigMaps and Secrets, and answers nothing but watches.
struct Fixed(Vec<(&'static str, Value)>);

#[async_trait]
impl Transport for Fixed {
    async fn send(
        &self,
        _: http::Request<Bytes>,
    ) -> std::result::Result<http::Response<Body>, BoxError> {
        Err("not served".into())
    }

    async fn watch(&self, request: WatchRequest) -> std::result::Result<WatchStream, Status> {
        let name = request.fields.unwrap_or_default().replace("metadata.name=", "");
        let mut items: Vec<_> = self
            .0
            .iter()
            .filter(|(kind, object)| {
                **kind == *request.resource.resource && object["metadata"]["name"] == *name
            })
            .map(|(_, object)| {
                let body = Bytes::from(object.to_string());
                let object = Object::parse_index(body, &[] as &[&str]).unwrap();
                Ok(WatchItem::Put(Arc::new(object)))
            })
            .collect();
        items.push(Ok(WatchItem::Synced(1)));
        Ok(futures::stream::iter(items).chain(futures::stream::pending()).boxed())
    }
}

fn objects() -> Objects {
    let map = json!({"metadata": {"name": "cfg", "namespace": "ns"},
        "data": {"a": "1", "b": "two"}, "binaryData": {"bin": "AAE="}});
    let secret = json!({"metadata": {"name": "sec", "namespace": "ns"},
        "data": {"password": "aHVudGVyMg=="}, "type": "Opaque"});
    let transport = Arc::new(Fixed(vec![("configmaps", map), ("secrets", secret)]));
    Objects::new(Client::new(transport, "test"), Arc::new(|_| {}))
}

async fn made(env: Value, env_from: Value) -> Result<Vec<(String, String)>> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
        "spec": {"nodeName": "n", "containers": [{
            "name": "c", "env": env, "envFrom": env_from,
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]}}))
    .unwrap();
    let objects = objects();
    let (ips, hosts) = (["10.0.0.2".parse().unwrap()], ["192.0.2.1".parse().unwrap()]);
    let sources = Sources {
        objects: &objects,
        services: BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.43.0.1".to_owned())]),
        facts: Facts {
            pod_ips: &ips,
            host_ips: &hosts,
            allocatable_cpu: 1500,
            allocatable_memory: 1 << 30,
            allocatable_storage: 1 << 30,
        },
        volumes: &HashMap::new(),
    };
    environment(&pod, &pod.containers()[0], &sources).await
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn own_variables_come_first_and_override() {
    let env = json!([
        {"name": "A", "value": "own"},
        {"name": "REF", "value": "$(A)-$(KUBERNETES_SERVICE_HOST)-$(LATER)"},
        {"name": "LATER", "value": "x"},
        {"name": "EMPTY"},
    ]);
    let from = json!([{"prefix": "P_", "configMapRef": {"name": "cfg"}}]);
    assert_eq!(
        made(env, from).await.unwrap(),
        pairs(&[
            ("P_a", "1"),
            ("P_b", "two"),
            ("A", "own"),
            ("REF", "own-10.43.0.1-$(LATER)"),
            ("LATER", "x"),
            ("EMPTY", ""),
            ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
        ])
    );
}

#[tokio::test]
async fn every_source() {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let resource = |name: &str| json!({"resourceFieldRef": {"resource": name}});
    let env = json!([
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "password"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "b"}}},
        {"name": "NO", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "z", "optional": true}}},
        {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "z", "optional": true}}},
        {"name": "IP", "valueFrom": field("status.podIP")},
        {"name": "HOST", "valueFrom": field("status.hostIPs")},
        {"name": "LABEL", "valueFrom": field("metadata.labels['app']")},
        {"name": "MEM", "valueFrom": resource("limits.memory")},
        {"name": "CPU", "valueFrom": resource("limits.cpu")},
        {"name": "REQ", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
    ]);
    let mut made = made(env, json!([])).await.unwrap();
    made.pop();
    assert_eq!(
        made,
        pairs(&[
            ("S", "hunter2"),
            ("C", "two"),
            ("IP", "10.0.0.2"),
            ("HOST", "192.0.2.1"),
            ("LABEL", "x"),
            ("MEM", "67108864"),
            ("CPU", "2"),
            ("REQ", "250"),
        ])
    );
}

#[tokio::test]
async fn what_is_missing_is_told_in_upstreams_words() {
    let key = |name: &str, key: &str| json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": key}}}]);
    assert_eq!(
        made(key("cfg", "nope"), json!([])).await.unwrap_err(),
        "couldn't find key nope in ConfigMap ns/cfg"
    );
    assert_eq!(
        made(key("none", "k"), json!([])).await.unwrap_err(),
        "configmap \"none\" not found"
    );
    let from = json!([{"secretRef": {"name": "none"}}]);
    assert_eq!(made(json!([]), from).await.unwrap_err(), "secret \"none\" not found");
    let optional = json!([{"secretRef": {"name": "none", "optional": true}}]);
    assert!(made(json!([]), optional).await.is_ok());
}
