//! What the edge process is made of: cluster DNS and Ingress on sockets that the agent has bound.
//!
//! The process is a re-exec of the binary (`knarr edge`) that outlives the agent. It reads what
//! strangers send, so it has no privilege and no credential of the cluster: it starts as an
//! unprivileged user and gets its sockets and everything it knows over a unix socket.

mod certificate;
mod confine;
pub(crate) mod protocol;
pub(crate) mod supervisor;

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::sync::Arc;
use std::time::Duration;

use dns::Resolver;
use ingress::{Proxy, Scheme};
use tokio::net::{TcpListener, UdpSocket, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use protocol::{Connection, Listener, ToAgent, ToEdge};

/// How long requests under way may take when the process is told to end.
const DRAIN: Duration = Duration::from_secs(60);
/// Messages after which other tasks have their turn: a full transfer has tens of thousands.
const BATCH: usize = 64;

/// Why an edge cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EdgeError {
    /// It would have more power than it should.
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
    /// Standard input is not the agent's socket.
    #[error("only the agent starts an edge: {0}")]
    NoAgent(io::Error),
    /// The runtime, the signals or the connection.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the edge process as a user, if one is named. The agent's connection is standard input.
pub(crate) fn run(user: Option<u32>) -> Result<(), EdgeError> {
    let agent = linux::fd::take_standard_stream(0).map_err(EdgeError::NoAgent)?;
    confine::confine(user)?;
    let agent = StdUnixStream::from(agent);
    agent.peer_addr().map_err(EdgeError::NoAgent)?;
    agent.set_nonblocking(true)?;
    // One thread is enough for what a node's edge does, and costs the least memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let agent = Connection::new(UnixStream::from_std(agent)?);
        Edge::new().serve(agent).await
    })
}

/// The state of the process.
struct Edge {
    resolver: Arc<Resolver>,
    proxy: Arc<Proxy>,
    serving: BTreeMap<Listener, Serving>,
    control: Option<UnixListener>,
    /// Which of DNS and Ingress the agent has told completely on this connection.
    synced: [bool; 2],
}

/// A socket that is being served.
struct Serving {
    /// A copy of the socket, to be handed over.
    fd: OwnedFd,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What goes on after a message.
enum Next {
    Go,
    Drain,
}

impl Edge {
    fn new() -> Self {
        Self {
            resolver: Resolver::new(dns::Config::default()),
            proxy: Proxy::new(ingress::Config::default()),
            serving: BTreeMap::new(),
            control: None,
            synced: [false; 2],
        }
    }

    /// Serves until the agent or a signal says otherwise.
    async fn serve(mut self, agent: Connection) -> Result<(), EdgeError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut agent = self.greet(agent).await;
        let mut handled = 0;
        loop {
            let told = tokio::select! {
                told = next(&mut agent) => told,
                accepted = accept(self.control.as_ref()) => {
                    // There is one agent: whoever comes last is it.
                    agent = match accepted {
                        Ok(stream) => self.greet(Connection::new(stream)).await,
                        Err(error) => {
                            tracing::warn!(%error, "edge control socket failed");
                            agent
                        }
                    };
                    continue;
                }
                _ = terminate.recv() => break,
            };
            let outcome = match (told, &mut agent) {
                (Ok(Some(message)), Some(agent)) => self.handle(message, agent).await,
                (Ok(_), _) => Err(io::ErrorKind::UnexpectedEof.into()),
                (Err(error), _) => Err(error),
            };
            match outcome {
                Ok(Next::Go) => {}
                Ok(Next::Drain) => break,
                Err(error) => {
                    agent = None;
                    if self.control.is_none() {
                        // Nobody could ever find this process again.
                        tracing::warn!(%error, "edge lost its agent before it was set up");
                        break;
                    }
                    tracing::info!(%error, "agent is away; serving what is known");
                }
            }
            handled += 1;
            if handled % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        // The agent takes the end of the connection as the word that nothing is accepted any more.
        let serving = self.stop_listening();
        drop(agent);
        drain(serving).await;
        Ok(())
    }

    /// Stops serving new clients. What is under way goes on in the tasks.
    fn stop_listening(self) -> Vec<JoinHandle<()>> {
        let stopped = self.serving.into_values().map(|serving| {
            drop(serving.stop);
            serving.task
        });
        stopped.collect()
    }

