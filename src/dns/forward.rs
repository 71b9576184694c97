//! Questions that are not the cluster's: asked of the node's own upstream servers.
//!
//! Equal questions that arrive together are asked once; this also ends a loop that the probe (see
//! [`Upstream`]) has missed, for the question coming back waits for itself until it times out.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cache::{Cache, Key};
use crate::resolv_conf::{self, Version};
use crate::wire;

/// Questions that may wait for upstream servers at the same time.
const MAX_IN_FLIGHT: usize = 512;
/// How often every server is asked before a question counts as failed.
const ROUNDS: usize = 2;
/// How long one server has for its answer.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long all of them have; a client's own limit is 5 s as a rule.
const TOTAL: Duration = Duration::from_millis(4500);
/// For how long a silent server is asked last.
const AVOID: Duration = Duration::from_secs(10);
/// How old the view of resolv.conf may be when a question is forwarded.
const RECHECK: Duration = Duration::from_secs(1);
/// Room for what a server sends that ignores the size we ask for.
const BUFFER: usize = 4096;

const RCODE_NXDOMAIN: u8 = 3;
const TYPE_HINFO: u16 = 13;

/// The question of a client, with what of its header matters to others.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Name, type and class as the client wrote them: it may check the case of each letter.
    pub(crate) question: Box<[u8]>,
    /// See the constants of [`Request`].
    pub(crate) flags: u8,
}

impl Request {
    pub(crate) const RECURSION_DESIRED: u8 = 0x01;
    pub(crate) const CHECKING_DISABLED: u8 = 0x02;
    pub(crate) const AUTHENTIC_DATA: u8 = 0x04;
    pub(crate) const EDNS: u8 = 0x08;
    pub(crate) const DNSSEC_OK: u8 = 0x10;
    /// The client is able to take a long answer.
    pub(crate) const TCP: u8 = 0x20;

    fn key(&self, flags: u8) -> Key {
        Key { question: self.question.to_ascii_lowercase().into(), flags }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn message(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(wire::HEADER + self.question.len() + 11);
        message.extend_from_slice(&id.to_be_bytes());
        message.push(u8::from(self.has(Self::RECURSION_DESIRED)));
        let authentic = if self.has(Self::AUTHENTIC_DATA) { 0x20 } else { 0 };
        let unchecked = if self.has(Self::CHECKING_DISABLED) { 0x10 } else { 0 };
        message.push(authentic | unchecked);
        message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(&self.question);
        if self.has(Self::EDNS) {
            wire::push_opt(&mut message, self.has(Self::DNSSEC_OK));
        }
        message
    }
}

/// One server of resolv.conf.
#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    /// The question of the loop probe: whoever sends it to us got it from this server, and so
    /// every other question to that server would come back as well.
    probe: Box<[u8]>,
    looping: AtomicBool,
    silent_since: Mutex<Option<Instant>>,
}

type Response = Option<Arc<[u8]>>;

#[derive(Debug, Default)]
struct State {
    path: PathBuf,
    /// Our own addresses, which are nobody's upstream.
    own: Vec<IpAddr>,
    checked: Option<Instant>,
    version: Option<Version>,
    upstreams: Vec<Arc<Upstream>>,
    cache: Cache,
    in_flight: HashMap<Key, Vec<oneshot::Sender<Response>>>,
}

/// The forwarding half of the server.
#[derive(Debug)]
pub(crate) struct Forwarder {
    state: Mutex<State>,
}

impl Forwarder {
    pub(crate) fn new(path: PathBuf, own: Vec<IpAddr>) -> Self {
        Self { state: Mutex::new(State { path, own, ..State::default() }) }
    }

