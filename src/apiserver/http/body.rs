//! Response bodies: stored bytes go to the socket without being parsed or joined first.

use std::{
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

/// A boxed error, as hyper bodies use it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer to a request.
pub type Response = http::Response<Body>;

/// How many bytes of small pieces are joined before they are handed to the connection.
const CHUNK: usize = 64 << 10;

/// The body of an answer.
pub enum Body {
    /// One piece, or none.
    Full(Bytes),
    /// Many pieces, joined into chunks as the connection takes them.
    Pieces(Pieces),
    /// Pieces that come with time: watches, logs.
    Stream(Feed),
    /// The body of another server's answer.
    Proxied(Incoming),
}

/// A stream of pieces. The lock is never taken: it makes the body `Sync`, which boxed bodies must be
/// although nobody polls one from two threads.
pub type Feed = std::sync::Mutex<Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>>;

/// A sequence of byte strings, made as the connection takes them.
pub struct Pieces {
    /// What is left of the total length, if that is known.
    left: Option<u64>,
    next: Box<dyn Iterator<Item = Result<Bytes, BoxError>> + Send + Sync>,
    /// Taken from `next`, but did not fit into the last chunk.
    held: Option<Bytes>,
}

impl Pieces {
    /// A body of these pieces.
    pub fn of(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { left: Some(length), next: Box::new(pieces.into_iter().map(Ok)), held: None }
    }

    /// A large body whose length nobody knows before all of it is made.
    pub fn of_unknown_length(
        pieces: impl Iterator<Item = Result<Bytes, BoxError>> + Send + Sync + 'static,
    ) -> Self {
        Self { left: None, next: Box::new(pieces), held: None }
    }

    fn chunk(&mut self) -> Result<Option<Bytes>, BoxError> {
        let mut chunk = BytesMut::new();
        while let Some(piece) = self.held.take().map(Ok).or_else(|| self.next.next()).transpose()? {
            // A large piece is sent as it is; copying it would gain nothing.
            if piece.len() >= CHUNK / 2 {
                if chunk.is_empty() {
                    self.sent(piece.len());
                    return Ok(Some(piece));
                }
                self.held = Some(piece);
                break;
            }
            if chunk.is_empty() {
                let left = self.left.and_then(|left| usize::try_from(left).ok());
                chunk.reserve(left.map_or(CHUNK, |left| left.min(CHUNK)));
            } else if chunk.len() + piece.len() > CHUNK {
                self.held = Some(piece);
                break;
            }
            chunk.extend_from_slice(&piece);
        }
        self.sent(chunk.len());
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }

    fn sent(&mut self, length: usize) {
        self.left = self.left.map(|left| left.saturating_sub(length as u64));
    }
}

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// A body from a stream of pieces.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self::Stream(Feed::new(Box::pin(stream)))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Full(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Pieces(pieces) => {
                Poll::Ready(pieces.chunk().map(|chunk| chunk.map(Frame::data)).transpose())
            }
            Self::Stream(stream) => {
                let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
                stream
                    .as_mut()
                    .poll_next(context)
                    .map(|next| next.map(|item| item.map(Frame::data)))
            }
            Self::Proxied(body) => Pin::new(body)
                .poll_frame(context)
                .map(|next| next.map(|frame| frame.map_err(BoxError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Pieces(pieces) => pieces.left == Some(0) && pieces.held.is_none(),
            Self::Stream(_) => false,
            Self::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(pieces) => {
                pieces.left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Self::Stream(_) => SizeHint::default(),
            Self::Proxied(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_and_large_ones_passed_on() {
        let large = Bytes::from(vec![b'x'; CHUNK]);
        let small = || Bytes::from_static(b"0123456789");
        let pieces = [small(), small(), large.clone(), small()];
        let mut pieces = Pieces::of(pieces.to_vec());
        let mut chunk = || pieces.chunk().unwrap();
        assert_eq!(chunk().unwrap(), "01234567890123456789");
        let passed = chunk().unwrap();
        assert_eq!(passed.as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(chunk().unwrap(), "0123456789");
        assert_eq!((chunk(), pieces.left), (None, Some(0)));
    }
}
