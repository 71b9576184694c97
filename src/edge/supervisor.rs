//! The agent's side of the edge: finds the process or starts it, gives it sockets and knowledge,
//! and replaces it when it is of another build.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::certificate;
use super::protocol::{Connection, Frames, Listener, ToAgent, ToEdge, build};

/// The name of the control socket in the run folder.
const SOCKET: &str = "edge.sock";
/// Next to "nobody", whom others may be too.
const USER: u32 = 65533;
/// How long an edge may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a silent edge is asked whether it is alive.
const PING: Duration = Duration::from_secs(60);
/// How long to wait for a new edge after the first death; twice as long after each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// How long clients of a new edge wait until it knows everything. Then it serves what it knows:
/// names outside the cluster at least.
const HOLD: Duration = Duration::from_secs(3);
/// An edge that has lived for so long was not broken from the start.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// How often a socket is tried again that could not be bound.
const REBIND: Duration = Duration::from_secs(30);
const BACKLOG: i32 = 4096;
/// Updates that may wait for the edge to read them.
const QUEUE: usize = 256;

/// How an edge is started and what it is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The folder of the control socket.
    pub(crate) run_dir: PathBuf,
    /// What is executed, and with which arguments.
    pub(crate) command: (PathBuf, Vec<String>),
    /// User and group that the process becomes; `None` leaves it those of the agent.
    pub(crate) user: Option<u32>,
    /// What it serves, without the control socket.
    pub(crate) listeners: BTreeSet<Listener>,
    /// Settings of cluster DNS.
    pub(crate) dns: dns::Config,
    /// Settings of Ingress.
    pub(crate) ingress: ingress::Config,
}

impl Options {
    /// This binary, as a user of its own if the agent may choose.
    pub(crate) fn new(run_dir: impl Into<PathBuf>) -> Self {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        Self {
            run_dir: run_dir.into(),
            // The file may have been replaced or be out of the other user's reach; this name
            // leads to the very binary that runs here.
            command: ("/proc/self/exe".into(), vec!["edge".into()]),
            user: root.then_some(USER),
            listeners: BTreeSet::new(),
            dns: dns::Config::default(),
            ingress: ingress::Config::default(),
        }
    }
}

