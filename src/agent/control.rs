//! The image store of a running node, for `knarr images`: a unix socket in the run directory, so
//! that one process alone works on the store.
//!
//! A request is a line of JSON and so is its answer; a connection has any number of them.

use std::{
    io,
    path::{Path, PathBuf},
};

use runtime::{Image, ImageStore};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The name of the socket in the run folder.
const SOCKET: &str = "images.sock";

/// What is asked of the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    /// All images.
    List,
    /// Import an archive, by its absolute path.
    Import(PathBuf),
    /// Remove a name or an image.
    Remove(String),
}

/// What the store answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// All images.
    Images(Vec<Image>),
    /// Names of what was imported.
    Imported(Vec<String>),
    /// Bytes freed by a removal.
    Freed(u64),
    /// Why it was not done.
    Refused(String),
}

/// Does what is asked.
pub(crate) async fn carry_out(store: &ImageStore, request: Request) -> Answer {
    let done = match request {
        Request::List => Ok(Answer::Images(store.list())),
        Request::Import(archive) => store.import(&archive).await.map(Answer::Imported),
        Request::Remove(image) => store.remove(&image).await.map(Answer::Freed),
    };
    done.unwrap_or_else(|error| Answer::Refused(error.to_string()))
}

/// Answers requests until `stop`.
pub(crate) async fn serve(store: ImageStore, run_dir: PathBuf, stop: CancellationToken) {
    let path = run_dir.join(SOCKET);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(path = %path.display(), %error, "no socket for images");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let answered = tokio::select! {
                answered = answer(&store, stream) => answered,
                () = stop.cancelled() => Ok(()),
            };
            if let Err(error) = answered {
                debug!(%error, "connection for images ended");
            }
        });
    }
    let _ = std::fs::remove_file(&path);
}

/// Listens where a server that was killed may have left its socket. Whoever calls this has the data
/// directory, so nobody listens there any more.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

async fn answer(store: &ImageStore, stream: UnixStream) -> io::Result<()> {
    // Images are what root's processes are made of.
    if stream.peer_cred()?.uid() != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => carry_out(store, request).await,
            Err(error) => Answer::Refused(error.to_string()),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        write.write_all(&line).await?;
    }
    Ok(())
}

/// A connection to the store of a running node.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects; `None` if no node runs with this run directory.
    pub(crate) async fn open(run_dir: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(run_dir.join(SOCKET)).await {
            Ok(stream) => Ok(Some(Self(BufReader::new(stream)))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.0.write_all(&line).await?;
        let mut answer = String::new();
        match self.0.read_line(&mut answer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&answer)?),
        }
    }
}
