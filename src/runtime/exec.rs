//! Sessions with processes in containers: exec and attach.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use linux::{fd, pty};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::sandbox::Inner;

/// Everything that a command printed, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, bounded in size.
    pub stdout: Vec<u8>,
    /// Standard error, bounded in size.
    pub stderr: Vec<u8>,
    /// Exit code; 128 + signal for a process that was killed.
    pub code: i32,
}

/// A process with its streams. Take the streams out to use them from several tasks; dropping (or
/// shutting down) the writer of stdin is what the process sees as end of file, unless it has a
/// terminal.
#[derive(Debug)]
pub struct ExecSession {
    /// Present when asked for.
    pub stdin: Option<StreamWriter>,
    /// Present when asked for; everything when the process has a terminal.
    pub stdout: Option<StreamReader>,
    /// Present when asked for and there is no terminal.
    pub stderr: Option<StreamReader>,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) end: SessionEnd,
}

/// Whose end a session waits for.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// A process of its own; `None` until it has ended.
    Process { code: watch::Receiver<Option<i32>>, process: OwnedFd },
    /// The container.
    Container { sandbox: Arc<Inner>, id: String },
}

impl ExecSession {
    /// Sets the size of the terminal; nothing happens without one.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |fd| pty::resize(fd, columns, rows))
    }

    /// Waits for the end of the process (attach: of the container) and answers its exit code.
    /// May be called again and by several.
    pub async fn wait(&self) -> Result<i32> {
        match &self.end {
            SessionEnd::Container { sandbox, id } => Ok(sandbox.wait(id).await?.code),
            SessionEnd::Process { code, .. } => {
                let mut code = code.clone();
                let ended = code.wait_for(Option::is_some).await;
                let code = ended.ok().and_then(|code| *code);
                code.ok_or_else(|| Error::Gone("the container's shim ended".to_owned()))
            }
        }
    }

    /// Kills the process of an exec. A session of an attach has none of its own.
    pub fn kill(&self) {
        if let SessionEnd::Process { process, .. } = &self.end {
            // It may have ended already.
            let _ = linux::process::pidfd_signal(process, linux::signal::Signal::KILL);
        }
    }
}

/// A descriptor that tasks can wait for.
#[allow(deprecated, reason = "its successor is unsafe; an OwnedFd is what it asks for")]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    fd::set_nonblocking(&fd, true)?;
    AsyncFd::new(fd)
}

/// The reading end of a pipe or terminal.
#[derive(Debug)]
pub struct StreamReader(AsyncFd<OwnedFd>);

impl StreamReader {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<StreamReader> {
        watched(fd).map(StreamReader)
    }

    /// What can be read without waiting, up to `limit` bytes in all.
    pub(crate) fn drain(&self, into: &mut Vec<u8>, limit: usize) {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = fd::read(self.0.get_ref(), &mut buffer) {
            into.extend(&buffer[..n.min(limit.saturating_sub(into.len()))]);
        }
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| fd::read_stream(fd.get_ref(), unfilled)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

/// The writing end of a pipe or terminal.
#[derive(Debug)]
pub struct StreamWriter(Option<AsyncFd<OwnedFd>>);

impl StreamWriter {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<StreamWriter> {
        watched(fd).map(|fd| StreamWriter(Some(fd)))
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(fd) = &self.0 else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        loop {
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            match guard.try_io(|fd| fd::write(fd.get_ref(), buf)) {
                Ok(done) => return Poll::Ready(done),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