/// Something that sends everything it knows, then `Synced`, then every change, until the receiver
/// is gone. Called anew for each connection.
pub(crate) type Feed<U> =
    Box<dyn Fn(mpsc::Sender<U>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What an edge is told. Without a feed it is told that there is nothing.
#[derive(Default)]
pub(crate) struct Feeds {
    /// For cluster DNS.
    pub(crate) dns: Option<Feed<dns::Update>>,
    /// For Ingress.
    pub(crate) ingress: Option<Feed<ingress::Update>>,
}

/// Why an edge is not there, or not any longer.
#[derive(Debug, thiserror::Error)]
enum EdgeLost {
    #[error("cannot start it: {0}")]
    Start(io::Error),
    #[error("cannot bind its control socket {path}: {source}")]
    Control { path: PathBuf, source: io::Error },
    #[error("connection lost: {0}")]
    Connection(#[from] io::Error),
    #[error("it does not answer")]
    Silent,
    #[error("it ended the connection")]
    Ended,
    #[error("it said something out of turn: {0:?}")]
    OutOfTurn(ToAgent),
}

/// The edge as the agent knows it.
pub(crate) struct Supervisor {
    options: watch::Receiver<Options>,
    feeds: Feeds,
    /// Copies of all sockets: a new edge goes on where a dead one stopped, and clients that wait
    /// to be accepted do not notice.
    sockets: BTreeMap<Listener, OwnedFd>,
    /// Sockets that could not be bound, and of which the log says so already.
    lacking: BTreeSet<Listener>,
}

/// A connected edge.
struct Edge {
    connection: Connection,
    build: String,
    pid: i32,
    /// Whether it has been given the sockets.
    serving: bool,
}

impl Supervisor {
    /// A supervisor that follows changes of the options.
    pub(crate) fn new(options: watch::Receiver<Options>, feeds: Feeds) -> Self {
        Self { options, feeds, sockets: BTreeMap::new(), lacking: BTreeSet::new() }
    }

    /// Keeps an edge running until `stop`, and leaves it running then.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let begun = Instant::now();
            let lost = tokio::select! {
                Err(lost) = self.attend() => lost,
                () = stop.cancelled() => return,
            };
            if begun.elapsed() > GOOD_LIFE {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!(error = %lost, retry_in = ?backoff, "edge lost");
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = stop.cancelled() => return,
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Finds or starts an edge and stays with it until it is lost.
    async fn attend(&mut self) -> Result<std::convert::Infallible, EdgeLost> {
        let options = self.options.borrow_and_update().clone();
        let path = options.run_dir.join(SOCKET);
        // With our copy open, a connection to an edge that is dead would wait and not be refused.
        self.sockets.remove(&Listener::Control);
        let mut replaced = None;
        let mut edge = match adopt(&path).await {
            Some(mut found) => {
                self.take_over(&mut found).await?;
                if found.build == build() {
                    tracing::info!(pid = found.pid, "edge adopted");
                    found.serving = true;
                    found
                } else {
                    tracing::info!(pid = found.pid, build = found.build, "edge is replaced");
                    replaced = Some(found);
                    self.start(&options).await?
                }
            }
            None => self.start(&options).await?,
        };
        let outcome = self.session(&mut edge, &path, replaced.as_mut()).await;
        if matches!(outcome, Err(EdgeLost::Silent)) {
            tracing::warn!(pid = edge.pid, "edge hangs and is killed");
            kill(&edge, options.user);
        }
        outcome
    }

    /// Copies the sockets of an edge that runs.
    async fn take_over(&mut self, edge: &mut Edge) -> Result<(), EdgeLost> {
        edge.connection.send(&ToEdge::HandOver, None).await?;
        loop {
            match edge.answer().await? {
                ToAgent::Listener(listener) => {
                    self.sockets.insert(listener, edge.connection.take_fd()?);
                }
                ToAgent::HandedOver => return Ok(()),
                ToAgent::Ready | ToAgent::Pong => {}
                other @ ToAgent::Hello { .. } => return Err(EdgeLost::OutOfTurn(other)),
            }
        }
    }

    /// Starts a process. It has no sockets yet.
    async fn start(&self, options: &Options) -> Result<Edge, EdgeLost> {
        let (ours, theirs) = StdUnixStream::pair().map_err(EdgeLost::Start)?;
        ours.set_nonblocking(true).map_err(EdgeLost::Start)?;
        let (program, arguments) = &options.command;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/");
        if let Some(user) = options.user {
            // The process changes itself: as another user it may be unable to execute the file.
            command.arg(format!("--user={user}"));
        }
        for name in ["KNARR_LOG", "KNARR_LOG_FORMAT", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let mut child = command.spawn().map_err(EdgeLost::Start)?;
        // The command holds the other end until it is dropped.
        drop(command);
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::info!(%status, "edge ended"),
                Err(error) => tracing::warn!(%error, "edge not waited for"),
            }
        });
        let stream = UnixStream::from_std(ours).map_err(EdgeLost::Start)?;
        let edge = Edge::greet(Connection::new(stream)).await?;
        tracing::info!(pid = edge.pid, "edge started");
        Ok(edge)
    }

    /// Tells an edge everything and every change, until it is lost.
    async fn session(
        &mut self,
        edge: &mut Edge,
        path: &Path,
        mut replaced: Option<&mut Edge>,
    ) -> Result<std::convert::Infallible, EdgeLost> {
        if replaced.is_none() {
            self.give_control(edge, path).await?;
        }
        let options = self.options.borrow().clone();
        edge.configure(&options).await?;
        let mut unbound = edge.serving && self.bind(edge, &options).await?;

        let (dns_sender, mut dns) = mpsc::channel(QUEUE);
        let (ingress_sender, mut ingress) = mpsc::channel(QUEUE);
        edge.connection.send(&ToEdge::BeginDns, None).await?;
        edge.connection.send(&ToEdge::BeginIngress, None).await?;
        if options.listeners.iter().any(|listener| matches!(listener, Listener::Https(_))) {
            send_default_certificate(edge, &options.run_dir).await?;
        }
        let dns_feed = tell(&self.feeds.dns, dns_sender, dns::Update::Synced);
        let ingress_feed = tell(&self.feeds.ingress, ingress_sender, ingress::Update::Synced);
        // They end with this function: their tasks are aborted when it returns.
        let _feeds = (AbortOnDrop(tokio::spawn(dns_feed)), AbortOnDrop(tokio::spawn(ingress_feed)));

        let mut frames = Frames::default();
        let mut silence = pin!(sleep_until(Instant::now() + PING));
        let mut pinged = false;
        let mut rebind = pin!(sleep_until(Instant::now() + REBIND));
        let mut hold = pin!(sleep_until(Instant::now() + HOLD));
        loop {
            tokio::select! {
                message = edge.connection.receive() => {
                    pinged = false;
                    silence.as_mut().reset(Instant::now() + PING);
                    match message?.ok_or(EdgeLost::Ended)? {
                        ToAgent::Ready => {
                            tracing::info!(pid = edge.pid, "edge knows everything");
                            if !edge.serving {
                                unbound = self.give_sockets(edge).await?;
                            }
                            if let Some(old) = replaced.take() {
                                retire(old).await;
                                self.give_control(edge, path).await?;
                            }
                        }
                        ToAgent::Pong => {}
                        other => return Err(EdgeLost::OutOfTurn(other)),
                    }
                }
                Some(update) = dns.recv() => {
                    frames.push(&ToEdge::Dns(update))?;
                    while !frames.is_full() && let Ok(update) = dns.try_recv() {
                        frames.push(&ToEdge::Dns(update))?;
                    }
                    edge.send_all(&mut frames).await?;
                }
                Some(update) = ingress.recv() => {
                    frames.push(&ToEdge::Ingress(update))?;
                    while !frames.is_full() && let Ok(update) = ingress.try_recv() {
                        frames.push(&ToEdge::Ingress(update))?;
                    }
                    edge.send_all(&mut frames).await?;
                }
                Ok(()) = self.options.changed() => {
                    let options = self.options.borrow_and_update().clone();
                    edge.configure(&options).await?;
                    unbound = edge.serving && self.bind(edge, &options).await?;
                }
                () = ended(replaced.as_deref_mut()) => {
                    tracing::warn!("replaced edge has died early");
                    replaced = None;
                    self.give_control(edge, path).await?;
                    if !edge.serving {
                        unbound = self.give_sockets(edge).await?;
                    }
                }
                () = hold.as_mut(), if !edge.serving && replaced.is_none() => {
                    unbound = self.give_sockets(edge).await?;
                }
                () = rebind.as_mut(), if unbound => {
                    rebind.as_mut().reset(Instant::now() + REBIND);
                    let options = self.options.borrow().clone();
                    unbound = self.bind(edge, &options).await?;
                }
                () = silence.as_mut() => {
                    if pinged {
                        return Err(EdgeLost::Silent);
                    }
                    pinged = true;
                    silence.as_mut().reset(Instant::now() + ANSWER);
                    edge.connection.send(&ToEdge::Ping, None).await?;
                }
            }
        }
    }

    /// Gives an edge the sockets that there are, and binds the others. Answers whether one is
    /// lacking.
    async fn give_sockets(&mut self, edge: &mut Edge) -> Result<bool, EdgeLost> {
        edge.serving = true;
        let options = self.options.borrow().clone();
        for (listener, socket) in &self.sockets {
            if options.listeners.contains(listener) {
                edge.connection.send(&ToEdge::Listen(*listener), Some(socket.as_fd())).await?;
            }
        }
        self.bind(edge, &options).await
    }

    /// Gives an edge the socket at which the next agent will find it.
    async fn give_control(&mut self, edge: &Edge, path: &Path) -> Result<(), EdgeLost> {
        let control = match self.sockets.entry(Listener::Control) {
            Entry::Occupied(bound) => bound.into_mut(),
            Entry::Vacant(free) => {
                let bound = bind_control(path);
                let path = path.into();
                free.insert(bound.map_err(|source| EdgeLost::Control { path, source })?)
            }
        };
        let message = ToEdge::Listen(Listener::Control);
        edge.connection.send(&message, Some(control.as_fd())).await?;
        Ok(())
    }

    /// Makes the edge's sockets those that the options name. Answers whether one is lacking.
    async fn bind(&mut self, edge: &Edge, options: &Options) -> Result<bool, EdgeLost> {
        let superfluous = |listener: &&Listener| {
            **listener != Listener::Control && !options.listeners.contains(listener)
        };
        let superfluous: Vec<Listener> = self.sockets.keys().filter(superfluous).copied().collect();
        for listener in superfluous {
            edge.connection.send(&ToEdge::Close(listener), None).await?;
            self.sockets.remove(&listener);
        }
        let mut lacking = BTreeSet::new();
        for listener in &options.listeners {
            if self.sockets.contains_key(listener) {
                continue;
            }
            match bind(*listener) {
                Ok(socket) => {
                    let message = ToEdge::Listen(*listener);
                    edge.connection.send(&message, Some(socket.as_fd())).await?;
                    self.sockets.insert(*listener, socket);
                }
                Err(error) => {
                    if !self.lacking.contains(listener) {
                        let taken = error.kind() == io::ErrorKind::AddrInUse;
                        let holder = taken.then(|| crate::ports::holder_of(listener.port()));
                        let option = listener.option().filter(|_| taken);
                        tracing::warn!(
                            ?listener,
                            %error,
                            holder,
                            choose_another_with = option,
                            "edge socket not bound; tried again until it is"
                        );
                    }
                    lacking.insert(*listener);
                }
            }
        }
        self.lacking = lacking;
        Ok(!self.lacking.is_empty())
    }
}

impl Edge {
    async fn greet(mut connection: Connection) -> Result<Self, EdgeLost> {
        match timeout(ANSWER, connection.receive()).await.map_err(|_| EdgeLost::Silent)?? {
            Some(ToAgent::Hello { build, pid }) => {
                Ok(Self { connection, build, pid, serving: false })
            }
            Some(other) => Err(EdgeLost::OutOfTurn(other)),
            None => Err(EdgeLost::Ended),
        }
    }

    async fn answer(&mut self) -> Result<ToAgent, EdgeLost> {
        let answer = timeout(ANSWER, self.connection.receive()).await;
        answer.map_err(|_| EdgeLost::Silent)??.ok_or(EdgeLost::Ended)
    }

    async fn configure(&self, options: &Options) -> Result<(), EdgeLost> {
        let (dns, ingress) = (options.dns.clone(), options.ingress.clone());
        Ok(self.connection.send(&ToEdge::Configure { dns, ingress }, None).await?)
    }

    async fn send_all(&self, frames: &mut Frames) -> Result<(), EdgeLost> {
        let sent = timeout(ANSWER, self.connection.send_all(frames)).await;
        Ok(sent.map_err(|_| EdgeLost::Silent)??)
    }
}

/// The edge that a former agent has left, if it answers.
async fn adopt(path: &Path) -> Option<Edge> {
    let stream = UnixStream::connect(path).await.ok()?;
    match Edge::greet(Connection::new(stream)).await {
        Ok(edge) => Some(edge),
        Err(error) => {
            tracing::warn!(%error, "edge found but not adopted");
            None
        }
    }
}

/// Ends the edge of a run folder, if one is there: for whoever cleans up after the agent.
pub(crate) async fn end(run_dir: &Path) {
    if let Some(edge) = adopt(&run_dir.join(SOCKET)).await {
        kill(&edge, Options::new(run_dir).user);
    }
}

/// Completes when an edge has ended its connection.
async fn ended(edge: Option<&mut Edge>) {
    let Some(edge) = edge else { return std::future::pending().await };
    while let Ok(Some(_)) = edge.connection.receive::<ToAgent>().await {}
}

/// Tells an edge to end; its successor serves already.
async fn retire(edge: &mut Edge) {
    match edge.connection.send(&ToEdge::Drain, None).await {
        // It closes the connection when it stops listening.
        Ok(()) => drop(timeout(ANSWER, edge.connection.receive::<ToAgent>()).await),
        Err(error) => tracing::debug!(%error, "replaced edge is gone already"),
    }
}

/// Ends an edge by force. The number comes from a process that may have been taken over, so it
/// must be one of the edge's own user.
fn kill(edge: &Edge, user: Option<u32>) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid)).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = uids.and_then(|uids| uids.split_ascii_whitespace().next()?.parse::<u32>().ok());
    if uid.is_none() || user.is_some() && uid != user {
        return;
    }
    if let Err(error) = linux::process::kill(edge.pid, linux::signal::Signal::KILL) {
        tracing::debug!(%error, "edge not killed");
    }
}

