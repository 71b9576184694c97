//! What the store promises, through its public surface.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test says what it proves in its name")]

use std::{path::Path, sync::Arc};

use apimachinery::{Draft, GroupResource, Key, Object};
use serde_json::json;
use storage::{Collection, Durability, EventKind, OpenError, Store, Write, WriteError};

fn draft(name: &str, value: u32) -> Draft {
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "n", "uid": "u"}, "data": {"v": value.to_string()}});
    Draft::new(&value, &[] as &[&str]).unwrap()
}

async fn open(path: &Path, durability: Durability) -> (Store, Collection) {
    let store = Store::open(path).unwrap();
    let collection =
        store.collection(&GroupResource::new("", "configmaps"), &[], durability).await.unwrap();
    (store, collection)
}

fn database() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}

async fn create(store: &Store, collection: &Collection, name: &str) -> Arc<Object> {
    store.commit(collection, Write::Create(draft(name, 0))).await.unwrap()
}

#[tokio::test]
async fn writes_are_compare_and_swap() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    let first = create(&store, &things, "a").await;
    let again = store.commit(&things, Write::Create(draft("a", 1))).await;
    assert!(matches!(again, Err(WriteError::Exists(there)) if there.revision == first.revision));

    let update = |expected| Write::Update { draft: draft("a", 2), expected };
    let second = store.commit(&things, update(first.revision)).await.unwrap();
    assert!(second.revision > first.revision);
    let stale = store.commit(&things, update(first.revision)).await;
    assert!(matches!(stale, Err(WriteError::Conflict(now)) if now.revision == second.revision));

    let delete = |expected| Write::Delete { expected, last: draft("a", 2) };
    store.commit(&things, delete(second.revision)).await.unwrap();
    let gone = store.commit(&things, delete(second.revision)).await;
    assert!(matches!(gone, Err(WriteError::NotFound)));
    store.close();
}

#[tokio::test]
async fn of_many_writers_at_one_revision_exactly_one_wins() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    let first = create(&store, &things, "a").await;
    let writers = (0..64).map(|value| {
        let (store, things) = (store.clone(), things.clone());
        let write = Write::Update { draft: draft("a", value), expected: first.revision };
        tokio::spawn(async move { store.commit(&things, write).await.is_ok() })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        won += u32::from(writer.await.unwrap());
    }
    assert_eq!(won, 1);
    store.close();
}

#[tokio::test]
async fn acknowledged_writes_and_revisions_survive_a_restart() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    let last = create(&store, &things, "a").await;
    store.close();
    let (store, things) = open(&path, Durability::Durable).await;
    let found = things.get(&Key::new("n", "a")).unwrap();
    assert_eq!(found.body, last.body);
    let next = create(&store, &things, "b").await;
    assert!(next.revision > last.revision, "revisions never go back");
    store.close();
}

#[tokio::test]
async fn volatile_objects_survive_a_clean_stop() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Volatile).await;
    create(&store, &things, "a").await;
    store.close();
    let (store, things) = open(&path, Durability::Volatile).await;
    assert!(things.get(&Key::new("n", "a")).is_some());
    store.close();
}

#[tokio::test]
async fn a_second_store_on_the_file_is_refused() {
    let (_directory, path) = database();
    let (store, _) = open(&path, Durability::Durable).await;
    let second = Store::open(&path);
    let message = second.err().map(|error: OpenError| error.to_string());
    assert_eq!(message.as_deref(), Some("the database is in use by another server"));
    store.close();
}

#[tokio::test]
async fn a_watch_from_a_snapshot_misses_and_repeats_nothing() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    let a = create(&store, &things, "a").await;
    let snapshot = things.snapshot();
    assert_eq!(snapshot.revision(), a.revision);
    let mut watch = things.watch(snapshot.revision()).unwrap();
    let b = create(&store, &things, "b").await;
    let write = Write::Delete { expected: a.revision, last: draft("a", 0) };
    store.commit(&things, write).await.unwrap();

    let added = watch.next().await.unwrap();
    assert_eq!((added.kind, added.revision), (EventKind::Added, b.revision));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted.kind, EventKind::Deleted);
    assert_eq!(deleted.previous.unwrap().revision, a.revision);
    assert!(
        deleted.object.revision > b.revision,
        "the final state carries the deletion's revision"
    );
    assert_eq!(snapshot.len(), 1, "a snapshot never changes");
    store.close();
}

#[tokio::test]
async fn bookmarks_move_on_with_writes_to_other_resources() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    let others = GroupResource::new("", "secrets");
    let others = store.collection(&others, &[], Durability::Durable).await.unwrap();
    let mut watch = things.watch(things.snapshot().revision()).unwrap();
    let written = create(&store, &others, "x").await;
    assert!(watch.try_next().unwrap().is_none());
    assert_eq!(watch.delivered(), written.revision);
    store.close();
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_told() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Volatile).await;
    let mut watch = things.watch(store.revision()).unwrap();
    let mut last = create(&store, &things, "a").await;
    for value in 0..12_000 {
        let write = Write::Update { draft: draft("a", value), expected: last.revision };
        last = store.commit(&things, write).await.unwrap();
    }
    let expired = watch.next().await.unwrap_err();
    assert!(expired.oldest > 1);
    assert!(things.watch(expired.oldest).is_ok());
    store.close();
}

#[tokio::test]
async fn pages_of_a_list_come_from_one_snapshot() {
    let (_directory, path) = database();
    let (store, things) = open(&path, Durability::Durable).await;
    for name in ["a", "b", "c"] {
        create(&store, &things, name).await;
    }
    let first = things.snapshot();
    things.keep(&first);
    create(&store, &things, "aa").await;
    let page = things.snapshot_at(first.revision()).unwrap();
    let names: Vec<_> = page.range_after(&Key::new("n", "a")).map(|o| o.key.name.clone()).collect();
    assert_eq!(names, ["b".into(), "c".into()]);
    assert_eq!(things.snapshot().range("n").count(), 4);
    assert!(things.snapshot_at(1).is_none());
    store.close();
}
