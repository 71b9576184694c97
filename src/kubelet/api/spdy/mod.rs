//! SPDY/3.1: many streams over one connection, as clients of commands and of port-forwards use it
//! where they do not use WebSockets, or inside of one. Flow control is left to TCP, as in upstream's
//! implementation.

mod frame;
mod headers;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    frame::{CHUNK, Frame},
    headers::{Encoder, Headers},
};
use super::server::{Answer, text};

/// The header in which the protocol above SPDY is agreed on.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The header with what the server would have accepted.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accept-stream-protocol-versions");
/// Frames that may wait for a stream's reader, and for the connection.
const QUEUE: usize = 16;
/// The most streams of a connection at a time.
const STREAMS: usize = 4096;
/// From this number of streams on those that have ended are looked for.
const SWEEP: usize = 64;

/// Why a connection was ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Whether a request wants SPDY.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("SPDY/3.1"))
}

/// Agrees on the protocol above SPDY: the client's first that is known. A client that names none
/// gets the last, the oldest.
pub(super) fn negotiate(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    let mut offered = headers
        .get_all(&PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return known.last().copied();
    }
    offered.find_map(|name| known.iter().find(|known| **known == name).copied())
}

/// The answer that accepts SPDY with a protocol.
pub(super) fn accept(protocol: &str) -> Answer {
    let built = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(PROTOCOL, protocol)
        .body(Empty::<Bytes>::new().boxed());
    built.unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The answer to a client that speaks none of the protocols.
pub(super) fn refuse(known: &[&'static str]) -> Answer {
    let mut answer = text(StatusCode::FORBIDDEN, "unable to upgrade: unable to negotiate protocol");
    for name in known {
        answer.headers_mut().append(ACCEPTED, header::HeaderValue::from_static(name));
    }
    answer
}

/// The server's side of a connection.
pub(super) struct Session {
    streams: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Bytes>,
    reader: AbortOnDropHandle<()>,
    writer: JoinHandle<()>,
}

/// A stream that the client opened.
pub(super) struct Stream {
    pub(super) id: u32,
    headers: Headers,
    pub(super) reader: StreamReader,
    pub(super) writer: StreamWriter,
}

impl Stream {
    /// A header; names are in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What comes in on a stream.
pub(super) struct StreamReader(mpsc::Receiver<Bytes>);

impl StreamReader {
    /// The next data; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// What goes out on a stream. To be finished or abandoned.
pub(super) struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Bytes>,
    /// The client does not want more.
    reset: Arc<AtomicBool>,
}

impl StreamWriter {
    /// Sends data.
    pub(super) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        for chunk in data.chunks(CHUNK) {
            self.send(frame::data(self.id, chunk, false)).await?;
        }
        Ok(())
    }

    /// Says that there is no more.
    pub(super) async fn finish(self) {
        // The connection may be gone.
        let _ = self.send(frame::data(self.id, &[], true)).await;
    }

    /// Gives the stream up.
    pub(super) async fn abandon(self) {
        let _ = self.send(frame::reset(self.id)).await;
    }

    async fn send(&self, frame: Bytes) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        if self.reset.load(Ordering::Relaxed) {
            return Err(gone());
        }
        self.frames.send(frame).await.map_err(|_| gone())
    }
}

impl Session {
    /// Takes over a connection.
    pub(super) fn start(connection: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (input, output) = tokio::io::split(connection);
        let (frames, queue) = mpsc::channel(QUEUE);
        let (found, streams) = mpsc::channel(QUEUE);
        let incoming = Incoming {
            frames: frames.clone(),
            found,
            open: HashMap::new(),
            sweep_at: SWEEP,
            headers: Encoder::default(),
        };
        let reader = tokio::spawn(async move {
            let input = frame::Reader::new(BufReader::with_capacity(CHUNK, input));
            if let Err(error) = incoming.read(input).await {
                tracing::debug!(%error, "spdy connection ended");
            }
        });
        let writer = tokio::spawn(write(queue, output));
        Self { streams, frames, reader: AbortOnDropHandle::new(reader), writer }
    }

    /// The next stream that the client opens; `None` when it is gone.
    pub(super) async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Ends the connection when all that was said before is sent. Streams have to be finished.
    pub(super) async fn close(self) {
        let Self { streams, frames, reader, writer } = self;
        drop((streams, frames, reader));
        let _ = writer.await;
    }
}

async fn write<W: AsyncWrite>(mut queue: mpsc::Receiver<Bytes>, mut output: WriteHalf<W>) {
    while let Some(frame) = queue.recv().await {
        let written = match output.write_all(&frame).await {
            Ok(()) if queue.is_empty() => output.flush().await,
            other => other,
        };
        if written.is_err() {
            return;
        }
    }
    let _ = output.shutdown().await;
}

/// A stream as the reader of its connection sees it.
struct Open {
    /// To who reads it, until the client has said that there is no more.
    to: Option<mpsc::Sender<Bytes>>,
    reset: Arc<AtomicBool>,
}

impl Open {
    /// Whether neither side has anything more to say.
    fn ended(&self) -> bool {
        self.to.as_ref().is_none_or(mpsc::Sender::is_closed) && Arc::strong_count(&self.reset) == 1
    }
}

/// Hands what comes in to its stream.
struct Incoming {
    frames: mpsc::Sender<Bytes>,
    found: mpsc::Sender<Stream>,
    open: HashMap<u32, Open>,
    sweep_at: usize,
    headers: Encoder,
}

impl Incoming {
    async fn read<R: AsyncRead + Unpin>(
        mut self,
        mut input: frame::Reader<R>,
    ) -> Result<(), Error> {
        while let Some(frame) = input.next().await? {
            match frame {
                Frame::Syn { id, headers, last } => {
                    if !self.opened(id, headers, last).await? {
                        return Ok(());
                    }
                }
                Frame::Data { id, data, last } => {
                    let Some(open) = self.open.get_mut(&id) else { continue };
                    if let Some(to) = &open.to
                        && !data.is_empty()
                    {
                        // Nobody may be interested any more.
                        let _ = to.send(data).await;
                    }
                    if last {
                        open.to = None;
                    }
                }
                Frame::Reset { id } => {
                    if let Some(open) = self.open.remove(&id) {
                        open.reset.store(true, Ordering::Relaxed);
                    }
                }
                // Ours would have even numbers, but none is sent.
                Frame::Ping { id } if id % 2 == 1 => {
                    let _ = self.frames.send(frame::pong(id)).await;
                }
                Frame::Ping { .. } | Frame::Other => {}
            }
        }
        Ok(())
    }

    /// Answers whether the session is still interested.
    async fn opened(&mut self, id: u32, headers: Headers, last: bool) -> Result<bool, Error> {
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, open| !open.ended());
            self.sweep_at = (self.open.len() * 2).max(SWEEP);
        }
        if self.open.len() >= STREAMS {
            return Err(Error::Malformed("too many streams"));
        }
        let (to, reader) = mpsc::channel(QUEUE);
        let reset = Arc::new(AtomicBool::new(false));
        self.open.insert(id, Open { to: Some(to).filter(|_| !last), reset: reset.clone() });
        let accepted = frame::reply(id, &mut self.headers);
        let writer = StreamWriter { id, frames: self.frames.clone(), reset };
        let stream = Stream { id, headers, reader: StreamReader(reader), writer };
        Ok(self.frames.send(accepted).await.is_ok() && self.found.send(stream).await.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn offering(protocols: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for protocol in protocols {
            headers.append(PROTOCOL, header::HeaderValue::from_static(protocol));
        }
        headers
    }

    #[test]
    fn the_clients_first_known_protocol_is_spoken() {
        let known = ["v4", "v3", "v1"];
        assert_eq!(negotiate(&offering(&["v5", "v3", "v4"]), &known), Some("v3"));
        assert_eq!(negotiate(&offering(&["v5, v4"]), &known), Some("v4"));
        assert_eq!(negotiate(&offering(&["v5"]), &known), None);
        assert_eq!(negotiate(&offering(&[]), &known), Some("v1"));
    }

    #[tokio::test]
    async fn streams_carry_data_both_ways() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut session = Session::start(ours);
        // SYN_STREAM of stream 1 with an empty header block, "ab", the end.
        let block = Encoder::default().empty();
        let length = (10 + block.len()) as u8;
        let mut bytes = vec![0x80, 3, 0, 1, 0, 0, 0, length, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(&frame::data(1, b"ab", false));
        bytes.extend_from_slice(&frame::data(1, b"", true));
        theirs.write_all(&bytes).await.unwrap();
        let mut stream = session.next().await.unwrap();
        assert_eq!((stream.id, stream.header("port")), (1, None));
        assert_eq!(stream.reader.next().await.unwrap(), b"ab"[..]);
        assert_eq!(stream.reader.next().await, None);
        stream.writer.write(b"cd").await.unwrap();
        stream.writer.finish().await;
        session.close().await;
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        let mut expected = frame::reply(1, &mut Encoder::default()).to_vec();
        expected.extend_from_slice(&frame::data(1, b"cd", false));
        expected.extend_from_slice(&frame::data(1, b"", true));
        assert_eq!(answer, expected);
    }
}
