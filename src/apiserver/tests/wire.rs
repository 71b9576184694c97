//! Over the network: TLS, HTTP/1.1 and HTTP/2, encodings, and the transport inside the process.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::{io::Read, sync::Arc};

use apimachinery::{GroupVersionResource, proto};
use apiserver::{local::Local, request::UserInfo};
use bytes::Bytes;
use client::transport::{Transport, WatchItem, WatchRequest};
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn connect(server: &common::Server, alpn: &[u8], identified: bool) -> TlsStream<TcpStream> {
    let pki = server.pki();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.authority.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if identified {
        let admin = pki.admin().unwrap();
        let chain = pki::pem::certificates(&admin.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(admin.key.as_bytes()).unwrap();
        builder.with_client_auth_cert(chain.into_iter().map(Into::into).collect(), key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn ask(
    server: &common::Server,
    alpn: &[u8],
    identified: bool,
    request: http::Request<Full<Bytes>>,
) -> (http::response::Parts, Bytes) {
    let stream = TokioIo::new(connect(server, alpn, identified).await);
    let response = if alpn == b"h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (head, body) = response.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

fn get(server: &common::Server, path: &str) -> http::request::Builder {
    http::Request::builder().uri(format!("https://{}{path}", server.address)).header("host", "test")
}

#[tokio::test]
async fn both_http_versions_serve_those_with_a_certificate() {
    let server = common::start().await;
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let request = get(&server, "/api/v1/namespaces/default").body(Full::default()).unwrap();
        let (head, body) = ask(&server, alpn, true, request).await;
        let object: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head.status.as_u16(), object["kind"].as_str()), (200, Some("Namespace")));
        assert_eq!(head.headers["content-type"], "application/json");
        let request = get(&server, "/api/v1/namespaces/default").body(Full::default()).unwrap();
        let (head, body) = ask(&server, alpn, false, request).await;
        let status: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(head.status, 403, "{status}");
        assert!(status["message"].as_str().unwrap().contains("system:anonymous"));
        let request = get(&server, "/version").body(Full::default()).unwrap();
        let (head, _) = ask(&server, alpn, false, request).await;
        assert_eq!(head.status, 200, "anyone may know the version");
    }
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_ask() {
    let server = common::start().await;
    for at in 0..40 {
        let body = json!({"metadata": {"name": format!("m{at}")}, "data": {"x": "y".repeat(8000)}});
        server.post(MAPS, &body).await;
    }
    let plain = get(&server, MAPS).body(Full::default()).unwrap();
    let (head, plain) = ask(&server, b"h2", true, plain).await;
    assert_eq!(head.headers["content-length"], plain.len().to_string());
    let request =
        get(&server, MAPS).header("accept-encoding", "gzip").body(Full::default()).unwrap();
    let (head, packed) = ask(&server, b"h2", true, request).await;
    assert_eq!(head.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert!(packed.len() * 10 < plain.len() && unpacked == plain);
}

#[tokio::test]
async fn protobuf_goes_in_and_out() {
    let server = common::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "p"}, "data": {"a": "b"}});
    let media = "application/vnd.kubernetes.protobuf";
    let request = get(&server, MAPS)
        .method("POST")
        .header("content-type", media)
        .header("accept", media)
        .body(Full::from(proto::encode_object(&map).unwrap()))
        .unwrap();
    let (head, body) = ask(&server, b"h2", true, request).await;
    assert_eq!(
        (head.status.as_u16(), head.headers["content-type"].to_str().unwrap()),
        (201, media)
    );
    let object = proto::decode_object(&body, None).unwrap();
    assert_eq!((&object["data"]["a"], &object["kind"]), (&json!("b"), &json!("ConfigMap")));
    let request = get(&server, MAPS).header("accept", media).body(Full::default()).unwrap();
    let (_, body) = ask(&server, b"h2", true, request).await;
    let list = proto::decode_object(&body, None).unwrap();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(list["items"].as_array().unwrap().iter().any(|item| item["metadata"]["name"] == "p"));
    let both = format!("{media},application/json");
    let request =
        get(&server, &format!("{MAPS}/p")).header("accept", both).body(Full::default()).unwrap();
    let (head, _) = ask(&server, b"h2", true, request).await;
    assert_eq!(head.headers["content-type"], "application/json", "as it is stored");
}

#[tokio::test]
async fn yaml_and_pretty_json_are_for_people() {
    let server = common::start().await;
    server.post(MAPS, &json!({"metadata": {"name": "y"}, "data": {"k": "1"}})).await;
    let path = format!("{MAPS}/y");
    let request =
        get(&server, &path).header("accept", "application/yaml").body(Full::default()).unwrap();
    let (_, body) = ask(&server, b"h2", true, request).await;
    assert!(String::from_utf8_lossy(&body).contains("data:\n  k: \"1\"\n"));
    let request = get(&server, &format!("{path}?pretty=true")).body(Full::default()).unwrap();
    let (_, body) = ask(&server, b"h2", true, request).await;
    assert!(String::from_utf8_lossy(&body).contains("{\n  \"apiVersion\": \"v1\","));
}

#[tokio::test]
async fn components_of_the_process_share_the_stored_objects() {
    let server = common::start().await;
    server.post(MAPS, &json!({"metadata": {"name": "a", "labels": {"x": "y"}}})).await;
    let local = server.admin();
    let request = WatchRequest {
        resource: GroupVersionResource::new("", "v1", "configmaps"),
        namespace: Some("default".to_owned()),
        labels: Some("x".to_owned()),
        fields: None,
        since: None,
    };
    let mut watch = local.watch(request.clone()).await.unwrap();
    let Some(Ok(WatchItem::Put(object))) = watch.next().await else { panic!("an object") };
    let stored = server.shared.get("", "configmaps", "default", "a").unwrap();
    assert!(Arc::ptr_eq(&object, &stored), "the very object of the store");
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Synced(_)))));
    server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Delete(_)))));

    let nobody = Local::new(server.shared.clone(), UserInfo::component("nobody", &[]));
    assert_eq!(nobody.watch(request).await.err().unwrap().code, 403);
    let ask = http::Request::builder().uri(MAPS).body(Bytes::new()).unwrap();
    assert_eq!(nobody.send(ask).await.unwrap().status(), 403);
    server.stop.cancel();
    assert!(watch.next().await.is_none(), "it ends with the server");
}
