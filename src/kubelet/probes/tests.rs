use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A server that answers every connection with `answer`.
async fn serving(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn request(port: u16) -> HttpGet {
    HttpGet {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/healthz".to_owned(),
        headers: Vec::new(),
        agent: "probe",
    }
}

#[tokio::test]
async fn http_answers() {
    let second = Duration::from_secs(1);
    let probe = |port| async move { http::probe(&request(port), second).await };
    let ok = serving("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(probe(ok).await, Outcome::Success);
    let bad = serving("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    let failed = Outcome::Failure("HTTP probe failed with statuscode: 503".to_owned());
    assert_eq!(probe(bad).await, failed);
    let away = serving(
        "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    let warned = Outcome::Warning("Probe terminated redirects, Response body: hi".to_owned());
    assert_eq!(probe(away).await, warned);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = format!(
        "Get \"http://127.0.0.1:{closed}/healthz\": dial tcp 127.0.0.1:{closed}: connect: \
         connection refused"
    );
    assert_eq!(probe(closed).await, Outcome::Failure(refused));
}

#[tokio::test]
async fn tcp_connections() {
    let second = Duration::from_secs(1);
    let open = serving("").await;
    assert_eq!(tcp::probe("127.0.0.1", open, second).await, Outcome::Success);
}

#[test]
fn ports_by_name_and_number() {
    let ports = HashMap::from([("web".to_owned(), 8080)]);
    let resolve = |port: IntOrString| resolve_port(&port, &ports);
    assert_eq!(resolve(IntOrString::String("web".to_owned())), Ok(8080));
    assert_eq!(resolve(IntOrString::String("81".to_owned())), Ok(81));
    assert_eq!(resolve(IntOrString::Int(80)), Ok(80));
    assert!(resolve(IntOrString::Int(0)).is_err());
    assert!(resolve(IntOrString::String("none".to_owned())).is_err());
}

#[test]
fn verdicts_belong_to_an_instance() {
    let mut probes = Probes::default();
    let verdict = Verdict {
        id: "1".to_owned(),
        startup: Some(false),
        liveness: Some(true),
        readiness: Some(false),
    };
    probes.verdicts.containers.insert("c".to_owned(), verdict);
    let change = |id: &str, purpose, healthy| Change {
        container: "c".to_owned(),
        id: id.to_owned(),
        purpose,
        healthy,
    };
    assert!(!probes.verdicts().started("c"));
    assert!(!probes.apply(&change("0", Purpose::Startup, true)), "another instance");
    assert!(probes.apply(&change("1", Purpose::Startup, true)));
    assert!(probes.verdicts().started("c") && !probes.verdicts().ready("c"));
    assert!(probes.apply(&change("1", Purpose::Readiness, true)));
    assert!(probes.verdicts().ready("c"));
    assert!(!probes.apply(&change("1", Purpose::Readiness, true)), "nothing new");
    assert!(probes.apply(&change("1", Purpose::Liveness, false)));
    assert_eq!(probes.failed("1"), Some(Purpose::Liveness));
    probes.forget("c");
    assert_eq!(probes.failed("1"), None);
    assert!(probes.verdicts().ready("c"), "no probe, no doubt");
}
