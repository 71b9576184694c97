//! List: a consistent snapshot, whole or page by page.

use std::sync::Arc;

use apimachinery::{Key, Object, Status};
use storage::Snapshot;

use crate::{
    Shared,
    registry::{
        Call,
        answer::{Answer, Content, List},
        convert,
        get::future_revision,
        options::ListOptions,
        page::{self, Position},
        resource::Endpoint,
        selection::Selection,
    },
};

/// Answers a GET of a collection.
///
/// # Errors
/// The Status that refuses it; 410 for a page of a list that is too old.
pub async fn list(call: &Call<'_>, options: &ListOptions) -> Result<Answer, Status> {
    let collection = call.collection()?;
    let selection = Selection::new(&call.endpoint, call.namespace(), &call.info.name, options)?;
    let mut after = None;
    let snapshot = if !options.continue_token.is_empty() {
        let position = Position::decode(&options.continue_token)?;
        if options.revision.is_some_and(|revision| revision != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let snapshot = match position.revision {
            Some(revision) => {
                collection.snapshot_at(revision).ok_or_else(|| page::expired(&position.after))?
            }
            None => collection.snapshot(),
        };
        after = Some(position.after);
        snapshot
    } else {
        let current = call.server.store.revision();
        match options.revision {
            Some(asked) if asked > current => return Err(future_revision(asked, current)),
            Some(asked) if options.exact => collection.snapshot_at(asked).ok_or_else(|| {
                Status::expired("The resourceVersion for the provided list is too old.")
            })?,
            _ => collection.snapshot(),
        }
    };
    let mut objects =
        selected(call.server, &call.endpoint, &snapshot, &selection, after.as_ref()).await?;
    let (mut next, mut remaining) = (None, None);
    if options.limit > 0 && objects.len() > options.limit {
        remaining = selection.is_everything().then(|| objects.len() - options.limit);
        objects.truncate(options.limit);
        if let Some(last) = objects.last() {
            let position =
                Position { revision: Some(snapshot.revision()), after: last.key.clone() };
            next = Some(position.encode());
            collection.keep(&snapshot);
        }
    }
    Ok(Answer::ok(Content::List(List { objects, revision: snapshot.revision(), next, remaining })))
}

/// The objects of `snapshot` behind `after` that `selection` means, ordered by key. Where the
/// selection looks inside, they are of the version of `endpoint` already.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn selected(
    server: &Shared,
    endpoint: &Endpoint,
    snapshot: &Snapshot,
    selection: &Selection,
    after: Option<&Key>,
) -> Result<Vec<Arc<Object>>, Status> {
    let find = |selection: &Selection| match after {
        Some(after) => select_after(snapshot, selection, after),
        None => select(snapshot, selection),
    };
    if !selection.looks_inside() {
        return Ok(find(selection));
    }
    let all = find(&selection.by_namespace());
    let mut objects = convert::present(server, endpoint, all).await?;
    objects.retain(|object| selection.matches(object));
    Ok(objects)
}

/// The objects of `snapshot` that `selection` means, ordered by key.
fn select(snapshot: &Snapshot, selection: &Selection) -> Vec<Arc<Object>> {
    let namespace = &selection.namespace;
    if let Some(name) = selection.name()
        && let Some(key) = single(selection, name)
    {
        let found = snapshot.get(&key).filter(|object| selection.matches(object));
        return found.cloned().into_iter().collect();
    }
    let matching = |object: &&Arc<Object>| selection.matches(object);
    match (namespace.is_empty(), selection.is_everything()) {
        (true, true) => snapshot.iter().cloned().collect(),
        (true, false) => snapshot.iter().filter(matching).cloned().collect(),
        (false, true) => snapshot.range(namespace).cloned().collect(),
        (false, false) => snapshot.range(namespace).filter(matching).cloned().collect(),
    }
}

/// The key of the only object that can be meant, where the namespace is known as well.
fn single(selection: &Selection, name: &str) -> Option<Key> {
    (!selection.namespace.is_empty() || selection.cluster_scoped)
        .then(|| Key::new(&*selection.namespace, name))
}

fn select_after(snapshot: &Snapshot, selection: &Selection, after: &Key) -> Vec<Arc<Object>> {
    let namespace = &selection.namespace;
    snapshot
        .range_after(after)
        .take_while(|object| namespace.is_empty() || *object.key.namespace <= **namespace)
        .filter(|object| selection.matches(object))
        .cloned()
        .collect()
}
