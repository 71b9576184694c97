//! What a pod's worker is told: the newest state of each thing, so that nothing is done twice for
//! what happened twice.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use apimachinery::Object;
use jiff::Timestamp;
use runtime::ExitStatus;
use tokio::{sync::Notify, time::Instant};

use super::{resize::Record, view::ContainerView};
use crate::{probes, requests, volumes::Volumes};

/// The kubelet ends a pod before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Seconds that the pod's containers have, at most.
    pub(crate) grace: Option<i64>,
    /// Message of the condition DisruptionTarget, if it gets one.
    pub(crate) disruption: Option<String>,
}

/// What a running operation has to tell before it is done.
#[derive(Debug)]
pub(super) enum Progress {
    Sandbox(Vec<IpAddr>),
    Volumes(Volumes),
    Started(String),
    Failed {
        container: String,
        reason: String,
        message: String,
        instance: Option<ContainerView>,
    },
    /// The pod's resources are what was granted.
    Resized(Record),
    /// They could not be changed.
    NotResized(String),
    /// All instances of a container are gone from the runtime.
    Removed(String),
}

/// How an operation ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// When to look again although nothing happens.
    pub(super) retry: Option<Instant>,
    /// The pod as a whole could not be set up.
    pub(super) failed: bool,
}

/// The unread news.
#[derive(Default)]
pub(super) struct Inbox {
    /// The pod as the API server has it.
    pub(super) object: Option<Arc<Object>>,
    /// The API server does not have it any more.
    pub(super) gone: bool,
    pub(super) eviction: Option<Eviction>,
    pub(super) probes: Vec<probes::Change>,
    /// Something that the pod refers to has changed.
    pub(super) data_changed: bool,
    /// Containers of which the runtime lost track, with how they ended.
    pub(super) lost: Vec<(String, ExitStatus)>,
    pub(super) progress: Vec<Progress>,
    pub(super) done: Option<Outcome>,
    pub(super) refreshed: Option<Result<Option<Timestamp>, String>>,
    pub(super) written: Option<Result<Arc<Object>, requests::Error>>,
    pub(super) deleted: Option<Result<(), requests::Error>>,
}

/// Where a worker is told what happened.
#[derive(Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    wake: Notify,
}

impl Mailbox {
    /// Leaves news and wakes the worker.
    pub(super) fn leave(&self, news: impl FnOnce(&mut Inbox)) {
        news(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Wakes the worker: it is to look by itself.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes the news.
    pub(super) fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for news.
    pub(super) async fn news(&self) {
        self.wake.notified().await;
    }
}
