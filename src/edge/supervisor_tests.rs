//! The edge as a process of its own, which here is this test program started once more.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingress::{AppProtocol, Backend, Ingress, Path as Route, PathKind, PortRef, Rule, ServicePort};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

/// What the supervisor starts: not a test, but it has to be found by name.
#[test]
#[ignore = "is the edge process of the other tests"]
fn the_edge_itself() {
    if let Err(error) = crate::edge::run(None) {
        eprintln!("{error}");
    }
}

/// The same as another user.
#[test]
#[ignore = "is the edge process of the other tests"]
fn the_edge_as_another_user() {
    if let Err(error) = crate::edge::run(Some(USER)) {
        eprintln!("{error}");
    }
}

/// A node: addresses of its own on the loopback, and what its agent knows.
struct Node {
    folder: TempDir,
    options: watch::Sender<Options>,
    dns: watch::Sender<Vec<dns::Update>>,
    ingress: watch::Sender<Vec<ingress::Update>>,
    address: IpAddr,
}

const DNS: u16 = 5300;
const HTTP: u16 = 8000;
const HTTPS: u16 = 8443;

impl Node {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let pid = std::process::id().to_be_bytes();
        let next = NEXT.fetch_add(1, Ordering::SeqCst) as u8;
        let address = IpAddr::from(Ipv4Addr::new(127, pid[2] | 1, pid[3], next));
        let folder = tempfile::tempdir().unwrap();
        let at = |port| SocketAddr::new(address, port);
        let listeners =
            [Listener::DnsUdp(at(DNS)), Listener::DnsTcp(at(DNS)), Listener::Http(at(HTTP))];
        let resolv_conf = folder.path().join("resolv.conf");
        let mut options = Options {
            user: None,
            listeners: listeners.into(),
            dns: dns::Config { resolv_conf, ..dns::Config::default() },
            ..Options::new(folder.path())
        };
        options.command = edge_command("/proc/self/exe", "the_edge_itself");
        let mut node = Self {
            folder,
            options: watch::Sender::new(options),
            dns: watch::Sender::default(),
            ingress: watch::Sender::default(),
            address,
        };
        node.service("web", "10.0.0.1");
        node
    }

    fn service(&mut self, name: &str, ip: &str) {
        let ips = vec![ip.parse().unwrap()];
        let addresses = dns::Addresses::ClusterIp { ips, ports: vec![] };
        let (namespace, name) = ("default".into(), name.into());
        let record = dns::Record { namespace, name, addresses };
        self.dns.send_modify(|all| all.push(dns::Update::Upsert(record)));
    }

    fn route_to(&self, backend: SocketAddr) {
        let to = Backend { service: "web".into(), port: PortRef::Number(80) };
        let path = Route { path: "/".into(), kind: PathKind::Prefix, backend: to };
        let rules = vec![Rule { host: String::new(), paths: vec![path] }];
        let (namespace, name) = (String::from("ns"), String::from("web"));
        let ingress = Ingress {
            namespace: namespace.clone(),
            name: name.clone(),
            rules,
            ..Ingress::default()
        };
        let port = ServicePort {
            name: String::new(),
            port: 80,
            protocol: AppProtocol::Http,
            endpoints: vec![backend],
        };
        let service = ingress::Service { namespace, name, ports: vec![port] };
        let updates = [ingress::Update::Ingress(ingress), ingress::Update::Service(service)];
        self.ingress.send_modify(|all| all.extend(updates));
    }

    fn agent(&self) -> Agent {
        let stop = CancellationToken::new();
        let feeds = Feeds { dns: Some(feed(&self.dns)), ingress: Some(feed(&self.ingress)) };
        let supervisor = Supervisor::new(self.options.subscribe(), feeds);
        Agent { task: tokio::spawn(supervisor.run(stop.clone())), stop }
    }

    /// Asks for the address of a service until the answer is as expected.
    async fn resolves(&self, name: &str, expected: Option<&str>) {
        let started = Instant::now();
        loop {
            let answer = self.ask(name).await;
            if answer == Some(expected.map(str::to_owned)) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{name}: {answer:?}");
            tokio::task::yield_now().await;
        }
    }

    /// One question: no answer, no address, or an address.
    async fn ask(&self, name: &str) -> Option<Option<String>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect((self.address, DNS)).await.unwrap();
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [name, "default", "svc", "cluster", "local"] {
            question.push(label.len() as u8);
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(&[0, 0, 1, 0, 1]);
        socket.send(&question).await.ok()?;
        let mut answer = [0; 512];
        let received = timeout(Duration::from_millis(200), socket.recv(&mut answer)).await;
        let answer = &answer[..received.ok()?.ok()?];
        Some(match answer[7] {
            0 => None,
            _ => Some(Ipv4Addr::from_bits(u32::from_be_bytes(
                answer[answer.len() - 4..].try_into().unwrap(),
            )))
            .map(|ip| ip.to_string()),
        })
    }

    async fn get(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect((self.address, HTTP)).await?;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
    }

    /// The edge that is found at the socket.
    async fn edge(&self) -> i32 {
        let started = Instant::now();
        loop {
            // As an agent does it, which costs the present one its connection.
            if let Some(edge) = adopt(&self.folder.path().join(SOCKET)).await {
                return edge.pid;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "no edge");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nobody else ends an edge.
        for pid in edges_of(self.folder.path()) {
            let _gone = linux::process::kill(pid, linux::signal::Signal::KILL);
        }
    }
}