    async fn greet(&mut self, agent: Connection) -> Option<Connection> {
        self.synced = [false; 2];
        let pid = linux::process::own_pid();
        let hello = ToAgent::Hello { build: protocol::build(), pid };
        match agent.send(&hello, None).await {
            Ok(()) => Some(agent),
            Err(error) => {
                tracing::debug!(%error, "agent gone before hello");
                None
            }
        }
    }

    async fn handle(&mut self, message: ToEdge, agent: &mut Connection) -> io::Result<Next> {
        match message {
            ToEdge::Configure { dns, ingress } => {
                self.resolver.configure(dns);
                self.proxy.configure(ingress);
            }
            ToEdge::Listen(Listener::Control) => {
                let listener = StdUnixListener::from(agent.take_fd()?);
                listener.set_nonblocking(true)?;
                self.control = Some(UnixListener::from_std(listener)?);
            }
            ToEdge::Listen(listener) => {
                let serving = self.listen(listener, agent.take_fd()?)?;
                self.close(listener);
                self.serving.insert(listener, serving);
            }
            ToEdge::Close(Listener::Control) => self.control = None,
            ToEdge::Close(listener) => self.close(listener),
            ToEdge::BeginDns => self.resolver.begin(),
            ToEdge::Dns(update) => {
                let synced = update == dns::Update::Synced;
                self.resolver.apply(update);
                if synced {
                    self.now_synced(0, agent).await?;
                }
            }
            ToEdge::BeginIngress => self.proxy.begin(),
            ToEdge::Ingress(update) => {
                let synced = update == ingress::Update::Synced;
                self.proxy.apply(update);
                if synced {
                    self.now_synced(1, agent).await?;
                }
            }
            ToEdge::HandOver => self.hand_over(agent).await?,
            ToEdge::Ping => agent.send(&ToAgent::Pong, None).await?,
            ToEdge::Drain => return Ok(Next::Drain),
        }
        Ok(Next::Go)
    }

    async fn now_synced(&mut self, part: usize, agent: &Connection) -> io::Result<()> {
        self.synced[part] = true;
        if self.synced == [true; 2] {
            agent.send(&ToAgent::Ready, None).await?;
        }
        Ok(())
    }

    async fn hand_over(&self, agent: &Connection) -> io::Result<()> {
        for (listener, serving) in &self.serving {
            let message = ToAgent::Listener(*listener);
            agent.send(&message, Some(serving.fd.as_fd())).await?;
        }
        if let Some(control) = &self.control {
            let message = ToAgent::Listener(Listener::Control);
            agent.send(&message, Some(control.as_fd())).await?;
        }
        agent.send(&ToAgent::HandedOver, None).await
    }

    fn listen(&self, listener: Listener, socket: OwnedFd) -> io::Result<Serving> {
        let fd = socket.try_clone()?;
        let (stop, stopped) = oneshot::channel();
        // The sender is dropped to stop.
        let stopped = async {
            let _dropped = stopped.await;
        };
        let tcp = |socket: OwnedFd| {
            let socket = StdTcpListener::from(socket);
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let task = match listener {
            Listener::DnsUdp(_) => {
                let socket = StdUdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                tokio::spawn(dns::serve_udp(self.resolver.clone(), socket, stopped))
            }
            Listener::DnsTcp(_) => {
                tokio::spawn(dns::serve_tcp(self.resolver.clone(), tcp(socket)?, stopped))
            }
            Listener::Http(_) => {
                let proxy = self.proxy.clone();
                tokio::spawn(ingress::serve(proxy, tcp(socket)?, Scheme::Http, stopped))
            }
            Listener::Https(_) => {
                let proxy = self.proxy.clone();
                tokio::spawn(ingress::serve(proxy, tcp(socket)?, Scheme::Https, stopped))
            }
            Listener::Control => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Serving { fd, stop, task })
    }

    fn close(&mut self, listener: Listener) {
        // What it serves at the moment ends by itself.
        if let Some(serving) = self.serving.remove(&listener) {
            drop(serving.stop);
        }
    }
}

async fn drain(tasks: Vec<JoinHandle<()>>) {
    tracing::info!("edge is draining");
    let drained = async {
        for task in tasks {
            let _panicked = task.await;
        }
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::info!("edge ends with connections open");
    }
}

/// The agent's next message; for ever nothing while there is no agent.
async fn next(agent: &mut Option<Connection>) -> io::Result<Option<ToEdge>> {
    match agent {
        Some(agent) => agent.receive().await,
        None => std::future::pending().await,
    }
}

async fn accept(control: Option<&UnixListener>) -> io::Result<UnixStream> {
    match control {
        Some(control) => control.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}
