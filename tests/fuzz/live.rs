//! A running cluster, over the wire: the API server, the kubelet, Ingress and DNS.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use apimachinery::proto;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::{
    engine::{Random, any_json, fuzz, mutate_json, mutated},
    seeds,
    support::{Cluster, Shared},
};

static SHARED: Shared = Shared::started_by(start);

/// How long a server may take for an answer; more is a failure.
const PATIENCE: Duration = Duration::from_secs(8);
const DNS: &str = "10.43.0.10:53";

fn start() -> Cluster {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", "fuzz"]).stdout();
    cluster
}

/// Does `work` on a thread in the network of the node; sockets that it makes belong there for good.
fn on_node<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(SHARED.cluster().namespace()).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            linux::namespace::enter(&namespace, libc::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn tcp(address: &str) -> TcpStream {
    let stream = on_node(|| TcpStream::connect(address)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The admin's side of TLS.
fn tls() -> Arc<ClientConfig> {
    let folder = SHARED.cluster().data().join("server/tls");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&read("ca.crt")) {
        roots.add(authority.unwrap()).unwrap();
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read("admin.crt"))
        .map(|certificate| certificate.unwrap().into_owned())
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&read("admin.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn api(config: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    StreamOwned::new(connection, tcp("127.0.0.1:6443"))
}

/// The server is the process that it was, and answers.
fn assert_alive() {
    let cluster = SHARED.cluster();
    cluster.kubectl(&["get", "--raw=/readyz"]).stdout();
    assert!(!cluster.log().contains("panicked at"), "{}", cluster.log());
}

/// Reads until the other side closes, which it has to, in time: nothing more is coming.
fn drain(stream: &mut impl Read) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let said = String::from_utf8_lossy(&answer);
                panic!("neither an answer nor an end after {PATIENCE:?}: {said}");
            }
            // Cut off, which is an end too.
            Err(_) => return answer,
        }
    }
}

