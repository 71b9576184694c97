//! Frames of SPDY/3, as far as streams need them.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    Error,
    headers::{Decoder, Encoder, Headers},
};

/// The most that a control frame may hold.
const CONTROL_LIMIT: usize = 64 << 10;
/// Data is passed on in pieces of this size.
pub(super) const CHUNK: usize = 32 << 10;

const CONTROL: u32 = 0x8003_0000;
const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const HEADERS: u32 = 8;
/// The sender will send no more on the stream.
const FIN: u8 = 1;
/// The status of a stream that is not wanted any more.
const CANCEL: u32 = 5;

/// What comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    Syn { id: u32, headers: Headers, last: bool },
    /// Data, or a part of it.
    Data { id: u32, data: Bytes, last: bool },
    /// A stream is given up.
    Reset { id: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// Nothing that matters here: settings, windows, which peers do not keep to, and the like.
    Other,
}

/// Reads frames.
pub(super) struct Reader<R> {
    input: R,
    headers: Decoder,
    /// What is left to read of a data frame: stream, bytes, whether it is the last.
    open: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, headers: Decoder::new(), open: None }
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some((id, left, last)) = self.open.take() {
            return self.data(id, left, last).await.map(Some);
        }
        let mut head = [0; 8];
        if self.input.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        self.input.read_exact(&mut head[1..]).await?;
        let [a, b, c, d, flags, length @ ..] = head;
        let word = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let last = flags & FIN != 0;
        if word & 0x8000_0000 == 0 {
            return self.data(word, length, last).await.map(Some);
        }
        if length > CONTROL_LIMIT {
            return Err(Error::Malformed("control frame too large"));
        }
        let mut content = vec![0; length];
        self.input.read_exact(&mut content).await?;
        self.control(word & 0xffff, last, &content).map(Some)
    }

    async fn data(&mut self, id: u32, left: usize, last: bool) -> Result<Frame, Error> {
        let mut data = vec![0; left.min(CHUNK)];
        self.input.read_exact(&mut data).await?;
        let left = left - data.len();
        if left > 0 {
            self.open = Some((id, left, last));
        }
        Ok(Frame::Data { id, data: data.into(), last: last && left == 0 })
    }

    fn control(&mut self, kind: u32, last: bool, content: &[u8]) -> Result<Frame, Error> {
        let id = || {
            let first = content.first_chunk().ok_or(Error::Malformed("short control frame"))?;
            Ok::<u32, Error>(u32::from_be_bytes(*first) & 0x7fff_ffff)
        };
        let block =
            |at: usize| content.get(at..).ok_or(Error::Malformed("control frame without headers"));
        Ok(match kind {
            SYN_STREAM => {
                let headers = self.headers.decode(block(10)?)?;
                Frame::Syn { id: id()?, headers, last }
            }
            SYN_REPLY | HEADERS => {
                // Not of interest, but the next block builds on it.
                self.headers.decode(block(4)?)?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset { id: id()? },
            PING => {
                let id = content.first_chunk().ok_or(Error::Malformed("short ping"))?;
                Frame::Ping { id: u32::from_be_bytes(*id) }
            }
            _ => Frame::Other,
        })
    }
}

fn control(kind: u32, flags: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(8 + length);
    frame.extend_from_slice(&(CONTROL | kind).to_be_bytes());
    frame.extend_from_slice(&((length as u32) | (u32::from(flags) << 24)).to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame.into()
}

/// The answer that accepts a stream.
pub(super) fn reply(id: u32, headers: &mut Encoder) -> Bytes {
    control(SYN_REPLY, 0, &[&id.to_be_bytes(), &headers.empty()])
}

/// Gives a stream up.
pub(super) fn reset(id: u32) -> Bytes {
    control(RST_STREAM, 0, &[&id.to_be_bytes(), &CANCEL.to_be_bytes()])
}

/// The answer to a ping.
pub(super) fn pong(id: u32) -> Bytes {
    control(PING, 0, &[&id.to_be_bytes()])
}

/// Data of a stream, at most [`CHUNK`] bytes.
pub(super) fn data(id: u32, data: &[u8], last: bool) -> Bytes {
    let mut frame = Vec::with_capacity(8 + data.len());
    frame.extend_from_slice(&id.to_be_bytes());
    let flags = if last { u32::from(FIN) << 24 } else { 0 };
    frame.extend_from_slice(&((data.len() as u32) | flags).to_be_bytes());
    frame.extend_from_slice(data);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<Frame> {
        let mut reader = Reader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await.unwrap() {
            frames.push(frame);
        }
        frames
    }

    #[tokio::test]
    async fn frames_come_back() {
        let mut encoder = Encoder::default();
        let large = vec![7; CHUNK];
        let mut bytes = Vec::new();
        for frame in
            [pong(1), reply(3, &mut encoder), data(3, b"abc", false), reset(5), data(3, b"", true)]
        {
            bytes.extend_from_slice(&frame);
        }
        // One frame of more than is passed on at once.
        bytes.extend_from_slice(&3u32.to_be_bytes());
        bytes.extend_from_slice(&(u32::from(FIN) << 24 | (CHUNK as u32 + 1)).to_be_bytes());
        bytes.extend_from_slice(&large);
        bytes.push(8);
        let data = |data: &[u8], last| Frame::Data { id: 3, data: data.to_vec().into(), last };
        let expected = [
            Frame::Ping { id: 1 },
            Frame::Other,
            data(b"abc", false),
            Frame::Reset { id: 5 },
            data(b"", true),
            data(&large, false),
            data(&[8], true),
        ];
        assert_eq!(read(&bytes).await, expected);
    }

    #[tokio::test]
    async fn broken_frames_are_errors() {
        for broken in [&[0u8, 0, 0, 1, 0, 0, 0, 5, 1][..], &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]] {
            assert!(Reader::new(broken).next().await.is_err());
        }
    }
}
