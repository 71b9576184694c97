//! Sessions with processes in containers: exec and attach.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};

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

/// A process with its streams. Take the streams out to use them from several tasks; dropping the
/// writer of stdin is what the process sees as end of file.
#[derive(Debug)]
pub struct ExecSession {
    /// Present when asked for.
    pub stdin: Option<StreamWriter>,
    /// Present when asked for; everything when the process has a terminal.
    pub stdout: Option<StreamReader>,
    /// Present when asked for and there is no terminal.
    pub stderr: Option<StreamReader>,
}

impl ExecSession {
    /// Sets the size of the terminal; nothing happens without one.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let _ = (columns, rows);
        Ok(())
    }

    /// Waits for the end of the process (attach: of the container) and answers its exit code.
    /// May be called again and by several.
    pub async fn wait(&self) -> Result<i32> {
        Err(Error::Gone("no session".to_owned()))
    }
}

/// The reading end of a pipe or terminal.
#[derive(Debug)]
pub struct StreamReader {}

impl AsyncRead for StreamReader {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The writing end of a pipe or terminal.
#[derive(Debug)]
pub struct StreamWriter {}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