/// For hosts whose Ingress names no certificate, or none that is there. A feed may send another.
async fn send_default_certificate(edge: &Edge, run_dir: &Path) -> Result<(), EdgeLost> {
    let folder = run_dir.to_owned();
    let made = tokio::task::spawn_blocking(move || certificate::of(&folder)).await;
    match made {
        Ok(Ok(certificate)) => {
            let update = ingress::Update::DefaultCertificate(certificate);
            edge.connection.send(&ToEdge::Ingress(update), None).await?;
        }
        Ok(Err(error)) => tracing::warn!(%error, "no default certificate"),
        Err(error) => tracing::warn!(%error, "no default certificate"),
    }
    Ok(())
}

fn tell<U: Send + 'static>(
    feed: &Option<Feed<U>>,
    sender: mpsc::Sender<U>,
    synced: U,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match feed {
        Some(feed) => feed(sender),
        None => Box::pin(async move {
            let _gone = sender.send(synced).await;
            sender.closed().await;
        }),
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn bind_control(path: &Path) -> io::Result<OwnedFd> {
    // Nobody answers there: it is what an edge has left that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

fn bind(listener: Listener) -> io::Result<OwnedFd> {
    let (address, datagrams) = match listener {
        Listener::DnsUdp(address) => (address, true),
        Listener::DnsTcp(address) | Listener::Http(address) | Listener::Https(address) => {
            (address, false)
        }
        Listener::Control => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let (kind, protocol) = match datagrams {
        true => (Type::DGRAM, Protocol::UDP),
        false => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // The service address of DNS may be put on its interface later than this.
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    if datagrams {
        socket.bind(&address.into())?;
    } else {
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
