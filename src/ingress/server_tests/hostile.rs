//! Clients that are broken or mean harm, and backends that are silent.

use super::*;

#[tokio::test]
async fn a_backend_that_is_silent_times_out() {
    let edge = edge_with(Config { response_timeout: 1, ..Config::default() }).await;
    let silent = origin(Speaks::Http1, |_| std::future::pending()).await;
    edge.all_to(AppProtocol::Http, &[silent.address]);
    let (status, text) = edge.get("a", "/").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(text, "service ns/web did not answer in 1 s\n");
}

#[tokio::test]
async fn hosts_that_are_none_are_refused() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let cases: [(&str, u16); 8] = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("NONSENSE\r\n\r\n", 400),
    ];
    for (request, expected) in cases {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).await.unwrap();
        let status = String::from_utf8(head[9..].to_vec()).unwrap();
        assert_eq!(status, expected.to_string(), "{request:?}");
    }
    // The absolute target is what counts.
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let request = "GET http://b.example/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("host: b.example\n"), "{answer}");
}

#[tokio::test]
async fn smuggled_requests_are_refused() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n b\r\n",
    ] {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\nhello");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?} {answer}");
    }
    assert_eq!(mirror.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn heads_have_limits() {
    let edge = edge().await;
    edge.rule("", "/", "web");
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let _refused_while_sending = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

/// Whether the proxy closes a connection on which `bytes` have come and nothing more. The clock
/// runs ahead whenever nobody has anything to do.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let _reset = stream.read_to_end(&mut rest).await;
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn clients_that_stall_are_cut_off() {
    let edge = edge().await;
    let silent = origin(Speaks::Http1, |request| async move {
        let _body = request.into_body().collect().await;
        Response::new(full("done"))
    })
    .await;
    edge.all_to(AppProtocol::Http, &[silent.address]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx";
    for (address, bytes, limit) in [
        (edge.http, &b""[..], HEAD),
        (edge.http, b"P", HEAD),
        (edge.http, b"GET / HTTP/1.1\r\nHost:", 2 * HEAD),
        (edge.http, preface, 2 * IDLE),
        (edge.http, body, 2 * STALL),
        (edge.https, b"", HANDSHAKE),
        (edge.https, b"\x16\x03", HANDSHAKE),
    ] {
        let took = is_closed_after(address, bytes).await;
        assert!(took <= limit + Duration::from_secs(1), "{bytes:?} {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end() {
    let edge = edge().await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let took = is_closed_after(edge.http, request).await;
    assert!(took >= IDLE && took <= IDLE + 2 * HEAD, "{took:?}");
}
