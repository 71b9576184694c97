//! What is made of stored objects once a revision, so that a request pays nothing for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use apimachinery::Object;
use serde_json::Value;
use storage::Snapshot;

/// What was made of each object, by its uid, and of which revision.
type Known<T> = HashMap<Box<str>, (u64, Arc<T>)>;

/// What was made of the objects of one resource.
#[derive(Debug)]
pub(crate) struct Revisions<T> {
    known: Mutex<Known<T>>,
}

impl<T> Default for Revisions<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T> Revisions<T> {
    /// What is made of every object of a snapshot, in its order. What was made of objects that are
    /// gone is forgotten.
    pub(crate) fn all(&self, snapshot: &Snapshot, make: impl Fn(&Value) -> T) -> Vec<Arc<T>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(snapshot.len());
        for object in snapshot.iter() {
            all.extend(one(&mut known, object, &make));
        }
        if known.len() > all.len() {
            known.retain(|uid, _| snapshot.iter().any(|object| object.uid == *uid));
        }
        all
    }
}

fn one<T>(known: &mut Known<T>, object: &Object, make: &impl Fn(&Value) -> T) -> Option<Arc<T>> {
    if let Some((revision, made)) = known.get(&object.uid)
        && *revision == object.revision
    {
        return Some(made.clone());
    }
    let made = Arc::new(make(&object.value().ok()?));
    known.insert(object.uid.clone(), (object.revision, made.clone()));
    Some(made)
}
