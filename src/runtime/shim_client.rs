//! The agent's side of a shim: spawning one and talking to it. Blocking, for worker threads.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::layout::PodLayout;
use crate::shim::protocol::{self, Reply, Request};

/// How long a shim may take to answer. It answers in microseconds unless the machine is choking.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the shim of a pod. The socket listens before the process runs, so nobody has to wait
/// for it.
pub(crate) fn spawn(program: &Path, pod_uid: &str, pod: &PodLayout) -> Result<Child> {
    let socket = pod.socket();
    match std::fs::remove_file(&socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(e).at("remove", &socket);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).at("bind", &socket)?;
    let log = pod.shim_log();
    let log = std::fs::File::options().append(true).create(true).open(&log).at("open", &log)?;
    Command::new(program)
        .args(["shim", pod_uid])
        .env_clear()
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .at("run", program)
}

/// The shim of one pod, by its socket.
#[derive(Clone, Debug)]
pub(crate) struct ShimClient {
    pod_uid: String,
    socket: std::path::PathBuf,
}

impl ShimClient {
    pub(crate) fn new(pod_uid: &str, pod: &PodLayout) -> ShimClient {
        ShimClient { pod_uid: pod_uid.to_owned(), socket: pod.socket() }
    }

    pub(crate) fn error(&self, message: impl ToString) -> Error {
        Error::Shim { pod_uid: self.pod_uid.clone(), message: message.to_string() }
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<UnixStream> {
        let connect = || {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            protocol::send(&stream, request, fds)?;
            Ok(stream)
        };
        connect().map_err(|e: io::Error| self.error(e))
    }

    /// The answer to a request. A refusal is an error.
    pub(crate) fn answer(&self, stream: &UnixStream) -> Result<(Reply, Vec<OwnedFd>)> {
        match protocol::receive::<Reply>(stream) {
            Ok(Some((Reply::Failed(message), _))) => Err(self.error(message)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.error("it closed the connection")),
            Err(e) => Err(self.error(e)),
        }
    }

    /// A request whose answer is only that it was done.
    pub(crate) fn call(&self, request: &Request) -> Result<()> {
        let stream = self.send(request, &[])?;
        self.answer(&stream).map(drop)
    }
}

impl ShimClient {
    /// Tells the shim to kill its containers and end, and waits until it has. One that is gone is
    /// fine, one that does not obey is killed.
    pub(crate) fn shut_down(&self) {
        let Ok(stream) = self.send(&Request::Shutdown, &[]) else { return };
        loop {
            match protocol::receive::<Reply>(&stream) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(pod = self.pod_uid, %error, "shim does not end, killing it");
                    let pid = linux::fd::peer_pid(&stream);
                    let killed =
                        pid.and_then(|pid| linux::process::kill(pid, linux::signal::Signal::KILL));
                    if let Err(error) = killed {
                        tracing::warn!(pod = self.pod_uid, %error, "kill shim");
                    }
                    return;
                }
            }
        }
    }
}