/// The processes that have our control socket open.
fn edges_of(folder: &Path) -> BTreeSet<i32> {
    let path = folder.join(SOCKET).display().to_string();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let inodes: Vec<String> = table
        .lines()
        .filter(|line| line.ends_with(&path))
        .filter_map(|line| line.split_ascii_whitespace().nth(6))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut found = BTreeSet::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let fds = std::fs::read_dir(process.path().join("fd"));
        let holds = fds.into_iter().flatten().flatten().any(|fd| {
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            inodes.iter().any(|inode| target.to_str() == Some(inode))
        });
        if holds && pid != std::process::id() as i32 {
            found.insert(pid);
        }
    }
    found
}

fn edge_command(program: impl Into<PathBuf>, name: &str) -> (PathBuf, Vec<String>) {
    // The path of the test without that of the crate.
    let module = module_path!().split_once("::").unwrap().1;
    let arguments = ["--exact", "--ignored", "--nocapture", "--quiet"].map(String::from);
    let name = format!("{module}::{name}");
    (program.into(), arguments.into_iter().chain([name]).collect())
}

struct Agent {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Agent {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Sends what is known, and again after every change.
fn feed<U>(state: &watch::Sender<Vec<U>>) -> Feed<U>
where
    U: Clone + Send + Sync + SyncedMark + 'static,
{
    let state = state.clone();
    Box::new(move |sender| {
        let mut state = state.subscribe();
        Box::pin(async move {
            let mut first = true;
            loop {
                let all = state.borrow_and_update().clone();
                for update in all {
                    if sender.send(update).await.is_err() {
                        return;
                    }
                }
                if std::mem::take(&mut first) && sender.send(U::synced()).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        })
    })
}

trait SyncedMark {
    fn synced() -> Self;
}

impl SyncedMark for dns::Update {
    fn synced() -> Self {
        Self::Synced
    }
}

impl SyncedMark for ingress::Update {
    fn synced() -> Self {
        Self::Synced
    }
}

/// A web server that says its name, each request after `gate` has opened.
async fn web(name: &'static str, gate: watch::Receiver<bool>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut gate, counted) = (gate.clone(), counted.clone());
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    gate.wait_for(|open| *open).await.unwrap();
                    let length = name.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, requests)
}

fn open() -> watch::Receiver<bool> {
    watch::Sender::new(true).subscribe()
}

#[tokio::test]
async fn a_node_has_dns_and_ingress() {
    let mut node = Node::new();
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    node.resolves("other", None).await;
    // Changes come while it runs.
    node.service("other", "10.0.0.2");
    node.resolves("other", Some("10.0.0.2")).await;
    let (backend, _) = web("backend", open()).await;
    node.route_to(backend);
    while node.get().await.unwrap() != "backend" {
        tokio::task::yield_now().await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn every_host_has_a_certificate() {
    let node = Node::new();
    let https = SocketAddr::new(node.address, HTTPS);
    node.options.send_modify(|options| {
        options.listeners.insert(Listener::Https(https));
    });
    let agent = node.agent();
    let mut stream = loop {
        match TcpStream::connect(https).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = certificate::of(node.folder.path()).unwrap();
    let der = pki::pem::certificates(&made.chain).unwrap().swap_remove(0);
    roots.add(der.into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "any.example".to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut flight = vec![0; 16 * 1024];
    let refusal = loop {
        let length = stream.read(&mut flight).await.unwrap();
        assert!(length > 0, "the server hung up");
        client.read_tls(&mut &flight[..length]).unwrap();
        if let Err(error) = client.process_new_packets() {
            break error;
        }
    };
    // There is one, and nobody would trust it; without one the server would have refused.
    assert!(matches!(refusal, rustls::Error::InvalidCertificate(_)), "{refusal}");
    agent.stop().await;
}

#[tokio::test]
async fn the_process_has_no_privileges() {
    let node = Node::new();
    node.options.send_modify(|options| {
        options.command = edge_command("/proc/self/exe", "the_edge_as_another_user");
    });
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    agent.stop().await;
    let pid = node.edge().await;
    // In this program the edge is one of several threads; its own is the one without privileges.
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut statuses =
        tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap());
    let status = statuses.find(|status| status.contains("NoNewPrivs:\t1")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', '\t', ' ']).replace('\t', " ")
    };
    assert_eq!(value("Uid"), "65533 65533 65533 65533");
    assert_eq!(value("Gid"), "65533 65533 65533 65533");
    assert_eq!(value("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
}

#[tokio::test]
async fn the_edge_outlives_its_agent_and_is_adopted() {
    let mut node = Node::new();
    node.service("old", "10.0.0.2");
    let (backend, _) = web("backend", open()).await;
    node.route_to(backend);
    let agent = node.agent();
    node.resolves("old", Some("10.0.0.2")).await;
    while node.get().await.unwrap() != "backend" {
        tokio::task::yield_now().await;
    }
    agent.stop().await;
    let pid = node.edge().await;
    // It goes on with what it knows.
    assert_eq!(node.ask("web").await, Some(Some("10.0.0.1".into())));
    assert_eq!(node.get().await.unwrap(), "backend");
    // The next agent knows of other things.
    node.dns.send_replace(vec![]);
    node.service("web", "10.0.0.9");
    node.service("new", "10.0.0.3");
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.9")).await;
    node.resolves("new", Some("10.0.0.3")).await;
    node.resolves("old", None).await;
    agent.stop().await;
    assert_eq!(node.edge().await, pid);
}

#[tokio::test]
async fn a_killed_edge_is_replaced_and_clients_wait() {
    let node = Node::new();
    let (backend, _) = web("backend", open()).await;
    node.route_to(backend);
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    while node.get().await.unwrap() != "backend" {
        tokio::task::yield_now().await;
    }
    let before: Vec<i32> = edges_of(node.folder.path()).into_iter().collect();
    assert_eq!(before.len(), 1);
    linux::process::kill(before[0], linux::signal::Signal::KILL).unwrap();
    while Path::new(&format!("/proc/{}/fd/0", before[0])).exists() {
        tokio::task::yield_now().await;
    }
    // Nobody serves at this moment, but the socket is open: the client is served when it is.
    assert_eq!(node.get().await.unwrap(), "backend");
    node.resolves("web", Some("10.0.0.1")).await;
    agent.stop().await;
    assert_ne!(node.edge().await, before[0]);
}

#[tokio::test]
async fn another_build_takes_over_without_a_gap() {
    let node = Node::new();
    let (release, gate) = watch::channel(true);
    let (backend, requests) = web("backend", gate).await;
    node.route_to(backend);
    // A copy of the program is another build.
    let copy = node.folder.path().join("older");
    std::fs::copy("/proc/self/exe", &copy).unwrap();
    let new = node.options.borrow().command.clone();
    node.options.send_modify(|options| {
        options.command = edge_command(&copy, "the_edge_itself");
    });
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    while node.get().await.unwrap() != "backend" {
        tokio::task::yield_now().await;
    }
    agent.stop().await;
    let old = node.edge().await;
    node.options.send_modify(|options| options.command = new);

    // A request is under way while the new agent replaces the edge.
    release.send_replace(false);
    let before = requests.load(Ordering::SeqCst);
    let get = async {
        let answer = node.get().await.unwrap();
        assert_eq!(answer, "backend");
    };
    let replace = async {
        while requests.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        let agent = node.agent();
        // No question remains without an answer.
        while edges_of(node.folder.path()).contains(&old) {
            assert_eq!(node.ask("web").await, Some(Some("10.0.0.1".into())));
        }
        release.send_replace(true);
        agent
    };
    let ((), agent) = tokio::join!(get, replace);
    assert_eq!(node.get().await.unwrap(), "backend");
    agent.stop().await;
    assert_ne!(node.edge().await, old);
    // The old one ends when its request has.
    while Path::new(&format!("/proc/{old}/fd/0")).exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_edge_that_dies_while_it_is_replaced() {
    let node = Node::new();
    let copy = node.folder.path().join("older");
    std::fs::copy("/proc/self/exe", &copy).unwrap();
    let new = node.options.borrow().command.clone();
    node.options.send_modify(|options| {
        options.command = edge_command(&copy, "the_edge_itself");
    });
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    agent.stop().await;
    let old = node.edge().await;
    node.options.send_modify(|options| options.command = new);
    // The API is away: the new agent cannot tell the new edge anything.
    let silent: Feed<dns::Update> =
        Box::new(|sender| Box::pin(async move { sender.closed().await }));
    let stop = CancellationToken::new();
    let feeds = Feeds { dns: Some(silent), ingress: None };
    let supervisor = Supervisor::new(node.options.subscribe(), feeds);
    let task = tokio::spawn(supervisor.run(stop.clone()));
    // The old one goes on, until it dies; then the new one serves, and says that it does not know.
    for _ in 0..50 {
        assert_eq!(node.ask("web").await, Some(Some("10.0.0.1".into())));
    }
    linux::process::kill(old, linux::signal::Signal::KILL).unwrap();
    node.resolves("web", None).await;
    assert_ne!(node.edge().await, old);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn sockets_follow_the_options() {
    let node = Node::new();
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    let moved = Listener::Http(SocketAddr::new(node.address, HTTP + 1));
    node.options.send_modify(|options| {
        options.listeners.retain(|listener| !matches!(listener, Listener::Http(_)));
        options.listeners.insert(moved);
        options.dns.domain = "home.arpa".into();
    });
    while TcpStream::connect((node.address, HTTP + 1)).await.is_err() {
        tokio::task::yield_now().await;
    }
    while TcpStream::connect((node.address, HTTP)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // The former domain is somebody else's now, and there is nobody to ask.
    while node.ask("web").await != Some(None) {
        tokio::task::yield_now().await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_no_reason_to_give_up() {
    let node = Node::new();
    let taken = std::net::TcpListener::bind((node.address, HTTP)).unwrap();
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    drop(taken);
    agent.stop().await;
}

#[tokio::test]
async fn a_file_in_the_way_of_the_socket() {
    let node = Node::new();
    let mut file = std::fs::File::create(node.folder.path().join(SOCKET)).unwrap();
    file.write_all(b"left behind").unwrap();
    let agent = node.agent();
    node.resolves("web", Some("10.0.0.1")).await;
    agent.stop().await;
    let socket = std::fs::metadata(node.folder.path().join(SOCKET)).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}
