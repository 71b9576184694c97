//! Deletecollection: every object that a selection meets, one after the other.

use apimachinery::Status;

use crate::{
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content, List},
        delete::{delete_object, read_options},
        list,
        options::ListOptions,
        selection::Selection,
    },
};

/// Answers a DELETE on a collection.
///
/// # Errors
/// The Status that refuses it, or stops it half way.
pub async fn delete_collection(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let list_options = ListOptions::parse(call.query, false)?;
    let options = read_options(call, body).await?;
    let selection = Selection::new(&call.endpoint, call.namespace(), "", &list_options)?;
    let snapshot = call.collection()?.snapshot();
    let found = list::selected(call.server, &call.endpoint, &snapshot, &selection, None).await?;
    // What is deleted is what is stored.
    let mut objects: Vec<_> =
        found.iter().filter_map(|object| snapshot.get(&object.key).cloned()).collect();
    if list_options.limit > 0 {
        objects.truncate(list_options.limit);
    }
    for object in &objects {
        match delete_object(call, object.clone(), &options).await {
            Err(status) if status.is("NotFound") => {}
            result => {
                result?;
            }
        }
    }
    Ok(Answer::ok(Content::List(List {
        objects,
        revision: snapshot.revision(),
        next: None,
        remaining: None,
    })))
}
