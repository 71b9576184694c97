//! Where requests go, what backends learn of them, and what clients are told.

use super::*;

#[tokio::test]
async fn requests_go_where_the_rules_say() {
    let edge = edge().await;
    let (a, b) = (named("a").await, named("b").await);
    edge.rule("a.example", "/", "a");
    edge.rule("a.example", "/b", "b");
    edge.endpoints("a", AppProtocol::Http, &[a.address]);
    edge.endpoints("b", AppProtocol::Http, &[b.address]);
    let ok = |text: &str| (StatusCode::OK, text.to_owned());
    assert_eq!(edge.get("a.example", "/x?y=1").await, ok("a /x?y=1"));
    assert_eq!(edge.get("A.Example:80", "/b/c").await, ok("b /b/c"));
    assert_eq!(edge.get("a.example", "/bc").await, ok("a /bc"));
    // What the rules compare is what the backend gets.
    assert_eq!(edge.get("a.example", "/b/../x?y").await, ok("a /x?y"));
    assert_eq!(edge.get("a.example", "/x/%2e%2e/b").await, ok("b /b"));
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let edge = edge().await;
    let (status, text) = edge.get("a.example", "/x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(text, "no Ingress rule matches host \"a.example\" and path \"/x\"\n");

    edge.rule("a.example", "/", "web");
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "service ns/web does not exist\n");

    edge.endpoints("web", AppProtocol::Http, &[]);
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "service ns/web has no ready endpoints\n");

    edge.endpoints("web", AppProtocol::Http, &["127.0.0.1:1".parse().unwrap()]);
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.starts_with("service ns/web, endpoint 127.0.0.1:1: "), "{text}");
    assert!(text.contains("refused"), "{text}");

    let (namespace, name) = ("ns".into(), "web".into());
    edge.proxy.apply(Update::Service(Service { namespace, name, ports: vec![] }));
    let (_, text) = edge.get("a.example", "/").await;
    assert_eq!(text, "service ns/web has no port 80\n");
}

#[tokio::test]
async fn backends_learn_who_asks() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let request = Request::get("/x")
        .header("host", "a.example:8080")
        .header("x-forwarded-for", "10.0.0.1")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("x-kept", "1")
        .body(empty())
        .unwrap();
    let got = text(h1(edge.http).await.send(request).await).await;
    let lines: BTreeSet<&str> = got.lines().collect();
    let port = format!("x-forwarded-port: {}", edge.http.port());
    let expected = [
        "GET /x HTTP/1.1",
        "host: a.example:8080",
        "te: trailers",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example:8080",
        &port,
        "x-forwarded-proto: http",
        "x-kept: 1",
        "x-real-ip: 127.0.0.1",
        "",
    ];
    assert_eq!(lines, BTreeSet::from(expected));
}

#[tokio::test]
async fn certificates_by_name() {
    let edge = edge().await;
    let [default, own, wildcard] = ["default", "own", "wildcard"].map(certificate);
    let der = |made: &Certificate| {
        CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap().to_vec()
    };
    edge.proxy.apply(Update::DefaultCertificate(default.clone()));
    edge.proxy.apply(Update::Certificate(own.clone()));
    edge.proxy.apply(Update::Certificate(wildcard.clone()));
    let tls_of = |host: &str, secret: &str| Tls { hosts: vec![host.into()], secret: secret.into() };
    edge.proxy.apply(Update::Ingress(Ingress {
        namespace: "ns".into(),
        name: "tls".into(),
        tls: vec![tls_of("own.example", "own"), tls_of("*.example", "wildcard")],
        ..Ingress::default()
    }));
    for (host, expected) in
        [("own.example", &own), ("other.example", &wildcard), ("a.b.example", &default)]
    {
        let (_, got) = tls(edge.https, host, b"http/1.1").await;
        assert!(got == der(expected), "{host}");
    }
    // A renewed certificate is served from the next handshake on.
    let renewed = certificate("own");
    edge.proxy.apply(Update::Certificate(renewed.clone()));
    assert!(tls(edge.https, "own.example", b"h2").await.1 == der(&renewed));
}

#[tokio::test]
async fn a_request_waits_for_the_next_endpoint() {
    let edge = edge().await;
    // The only endpoint is gone, and the news of its successor comes a moment later.
    edge.all_to(AppProtocol::Http, &["127.0.0.1:1".parse().unwrap()]);
    let next = named("next").await;
    let request = edge.get("a", "/");
    let news = async {
        tokio::task::yield_now().await;
        edge.endpoints("web", AppProtocol::Http, &[next.address]);
    };
    let ((status, text), ()) = tokio::join!(request, news);
    assert_eq!((status, text.as_str()), (StatusCode::OK, "next /"));
}

#[tokio::test]
async fn more_clients_than_allowed_have_to_wait() {
    let edge = edge_with(Config { max_connections: 2, ..Config::default() }).await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    // Each listener holds one slot for whom it waits.
    let mut first = h1(edge.http).await;
    let request = || Request::get("/").header("host", "a").body(empty()).unwrap();
    assert_eq!(text(first.send(request()).await).await, "web /");
    let mut second = h1(edge.http).await;
    let mut waiting = pin!(second.try_send(request()));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    drop(first);
    let response = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(text(response).await, "web /");
}
