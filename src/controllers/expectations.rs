//! What a controller has done but not yet seen.
//!
//! The cache lags behind writes. A controller that created three pods and looks again at once would
//! create three more; so it waits until the cache has shown what it expects, or long enough that
//! something must have been missed (upstream's `ControllerExpectations`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apimachinery::Key;
use client::Change;
use tokio::time::Instant;

use crate::ownership::controller_key;

/// Expectations older than this are dropped.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Expected {
    creations: usize,
    /// Deletions by UID, since one pod is seen to go twice: marked, then removed.
    deletions: HashSet<Box<str>>,
    since: Option<Instant>,
}

/// Expectations by the key of the owner.
#[derive(Default)]
pub(crate) struct Expectations {
    owners: Mutex<HashMap<Key, Expected>>,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Expected>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `count` creations will be seen.
    pub(crate) fn expect_creations(&self, owner: &Key, count: usize) {
        let mut owners = self.lock();
        let expected = owners.entry(owner.clone()).or_default();
        expected.creations += count;
        expected.since = Some(Instant::now());
    }

    /// The objects with these UIDs will be seen to go.
    pub(crate) fn expect_deletions(&self, owner: &Key, uids: impl IntoIterator<Item = Box<str>>) {
        let mut owners = self.lock();
        let expected = owners.entry(owner.clone()).or_default();
        expected.deletions.extend(uids);
        expected.since = Some(Instant::now());
    }

    /// A creation was seen, or failed and will not be.
    pub(crate) fn created(&self, owner: &Key) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed and will not be.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(expected) = self.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// Takes in what happened to a dependent of an object of `kind`. One that is marked for deletion
    /// counts as gone: its replacement need not wait.
    pub(crate) fn saw(&self, change: &Change, kind: &str) {
        let object = change.object();
        let Some(owner) = controller_key(object, kind) else { return };
        if let Change::Put { old: None, .. } = change {
            self.created(&owner);
        }
        if object.deleting || matches!(change, Change::Delete(_)) {
            self.deleted(&owner, &object.uid);
        }
    }

    /// Whether all that was expected has been seen.
    pub(crate) fn satisfied(&self, owner: &Key) -> bool {
        self.lock().get(owner).is_none_or(|expected| {
            let pending = expected.creations > 0 || !expected.deletions.is_empty();
            !pending || expected.since.is_some_and(|since| since.elapsed() > TIMEOUT)
        })
    }

    /// Forgets an owner that is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_waits_for_what_it_expects_but_not_for_ever() {
        let (expectations, owner) = (Expectations::default(), Key::new("n", "a"));
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 1);
        expectations.expect_deletions(&owner, ["u".into()]);
        expectations.created(&owner);
        assert!(!expectations.satisfied(&owner));
        expectations.deleted(&owner, "other");
        assert!(!expectations.satisfied(&owner));
        expectations.deleted(&owner, "u");
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 1);
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&owner));
    }
}
