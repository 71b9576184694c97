//! Backends that come, go and die while requests are under way.

use super::*;

#[tokio::test]
async fn connections_to_backends_are_reused() {
    let edge = edge().await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    let mut client = h1(edge.http).await;
    for _ in 0..20 {
        let request = Request::get("/").header("host", "a").body(empty()).unwrap();
        assert_eq!(text(client.send(request).await).await, "web /");
    }
    assert_eq!(web.requests.load(Ordering::SeqCst), 20);
    assert!(web.connections.load(Ordering::SeqCst) <= 2);
}

/// Sends requests from several clients until told to stop; counts successes, lists failures.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(usize, Vec<String>)>,
    done: Arc<AtomicUsize>,
}

impl Load {
    fn start(address: SocketAddr, method: Method, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (stop, done, method) = (stop.clone(), done.clone(), method.clone());
            tasks.spawn(async move {
                let (mut good, mut bad) = (0, Vec::new());
                let mut client = h1(address).await;
                while !stop.load(Ordering::SeqCst) {
                    let body = if method == Method::POST { full("body") } else { empty() };
                    let request = Request::builder().method(&method).uri("/").header("host", "a");
                    let response = client.try_send(request.body(body).unwrap()).await;
                    match response {
                        Ok(response) if response.status() == StatusCode::OK => {
                            match response.into_body().collect().await {
                                Ok(_) => good += 1,
                                Err(error) => bad.push(error.to_string()),
                            }
                        }
                        Ok(response) => {
                            let status = response.status();
                            bad.push(format!("{status} {}", text(response).await));
                        }
                        Err(error) => {
                            bad.push(error.to_string());
                            client = h1(address).await;
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                (good, bad)
            });
        }
        Self { stop, tasks, done }
    }

    /// Waits until that many more requests are done.
    async fn more(&self, count: usize) {
        let until = self.done.load(Ordering::SeqCst) + count;
        let started = StdInstant::now();
        while self.done.load(Ordering::SeqCst) < until {
            assert!(started.elapsed() < Duration::from_secs(30), "load does not go on");
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let results = self.tasks.join_all().await;
        let good = results.iter().map(|(good, _)| good).sum();
        (good, results.into_iter().flat_map(|(_, bad)| bad).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_backends_are_killed() {
    let edge = edge().await;
    let mut backends = vec![named("0").await, named("1").await, named("2").await];
    let addresses = |backends: &[Origin]| backends.iter().map(|b| b.address).collect::<Vec<_>>();
    edge.all_to(AppProtocol::Http, &addresses(&backends));
    let load = Load::start(edge.http, Method::GET, 8);
    load.more(200).await;
    for _ in 0..10 {
        // Killed without a word, and the endpoints follow later.
        backends.remove(0).kill();
        load.more(100).await;
        backends.push(named("next").await);
        edge.all_to(AppProtocol::Http, &addresses(&backends));
        load.more(100).await;
    }
    let (good, bad) = load.end().await;
    assert!(bad.is_empty(), "{} of {good} failed: {:?}", bad.len(), &bad[..1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_in_a_rolling_update() {
    for method in [Method::GET, Method::POST] {
        let edge = edge().await;
        let mut backends = vec![graceful().await, graceful().await];
        let addresses =
            |backends: &[Graceful]| backends.iter().map(|b| b.address).collect::<Vec<_>>();
        edge.all_to(AppProtocol::Http, &addresses(&backends));
        let load = Load::start(edge.http, method.clone(), 8);
        load.more(200).await;
        for _ in 0..10 {
            // As the cluster does it: a new pod is ready, an old one is no endpoint any longer,
            // ends its requests, closes its connections.
            backends.push(graceful().await);
            let old = backends.remove(0);
            edge.all_to(AppProtocol::Http, &addresses(&backends));
            if method == Method::POST {
                // A server that hangs up while a request is on its way loses it, and what is not
                // idempotent cannot be repeated: pods have their preStop hook against it.
                load.more(50).await;
            }
            old.stop.send(()).unwrap();
            load.more(100).await;
            timeout(Duration::from_secs(5), old.ended).await.unwrap().unwrap();
        }
        let (good, bad) = load.end().await;
        assert!(bad.is_empty(), "{method}: {} of {good} failed: {:?}", bad.len(), &bad[..1]);
    }
}

/// A backend that ends as a good one does.
struct Graceful {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn graceful() -> Graceful {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, mut stopped) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let (ending, end) = watch::channel(false);
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = &mut stopped => break,
            };
            let mut end = end.clone();
            connections.spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async {
                    let _body = request.into_body().collect().await;
                    Ok::<_, Infallible>(Response::new(full("ok")))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = flagged(&mut end) => {
                        connection.as_mut().graceful_shutdown();
                        let _ended = connection.await;
                    }
                }
            });
        }
        // Who is in the queue of the listener gets an answer too.
        while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(50), listener.accept()).await
        {
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(full("ok"))) });
            let mut one = http1::Builder::new();
            connections.spawn(async move {
                let _ended =
                    one.keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
            });
        }
        ending.send(true).unwrap();
        connections.join_all().await;
    });
    Graceful { address, stop, ended }
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_repeated() {
    let edge = edge().await;
    // Takes the request and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _read = stream.read(&mut head).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let good = named("good").await;
    edge.all_to(AppProtocol::Http, &[address]);
    let mut client = h1(edge.http).await;
    let post = || Request::post("/").header("host", "a").body(full("order")).unwrap();
    let response = client.send(post()).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    drop(text(response).await);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    // A GET may be repeated, and finds the other endpoint.
    edge.endpoints("web", AppProtocol::Http, &[address, good.address]);
    for _ in 0..10 {
        assert_eq!(edge.get("a", "/").await, (StatusCode::OK, "good /".into()));
    }
}

#[tokio::test]
async fn draining_lets_requests_end() {
    let edge = edge().await;
    let (release, released) = watch::channel(false);
    let slow = origin(Speaks::Http1, move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Response::new(full("done"))
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[slow.address]);
    let mut idle = h1(edge.http).await;
    let mut busy = h1(edge.http).await;
    let request = || Request::get("/").header("host", "a").body(empty()).unwrap();
    let answer = tokio::spawn(async move {
        let response = busy.send(request()).await;
        assert_eq!(response.headers()["connection"], "close");
        text(response).await
    });
    while slow.requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(edge.stop);
    while TcpStream::connect(edge.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(idle.try_send(request()).await.is_err());
    release.send(true).unwrap();
    assert_eq!(answer.await.unwrap(), "done");
    for task in edge.tasks {
        timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    }
}