    pub(crate) fn configure(&self, path: PathBuf, own: Vec<IpAddr>) {
        let mut state = self.state();
        if state.path != path || state.own != own {
            state.path = path;
            state.own = own;
            state.checked = None;
            state.version = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that is already known.
    pub(crate) fn cached(&self, request: &Request) -> Option<Vec<u8>> {
        let key = request.key(request.flags & !Request::TCP);
        self.state().cache.fresh(&key, Instant::now())
    }

    /// Asks the upstream servers. `None` means that none had an answer.
    pub(crate) async fn resolve(self: &Arc<Self>, request: Request) -> Option<Vec<u8>> {
        let receiver = {
            let mut state = self.state();
            self.reload(&mut state);
            let key = request.key(request.flags);
            let (sender, receiver) = oneshot::channel();
            if let Some(waiting) = state.in_flight.get_mut(&key) {
                waiting.push(sender);
            } else if state.in_flight.len() == MAX_IN_FLIGHT {
                return None;
            } else {
                state.in_flight.insert(key.clone(), vec![sender]);
                let upstreams = state.in_order();
                // A task of its own, for others may wait for it when this client is gone.
                tokio::spawn(self.clone().lead(key, request, upstreams));
            }
            receiver
        };
        receiver.await.ok().flatten().map(|response| response.to_vec())
    }

    async fn lead(self: Arc<Self>, key: Key, request: Request, upstreams: Vec<Arc<Upstream>>) {
        let response = timeout(TOTAL, exchange(&upstreams, &request)).await.unwrap_or_default();
        let mut state = self.state();
        let cache_key = Key { flags: key.flags & !Request::TCP, ..key.clone() };
        let now = Instant::now();
        let response = match response {
            Some(response) if is_answer(&response) => {
                state.cache.insert(cache_key, &response, now);
                Some(response)
            }
            other => state.cache.stale(&cache_key, now).or(other),
        };
        let response: Response = response.map(Into::into);
        for waiting in state.in_flight.remove(&key).unwrap_or_default() {
            let _gone = waiting.send(response.clone());
        }
    }

    /// Takes note of a question that may be one of our own, sent back to us.
    pub(crate) fn is_probe(&self, question: &[u8]) -> bool {
        let kind = question.len().checked_sub(4).and_then(|at| wire::u16_at(question, at));
        if kind != Some(TYPE_HINFO) {
            return false;
        }
        let state = self.state();
        let sent = |upstream: &&Arc<Upstream>| upstream.probe.eq_ignore_ascii_case(question);
        let Some(upstream) = state.upstreams.iter().find(sent) else { return false };
        if !upstream.looping.swap(true, Ordering::Relaxed) {
            tracing::error!(server = %upstream.address, "upstream forwards back to cluster dns");
        }
        true
    }

    /// Reads resolv.conf again if it has changed. The file is local: looking at it takes
    /// microseconds, less than a thread would.
    fn reload(&self, state: &mut State) {
        let now = Instant::now();
        if state.checked.is_some_and(|checked| now.duration_since(checked) < RECHECK) {
            return;
        }
        state.checked = Some(now);
        let version = Version::of(&state.path);
        if version.is_some() && version == state.version {
            return;
        }
        state.version = version;
        let servers = resolv_conf::read(&state.path);
        let servers: Vec<SocketAddr> =
            servers.into_iter().filter(|server| !state.own.contains(&server.ip())).collect();
        if servers.iter().eq(state.upstreams.iter().map(|upstream| &upstream.address)) {
            return;
        }
        tracing::info!(?servers, "upstream dns servers");
        state.upstreams =
            servers.into_iter().map(|server| Arc::new(Upstream::new(server))).collect();
        for upstream in &state.upstreams {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let flags = Request::RECURSION_DESIRED;
                let probe = Request { question: upstream.probe.clone(), flags };
                let _answer = timeout(ATTEMPT, ask_udp(upstream.address, &probe)).await;
            });
        }
    }
}

impl State {
    /// The servers to ask, those that were silent lately at the end.
    fn in_order(&self) -> Vec<Arc<Upstream>> {
        let usable = self.upstreams.iter().filter(|u| !u.looping.load(Ordering::Relaxed));
        let mut upstreams: Vec<Arc<Upstream>> = usable.cloned().collect();
        upstreams.sort_by_key(|upstream| upstream.is_silent());
        upstreams
    }
}

impl Upstream {
    fn new(address: SocketAddr) -> Self {
        let mut probe = Vec::new();
        for _ in 0..2 {
            let label = format!("{:016x}", rand::random::<u64>());
            probe.push(16);
            probe.extend_from_slice(label.as_bytes());
        }
        probe.extend_from_slice(&[0, 0, TYPE_HINFO as u8, 0, 1]);
        let silent_since = Mutex::new(None);
        Self { address, probe: probe.into(), looping: AtomicBool::new(false), silent_since }
    }

    fn is_silent(&self) -> bool {
        let since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < AVOID)
    }

    fn set_silent(&self, silent: bool) {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = silent.then(Instant::now);
    }
}

async fn exchange(upstreams: &[Arc<Upstream>], request: &Request) -> Option<Vec<u8>> {
    let mut refusal = None;
    for _ in 0..ROUNDS {
        for upstream in upstreams {
            match timeout(ATTEMPT, ask(upstream.address, request)).await {
                Ok(Ok(response)) => {
                    upstream.set_silent(false);
                    if is_answer(&response) {
                        return Some(response);
                    }
                    refusal = Some(response);
                }
                Ok(Err(error)) => {
                    tracing::debug!(server = %upstream.address, %error, "upstream failed");
                    upstream.set_silent(true);
                }
                Err(_) => {
                    tracing::debug!(server = %upstream.address, "upstream timed out");
                    upstream.set_silent(true);
                }
            }
        }
        if refusal.is_some() {
            break;
        }
    }
    refusal
}

/// Whether another server would have nothing better to say.
fn is_answer(response: &[u8]) -> bool {
    response.get(3).is_some_and(|flags| matches!(flags & 0x0f, 0 | RCODE_NXDOMAIN))
}

async fn ask(server: SocketAddr, request: &Request) -> io::Result<Vec<u8>> {
    let response = ask_udp(server, request).await?;
    if wire::is_truncated(&response) && request.has(Request::TCP) {
        return ask_tcp(server, request).await;
    }
    Ok(response)
}

async fn ask_udp(server: SocketAddr, request: &Request) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new port for each question, and connected: forging an answer takes guessing the port and
    // the id (RFC 5452).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    socket.send(&request.message(id)).await?;
    let mut response = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut response).await?;
        if is_response_to(&response[..length], id, request) {
            response.truncate(length);
            return Ok(response);
        }
    }
}

async fn ask_tcp(server: SocketAddr, request: &Request) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    let message = request.message(id);
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(&message);
    stream.write_all(&framed).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    if !is_response_to(&response, id, request) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "answers another question"));
    }
    Ok(response)
}

fn is_response_to(response: &[u8], id: u16, request: &Request) -> bool {
    let question = wire::question_end(response).map(|end| &response[wire::HEADER..end]);
    wire::u16_at(response, 0) == Some(id)
        && response[2] & 0x80 != 0
        && question.is_some_and(|question| question.eq_ignore_ascii_case(&request.question))
}