/// Good requests, as bytes.
fn requests() -> Vec<Vec<u8>> {
    let body = seeds::config_map().to_string();
    let host = "Host: fuzz.example\r\n";
    [
        format!("GET /api/v1/pods?limit=1 HTTP/1.1\r\n{host}Accept: application/json\r\n\r\n"),
        format!("GET /healthz HTTP/1.0\r\n\r\nGET /livez HTTP/1.1\r\n{host}\r\n"),
        format!(
            "POST /api/v1/namespaces/fuzz/configmaps?dryRun=All HTTP/1.1\r\n{host}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!(
            "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
        ),
        format!(
            "GET /x HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{4}\u{8}\0\0\0\0\0\0\0\u{1}".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

const HTTP_WORDS: [&str; 14] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "%00",
    "%2e%2e/",
    "//",
    "?",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Expect: 100-continue\r\n",
    "fffffffffffffffff\r\n",
    "HTTP/1.1",
];

#[test]
fn the_api_server_answers_or_closes_whatever_it_is_sent() {
    let (requests, config) = (requests(), tls());
    fuzz(
        "api-bytes",
        |random| mutated(random, &requests, &HTTP_WORDS),
        |input| {
            let mut stream = api(&config);
            // It may close before it has read all.
            if stream.write_all(input).is_ok() && stream.flush().is_ok() {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                drain(&mut stream);
            }
        },
    );
    assert_alive();
}

#[test]
fn the_kubelet_answers_or_closes_whatever_it_is_sent() {
    let (mut requests, config) = (requests(), tls());
    let paths = ["/exec/a/b/c?command=x&output=1", "/containerLogs/a/b/c?tailLines=1", "/pods"];
    requests
        .extend(paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()));
    fuzz(
        "kubelet-bytes",
        |random| mutated(random, &requests, &HTTP_WORDS),
        |input| {
            let name = ServerName::try_from("192.0.2.1").unwrap();
            let connection = ClientConnection::new(config.clone(), name).unwrap();
            let mut stream = StreamOwned::new(connection, tcp("192.0.2.1:10250"));
            if stream.write_all(input).is_ok() && stream.flush().is_ok() {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                drain(&mut stream);
            }
        },
    );
    assert_alive();
}

#[test]
fn the_ingress_answers_or_closes_whatever_it_is_sent() {
    let requests = requests();
    let good = || {
        let mut stream = tcp("192.0.2.1:80");
        let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        String::from_utf8_lossy(&drain(&mut stream)).into_owned()
    };
    SHARED.cluster();
    fuzz(
        "ingress-bytes",
        |random| mutated(random, &requests, &HTTP_WORDS),
        |input| {
            let mut stream = tcp("192.0.2.1:80");
            if stream.write_all(input).is_ok() {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                drain(&mut stream);
            }
            let answer = good();
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        },
    );
    assert_alive();
}

/// A question as it is sent: the name's labels, and the type.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len() as u8);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

#[test]
fn dns_goes_on_answering_whatever_it_is_asked() {
    SHARED.cluster();
    let good = question("kubernetes.default.svc.cluster.local", 1);
    let mut with_edns = question("kubernetes.default.svc.cluster.local", 33);
    with_edns[11] = 1;
    with_edns.extend([0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 4, 0, 10, 0, 0]);
    let seeds = [
        good.clone(),
        with_edns,
        question("10.0.43.10.in-addr.arpa", 12),
        question("x.pod.cluster.local", 28),
        question("version.bind", 16),
    ];
    let socket = on_node(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    fuzz(
        "dns",
        |random| mutated(random, &seeds, &["\u{c}\u{0}", "\u{3f}", "\0\0", "\u{7}example"]),
        |input| {
            let input = &input[..input.len().min(4096)];
            // A name that is not ours may be sent on to a resolver that does not answer: nobody
            // waits for it.
            socket.send_to(input, DNS).unwrap();
            let mut stream = tcp(DNS);
            let length = u16::try_from(input.len()).unwrap();
            let framed = [&length.to_be_bytes()[..], input].concat();
            let _ = stream.write_all(&framed);
            drop(stream);
            socket.send_to(&good, DNS).unwrap();
            let mut buffer = [0; 4096];
            loop {
                let (length, _) =
                    socket.recv_from(&mut buffer).expect("an answer to a good question");
                // Answers to what came before pass by.
                if length > 12
                    && buffer[..2] == good[..2]
                    && buffer[12..good.len()] == good[12..]
                    && buffer[7] > 0
                {
                    return;
                }
            }
        },
    );
    assert_alive();
}

/// A request that is well-formed HTTP: target, content type, body; one per line of an input.
fn request(random: &mut Random) -> Vec<u8> {
    let resources = [
        ("api/v1", "pods"),
        ("api/v1", "configmaps"),
        ("api/v1", "services"),
        ("apis/apps/v1", "deployments"),
        ("apis/batch/v1", "jobs"),
        ("apis/networking.k8s.io/v1", "ingresses"),
    ];
    let (group, resource) = *random.pick(&resources);
    let subresources =
        ["", "", "/a", "/a", "/a/status", "/a/scale", "/a/log", "/%00", "/a/eviction"];
    let method =
        *random.pick(&["GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "OPTIONS", "FUZZ"]);
    let subresource = random.pick(&subresources);
    let mut target = format!("/{group}/namespaces/fuzz/{resource}{subresource}?fieldManager=fuzz");
    let values = [
        "a",
        "1",
        "-1",
        "0",
        "true",
        "All",
        "Strict",
        "Ignore",
        "99999999999999999999",
        "NotOlderThan",
        "Exact",
        "a%3Db",
        "a+in+(b)",
        "metadata.name%3Da",
        "%00",
        "%ff",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NywiIjoiYSJ9",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLlx1MDAwMCJ9",
        "Orphan",
        "Foreground",
    ];
    let names = [
        "limit",
        "continue",
        "labelSelector",
        "fieldSelector",
        "resourceVersion",
        "resourceVersionMatch",
        "dryRun",
        "fieldValidation",
        "force",
        "propagationPolicy",
        "gracePeriodSeconds",
        "timeoutSeconds",
        "pretty",
        "includeObject",
    ];
    for _ in 0..random.below(4) {
        let name = *random.pick(&names);
        let value = match name {
            // What is no number is a 500 of upstream's in a GET, so it is of ours.
            "resourceVersion" => *random.pick(&["", "0", "1", "99999999999999999"]),
            _ => *random.pick(&values),
        };
        target.push_str(&format!("&{name}={value}"));
    }
    let mut object = random.pick(&seeds::objects()).clone();
    if object.get("kind").is_some_and(|kind| kind == "CustomResourceDefinition") {
        object = any_json(random, seeds::WORDS);
    }
    if let Some(metadata) =
        object.pointer_mut("/metadata").and_then(serde_json::Value::as_object_mut)
    {
        metadata.insert("namespace".to_owned(), "fuzz".into());
    }
    for _ in 0..random.below(4) {
        mutate_json(random, &mut object, seeds::WORDS);
    }
    let (kind, body) = match (method, random.below(4)) {
        ("PATCH", 0) => ("application/merge-patch+json", object.to_string().into_bytes()),
        ("PATCH", 1) => ("application/strategic-merge-patch+json", object.to_string().into_bytes()),
        ("PATCH", 2) => ("application/apply-patch+yaml", object.to_string().into_bytes()),
        ("PATCH", _) => {
            let value = any_json(random, seeds::WORDS);
            let path = *random.pick(&["/metadata", "/spec", "/data/k", "/metadata/labels/-", ""]);
            let step = serde_json::json!([{"op": "add", "path": path, "value": value}]);
            ("application/json-patch+json", step.to_string().into_bytes())
        }
        (_, 0) => {
            let bytes = proto::encode_object(&object).unwrap_or_default();
            let bytes = if random.below(2) == 0 { bytes } else { mutated(random, &[bytes], &[]) };
            ("application/vnd.kubernetes.protobuf", bytes)
        }
        (_, 1) => {
            let text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: b}\ndata: {<<: *m, k: |-\n  x\n}\n";
            (
                "application/yaml",
                mutated(
                    random,
                    &[text.to_vec()],
                    &["&a ", "*a", "<<: ", "!!int ", "- ", "? ", "\t", "0o7"],
                ),
            )
        }
        _ => {
            let text = object.to_string().into_bytes();
            let text = if random.below(3) == 0 {
                mutated(random, &[text], &["[", "{\"a\":"])
            } else {
                text
            };
            ("application/json", text)
        }
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// What is an internal error of upstream's too, with these very words.
const UPSTREAMS: [&str; 1] = ["failed to create typed patch object"];

/// Reads one answer of a connection that stays open, and gives its head and its body; nothing if it
/// is closed.
fn read_answer(stream: &mut Tls) -> Option<(String, String)> {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    let (mut head, mut left): (Option<String>, usize) = (None, 0);
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        answer.extend(&buffer[..count]);
        if head.is_none()
            && let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim().to_owned())
            };
            left = match field("content-length:") {
                Some(length) => end + 4 + length.parse::<usize>().unwrap(),
                // In chunks, or without a body.
                None if text.contains("transfer-encoding: chunked") => usize::MAX,
                None => end + 4,
            };
            head = Some(text);
        }
        let whole = answer.len() >= left || (left == usize::MAX && answer.ends_with(b"0\r\n\r\n"));
        if let Some(head) = head.as_ref().filter(|_| whole) {
            let body = String::from_utf8_lossy(&answer[head.len() + 4..]).into_owned();
            return Some((head.clone(), body));
        }
    }
}

#[test]
fn every_request_has_an_answer_and_none_is_an_internal_error() {
    let config = tls();
    let connection: Mutex<Option<Tls>> = Mutex::new(None);
    fuzz("api-requests", request, |input| {
        let mut kept = connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Once more on a new connection: an old one may have been closed meanwhile.
        for fresh in [false, true] {
            let mut stream = match kept.take() {
                Some(stream) if !fresh => stream,
                _ => api(&config),
            };
            let sent = stream.write_all(input).is_ok() && stream.flush().is_ok();
            let Some((head, body)) = sent.then(|| read_answer(&mut stream)).flatten() else {
                assert!(!fresh, "no answer to {}", String::from_utf8_lossy(input));
                continue;
            };
            let code: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            // 504 is the answer to revisions that are not there yet.
            let accepted =
                code < 500 || code == 504 || UPSTREAMS.iter().any(|words| body.contains(words));
            assert!(accepted, "{head}\n{body}\nto {}", String::from_utf8_lossy(input));
            if !head.contains("connection: close") {
                *kept = Some(stream);
            }
            return;
        }
    });
    assert_alive();
}
