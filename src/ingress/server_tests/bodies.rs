//! Bodies both ways: streamed, large, absent, refused, abandoned.

use super::*;

#[tokio::test]
async fn a_slow_upload_is_no_silence() {
    let edge = edge_with(Config { response_timeout: 1, ..Config::default() }).await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    let upload = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(400));
        for _ in 0..6 {
            ticks.tick().await;
            sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        }
    });
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.ends_with("\n\nxxxxxx"));
    upload.await.unwrap();
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let edge = edge().await;
    // Answers each frame as it comes.
    let echo =
        origin(Speaks::Http1, |request| async move { Response::new(request.into_body().boxed()) })
            .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let mut client = h1(edge.http).await;
    sender.send_data(Bytes::from_static(b"first")).await.unwrap();
    let mut response = client.send(request).await.into_body();
    let mut received = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(received, "first");
    sender.send_data(Bytes::from_static(b"second")).await.unwrap();
    received = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(received, "second");
    drop(sender);
    assert!(response.frame().await.is_none());
}

#[tokio::test]
async fn responses_without_a_body() {
    let edge = edge().await;
    let server = origin(Speaks::Http1, |request| async move {
        match request.uri().path() {
            "/204" => Response::builder().status(204).body(empty()).unwrap(),
            "/304" => Response::builder().status(304).header("etag", "x").body(empty()).unwrap(),
            _ => Response::builder().header("content-length", "5").body(full("hello")).unwrap(),
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[server.address]);
    let mut client = h1(edge.http).await;
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("5")),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("GET", "/", 200, Some("5")),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "a");
        let response = client.send(request.body(empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let header = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(header, length, "{method} {path}");
        let expected = if method == "GET" && path == "/" { "hello" } else { "" };
        assert_eq!(text(response).await, expected);
    }
}

#[tokio::test]
async fn clients_that_ask_before_they_send() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
        Expect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\n\nbody"), "{answer}");
}

#[tokio::test]
async fn an_answer_before_the_body_is_there() {
    let edge = edge().await;
    let refusing = origin(Speaks::Http1, |_| async {
        Response::builder().status(413).body(full("too much")).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[refusing.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    sender.send_data(Bytes::from(vec![0; 1024])).await.unwrap();
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "too much");
    drop(sender);
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let edge = edge().await;
    let echo =
        origin(Speaks::Http1, |request| async move { Response::new(request.into_body().boxed()) })
            .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let request = Request::post("/").header("host", "a").body(full(sent.clone())).unwrap();
    let response = h1(edge.http).await.send(request).await;
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_backend() {
    let edge = edge().await;
    let (left, mut noticed) = tokio::sync::mpsc::channel::<()>(1);
    let endless = origin(Speaks::Http1, move |_| {
        let left = left.clone();
        async move {
            let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
            tokio::spawn(async move {
                while sender.send_data(Bytes::from(vec![0; 4096])).await.is_ok() {}
                left.send(()).await.unwrap();
            });
            Response::new(body.boxed())
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[endless.address]);
    let mut client = h1(edge.http).await;
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    let mut response = client.send(request).await.into_body();
    response.frame().await.unwrap().unwrap();
    drop((response, client));
    timeout(Duration::from_secs(5), noticed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn trailers_pass_over_http1() {
    let edge = edge().await;
    let server = origin(Speaks::Http1, |_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let data = Full::new(Bytes::from_static(b"data")).map_err(|never| match never {});
        let body = data.with_trailers(async { Some(Ok(trailers)) }).boxed();
        // Without a length, so that it is sent in chunks, which trailers can follow.
        let frames = body.map_frame(|frame: Frame<Bytes>| frame).boxed();
        Response::builder().header("trailer", "x-sum").body(frames).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[server.address]);
    let request =
        Request::get("/").header("host", "a").header("te", "trailers").body(empty()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
}
