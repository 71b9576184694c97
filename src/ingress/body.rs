//! The bodies that pass through, and what is held while they do.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::activity::Request;
use crate::endpoint::InUse;

/// How long a client may pause while it sends a body over HTTP/1.1.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// Why a request's body did not reach the backend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client is gone, or has sent something that is not HTTP.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The client has paused for too long.
    #[error("client stopped sending the body")]
    Stalled,
}

/// When a request's body has last made progress.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A client's body on its way to a backend.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    progress: Progress,
    /// `None` where the client may pause: streams of HTTP/2, gRPC above all, are often silent.
    stall: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// A body that is passed on as it comes.
    pub(crate) fn new(incoming: Incoming, may_pause: bool, progress: Progress) -> Self {
        let stall = (!may_pause && !incoming.is_end_stream())
            .then(|| Box::pin(sleep_until(Instant::now() + STALL)));
        Self { incoming: Some(incoming), progress, stall }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { incoming: None, progress: Progress::new(), stall: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            if let Some(stall) = &mut this.stall {
                let until = this.progress.last() + STALL;
                if stall.deadline() != until {
                    stall.as_mut().reset(until);
                }
                ready!(stall.as_mut().poll(cx));
                return Poll::Ready(Some(Err(BodyError::Stalled)));
            }
            return Poll::Pending;
        };
        this.progress.note();
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// A body on its way to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// From a backend, which counts as in use until the end.
    Backend { incoming: Incoming, _endpoint: InUse, _request: Request },
    /// Our own words.
    Text(Option<Bytes>),
}

impl ResponseBody {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Backend { incoming, .. } => Pin::new(incoming).poll_frame(cx),
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Backend { incoming, .. } => incoming.is_end_stream(),
            Self::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Backend { incoming, .. } => incoming.size_hint(),
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}
