//! Real sockets on the loopback: a client, this server, and upstream servers made for the test.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::oneshot;

use super::*;
use crate::model::{Addresses, Config, Record as ServiceRecord, Update};

/// An upstream server that counts what it is asked.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    asked_tcp: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
}

/// Both transports at the same port.
async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (socket, listener);
        }
    }
}

async fn upstream(respond: fn(&Message, bool) -> Option<Message>) -> Upstream {
    let (socket, listener) = bind().await;
    let address = listener.local_addr().unwrap();
    let upstream = Upstream {
        address,
        asked: Arc::default(),
        asked_tcp: Arc::default(),
        silent: Arc::default(),
    };
    let (asked, silent) = (upstream.asked.clone(), upstream.silent.clone());
    tokio::spawn(async move {
        let mut packet = vec![0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut packet).await.unwrap();
            let question = Message::from_vec(&packet[..length]).unwrap();
            if question.queries[0].query_type() != RecordType::HINFO {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            if silent.load(Ordering::SeqCst) {
                continue;
            }
            if let Some(answer) = respond(&question, false) {
                socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    let asked_tcp = upstream.asked_tcp.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked_tcp.fetch_add(1, Ordering::SeqCst);
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let question = Message::from_vec(&question).unwrap();
            if let Some(answer) = respond(&question, true) {
                let answer = answer.to_vec().unwrap();
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    });
    upstream
}

fn response_to(question: &Message) -> Message {
    let mut response = Message::response(question.id, OpCode::Query);
    response.queries.clone_from(&question.queries);
    response.metadata.recursion_available = true;
    response
}

fn answer_with_address(question: &Message, _tcp: bool) -> Option<Message> {
    let mut response = response_to(question);
    let name = question.queries[0].name().clone();
    response.add_answer(Record::from_rdata(name, 300, RData::A(A::new(192, 0, 2, 1))));
    Some(response)
}

fn answer_with_nothing(question: &Message, _tcp: bool) -> Option<Message> {
    let mut response = response_to(question);
    response.metadata.response_code = ResponseCode::NXDomain;
    let name = Name::from_ascii("example.").unwrap();
    let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 30);
    response.add_authority(Record::from_rdata(name, 30, RData::SOA(soa)));
    Some(response)
}

fn answer_with_failure(question: &Message, _tcp: bool) -> Option<Message> {
    let mut response = response_to(question);
    response.metadata.response_code = ResponseCode::ServFail;
    Some(response)
}

/// Too much for a datagram.
fn answer_at_length(question: &Message, tcp: bool) -> Option<Message> {
    let mut response = response_to(question);
    if !tcp {
        response.metadata.truncation = true;
        return Some(response);
    }
    let text = RData::TXT(TXT::new(vec!["x".repeat(250); 20]));
    let name = question.queries[0].name().clone();
    response.add_answer(Record::from_rdata(name, 300, text));
    Some(response)
}

/// A server that answers first what it was not asked, as a forger would.
fn answer_another_question(question: &Message, _tcp: bool) -> Option<Message> {
    let mut response = response_to(question);
    response.queries[0].set_name(Name::from_ascii("forged.example.").unwrap());
    Some(response)
}

struct Server {
    address: SocketAddr,
    resolver: Arc<Resolver>,
    stop: Vec<oneshot::Sender<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    resolv_conf: tempfile::NamedTempFile,
}

impl Server {
    async fn start(upstreams: &[SocketAddr]) -> Self {
        let resolv_conf = tempfile::NamedTempFile::new().unwrap();
        write_upstreams(&resolv_conf, upstreams);
        let path = resolv_conf.path().to_owned();
        let resolver = Resolver::new(Config { resolv_conf: path, ..Config::default() });
        let service = |name: &str, addresses| {
            let (namespace, name) = ("default".into(), name.into());
            resolver.apply(Update::Upsert(ServiceRecord { namespace, name, addresses }));
        };
        let ips = vec!["10.96.0.1".parse().unwrap()];
        service("web", Addresses::ClusterIp { ips, ports: vec![] });
        service("out", Addresses::ExternalName("www.example.com".into()));
        resolver.apply(Update::Synced);
        let (udp, tcp) = bind().await;
        let address = tcp.local_addr().unwrap();
        let (stop_udp, udp_stopped) = oneshot::channel::<()>();
        let (stop_tcp, tcp_stopped) = oneshot::channel::<()>();
        let tasks = vec![
            tokio::spawn(serve_udp(resolver.clone(), udp, async {
                let _ = udp_stopped.await;
            })),
            tokio::spawn(serve_tcp(resolver.clone(), tcp, async {
                let _ = tcp_stopped.await;
            })),
        ];
        Self { address, resolver, stop: vec![stop_udp, stop_tcp], tasks, resolv_conf }
    }

    async fn ask(&self, name: &str) -> Message {
        self.ask_kind(name, RecordType::A).await
    }

    async fn ask_kind(&self, name: &str, kind: RecordType) -> Message {
        ask_udp(self.address, &question(name, kind)).await
    }
}

fn write_upstreams(file: &tempfile::NamedTempFile, upstreams: &[SocketAddr]) {
    let mut file = file.as_file();
    file.set_len(0).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    for upstream in upstreams {
        writeln!(file, "nameserver [{}]:{}", upstream.ip(), upstream.port()).unwrap();
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn ask_udp(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.unwrap();
    let mut packet = vec![0; 4096];
    let received = timeout(Duration::from_secs(9), socket.recv(&mut packet)).await;
    let length = received.expect("an answer").unwrap();
    let answer = Message::from_vec(&packet[..length]).unwrap();
    assert_eq!(answer.id, question.id);
    answer
}

async fn send_tcp(stream: &mut TcpStream, question: &Message) {
    let question = question.to_vec().unwrap();
    stream.write_u16(question.len() as u16).await.unwrap();
    stream.write_all(&question).await.unwrap();
}

async fn receive_tcp(stream: &mut TcpStream) -> Message {
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn address_of(message: &Message) -> String {
    message.answers.last().map(|record| record.data.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn names_of_the_cluster_over_both_transports() {
    let server = Server::start(&[]).await;
    assert_eq!(address_of(&server.ask("web.default.svc.cluster.local.").await), "10.96.0.1");
    let missing = server.ask("no.default.svc.cluster.local.").await;
    assert_eq!(missing.response_code, ResponseCode::NXDomain);

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        send_tcp(&mut stream, &question("web.default.svc.cluster.local.", RecordType::A)).await;
    }
    for _ in 0..3 {
        assert_eq!(address_of(&receive_tcp(&mut stream).await), "10.96.0.1");
    }
}

#[tokio::test]
async fn other_names_are_forwarded_once() {
    let upstream = upstream(answer_with_address).await;
    let server = Server::start(&[upstream.address]).await;
    let answer = server.ask("wWw.eXample.com.").await;
    assert_eq!(address_of(&answer), "192.0.2.1");
    assert!(answer.recursion_available && !answer.authoritative);
    // The cached answer has this question's case, and the records' time goes on.
    let again = server.ask("www.Example.COM.").await;
    assert!(again.queries[0].name().eq_case(&Name::from_ascii("www.Example.COM.").unwrap()));
    assert!(again.answers[0].ttl <= 300);
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 1);
    server.ask_kind("www.example.com.", RecordType::AAAA).await;
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn equal_questions_are_asked_together() {
    let upstream = upstream(answer_with_address).await;
    let server = Server::start(&[upstream.address]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..50 {
        let packet = question("www.example.org.", RecordType::A).to_vec().unwrap();
        socket.send_to(&packet, server.address).await.unwrap();
    }
    let mut packet = vec![0; 4096];
    for _ in 0..50 {
        let length = socket.recv(&mut packet).await.unwrap();
        assert_eq!(address_of(&Message::from_vec(&packet[..length]).unwrap()), "192.0.2.1");
    }
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn negative_answers_are_kept() {
    let upstream = upstream(answer_with_nothing).await;
    let server = Server::start(&[upstream.address]).await;
    for _ in 0..3 {
        let answer = server.ask("no.example.").await;
        assert_eq!(answer.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1);
    }
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn external_names_come_with_their_addresses() {
    let upstream = upstream(answer_with_address).await;
    let server = Server::start(&[upstream.address]).await;
    let answer = server.ask("out.default.svc.cluster.local.").await;
    let records: Vec<String> =
        answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    let expected =
        ["out.default.svc.cluster.local. www.example.com.", "www.example.com. 192.0.2.1"];
    assert_eq!(records, expected);
}

#[tokio::test]
async fn the_next_server_is_asked() {
    let failing = upstream(answer_with_failure).await;
    let working = upstream(answer_with_address).await;
    let server = Server::start(&[failing.address, working.address]).await;
    assert_eq!(address_of(&server.ask("www.example.com.").await), "192.0.2.1");
    // Nobody listens here: ICMP says so at once.
    let closed = "127.0.0.1:1".parse().unwrap();
    let server = Server::start(&[closed, working.address]).await;
    assert_eq!(address_of(&server.ask("www.example.com.").await), "192.0.2.1");
    let server = Server::start(&[failing.address]).await;
    let failed = server.ask("www.example.com.").await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    let server = Server::start(&[]).await;
    let failed = server.ask("www.example.com.").await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    assert_eq!(address_of(&server.ask("web.default.svc.cluster.local.").await), "10.96.0.1");
}

#[tokio::test]
async fn silence_ends_in_a_failure_in_time() {
    let upstream = upstream(|_, _| None).await;
    let server = Server::start(&[upstream.address]).await;
    let started = std::time::Instant::now();
    let failed = server.ask("www.example.com.").await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn forged_answers_are_ignored() {
    let forger = upstream(answer_another_question).await;
    let working = upstream(answer_with_address).await;
    let server = Server::start(&[forger.address, working.address]).await;
    assert_eq!(address_of(&server.ask("www.example.com.").await), "192.0.2.1");
}

#[tokio::test]
async fn long_answers_go_over_tcp() {
    let upstream = upstream(answer_at_length).await;
    let server = Server::start(&[upstream.address]).await;
    let short = server.ask_kind("www.example.com.", RecordType::TXT).await;
    assert!(short.truncation && short.answers.is_empty());
    assert_eq!(upstream.asked_tcp.load(Ordering::SeqCst), 0);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send_tcp(&mut stream, &question("www.example.com.", RecordType::TXT)).await;
    let long = receive_tcp(&mut stream).await;
    assert!(!long.truncation);
    assert_eq!(long.answers.len(), 1);
    // Now it is known, but still too long for a datagram.
    let short = server.ask_kind("www.example.com.", RecordType::TXT).await;
    assert!(short.truncation && short.answers.is_empty());
    assert_eq!(upstream.asked_tcp.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_leads_back_is_not_asked() {
    let server = Server::start(&[]).await;
    // The server is its own upstream, as behind a stub resolver that points at it.
    write_upstreams(&server.resolv_conf, &[server.address]);
    let started = std::time::Instant::now();
    let mut failed = server.ask("a.example.com.").await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    // The first question may have met its own copy; after it the probe is back.
    for name in ["b.example.com.", "c.example.com."] {
        let before = started.elapsed();
        failed = server.ask(name).await;
        assert_eq!(failed.response_code, ResponseCode::ServFail);
        assert!(started.elapsed() - before < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn own_addresses_are_no_upstream() {
    let upstream = upstream(answer_with_address).await;
    let server = Server::start(&[upstream.address]).await;
    let path = server.resolv_conf.path().to_owned();
    let addresses = vec![upstream.address.ip()];
    server.resolver.configure(Config { resolv_conf: path, addresses, ..Config::default() });
    let failed = server.ask("www.example.com.").await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way() {
    let slow = upstream(|_, _| None).await;
    let server = Server::start(&[slow.address]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = question("www.example.com.", RecordType::A).to_vec().unwrap();
    socket.send_to(&packet, server.address).await.unwrap();
    while slow.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(server.stop);
    for task in server.tasks {
        task.await.unwrap();
    }
    let mut answer = vec![0; 4096];
    let length = socket.try_recv(&mut answer).unwrap();
    let answer = Message::from_vec(&answer[..length]).unwrap();
    assert_eq!(answer.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn hostile_connections_end() {
    let server = Server::start(&[]).await;
    let closed = |mut stream: TcpStream| async move {
        let mut rest = Vec::new();
        let _reset = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap();
    };
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    closed(stream).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0, 0]).await.unwrap();
    closed(stream).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0, 12]).await.unwrap();
    stream.write_all(&[0xff; 12]).await.unwrap();
    closed(stream).await;
    assert_eq!(address_of(&server.ask("web.default.svc.cluster.local.").await), "10.96.0.1");
}
