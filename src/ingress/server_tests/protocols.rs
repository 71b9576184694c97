//! HTTP/2, gRPC, TLS to backends, and connections that stop being HTTP.

use super::*;

#[tokio::test]
async fn http2_over_tls_and_in_clear() {
    let edge = edge().await;
    edge.proxy.apply(Update::DefaultCertificate(certificate("default")));
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let (stream, _) = tls(edge.https, "a.example", b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let plain = TcpStream::connect(edge.http).await.unwrap();
    for (mut client, scheme) in [(h2_over(stream).await, "https"), (h2_over(plain).await, "http")] {
        let request = Request::post(format!("{scheme}://a.example/x"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full("hello"))
            .unwrap();
        let response = client.send(request).await;
        assert_eq!(response.version(), Version::HTTP_2);
        let got = text(response).await;
        assert!(got.starts_with("POST /x HTTP/1.1\n"), "{got}");
        for line in ["host: a.example", "cookie: a=1; b=2", &format!("x-forwarded-proto: {scheme}")]
        {
            assert!(got.contains(&format!("{line}\n")), "{got}");
        }
        assert!(got.ends_with("\n\nhello"), "{got}");
    }
}

#[tokio::test]
async fn http2_requests_run_side_by_side() {
    let edge = edge().await;
    let gate = Arc::new(tokio::sync::Barrier::new(20));
    let meeting = origin(Speaks::Http2, move |_| {
        let gate = gate.clone();
        async move {
            gate.wait().await;
            Response::new(full("met"))
        }
    })
    .await;
    edge.all_to(AppProtocol::H2c, &[meeting.address]);
    let Http::Two(client) = h2_over(TcpStream::connect(edge.http).await.unwrap()).await else {
        unreachable!()
    };
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let mut client = client.clone();
        requests.spawn(async move {
            let request = Request::get("http://a.example/").body(empty()).unwrap();
            text(client.send_request(request).await.unwrap()).await
        });
    }
    assert!(requests.join_all().await.iter().all(|answer| answer == "met"));
    // All of them share one connection to the backend.
    assert_eq!(meeting.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn grpc_as_it_is_spoken() {
    let edge = edge().await;
    edge.proxy.apply(Update::DefaultCertificate(certificate("default")));
    let server = origin(Speaks::Http2, |request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri().to_string(), "http://a.example/Service/Method");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let data = Full::new(body).map_err(|never| match never {});
        let with_trailers = data.with_trailers(async { Some(Ok(trailers)) });
        Response::new(with_trailers.boxed())
    })
    .await;
    edge.all_to(AppProtocol::H2c, &[server.address]);
    let (stream, _) = tls(edge.https, "a.example", b"h2").await;
    let request = Request::post("https://a.example/Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full("message"))
        .unwrap();
    let response = h2_over(stream).await.send(request).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "message");
}

#[tokio::test]
async fn backends_over_tls() {
    let edge = edge().await;
    for (alpn, version) in [(&b"h2"[..], "HTTP/2.0"), (b"http/1.1", "HTTP/1.1")] {
        let mirror = mirror(Speaks::Tls(alpn)).await;
        edge.all_to(AppProtocol::Https, &[mirror.address]);
        let (status, text) = edge.get("a.example", "/x").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.lines().next().unwrap().ends_with(version), "{text}");
    }
}

#[tokio::test]
async fn websockets_and_other_upgrades() {
    let edge = edge().await;
    let echo = origin(Speaks::Http1, |mut request| async move {
        assert_eq!(request.headers()["connection"], "upgrade");
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["sec-websocket-key"], "x");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgrade.await.unwrap());
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "y")
            .body(empty())
            .unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let request = Request::get("/")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "x")
        .body(empty())
        .unwrap();
    let mut response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "y");
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for message in ["one", "two"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; 3];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_upgrade_may_be_declined() {
    let edge = edge().await;
    let plain = origin(Speaks::Http1, |_| async {
        Response::builder().status(StatusCode::FORBIDDEN).body(full("no")).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[plain.address]);
    let request = Request::get("/")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(empty())
        .unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response).await, "no");
}
