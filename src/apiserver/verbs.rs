//! Which room answers a request on a resource.

use apimachinery::Status;
use http::{Method, request::Parts};

use crate::{
    http::{body::Response, decode::Payload},
    registry::{
        Call, create::create, delete::delete, delete_collection::delete_collection, get::get,
        list::list, options::ListOptions, patch::patch, update::update, watch::watch,
    },
    subresources,
};

/// Answers one request.
///
/// # Errors
/// The Status that refuses it.
pub async fn dispatch(
    call: &Call<'_>,
    parts: &mut Parts,
    body: Payload,
) -> Result<Response, Status> {
    let info = call.info;
    let resource = call.resource();
    if &*info.verb == "proxy" {
        return Err(Status::unknown_resource());
    }
    // A HEAD is authorized as a GET, but only what is proxied answers one.
    if parts.method == Method::HEAD && &*info.subresource != "proxy" {
        return Err(unsupported());
    }
    // A namespaced path to a cluster-scoped resource is no path of the API, nor is an object of a
    // namespaced resource without its namespace.
    let namespaced_path = !info.namespace.is_empty() && resource.plural() != "namespaces";
    if namespaced_path && !resource.namespaced {
        return Err(Status::unknown_resource());
    }
    let needs_namespace =
        !info.name.is_empty() && matches!(&*info.verb, "get" | "update" | "patch" | "delete");
    if resource.namespaced
        && info.namespace.is_empty()
        && (needs_namespace || !info.subresource.is_empty())
    {
        return Err(Status::unknown_resource());
    }
    if !info.subresource.is_empty() {
        let Some(sub) = call.endpoint.version().subresource(&info.subresource) else {
            return Err(Status::unknown_resource());
        };
        // Methods that no verb stands for, such as OPTIONS, are for those behind the proxy.
        let proxied = info.verb.is_empty() && &*info.subresource == "proxy";
        if !proxied && !sub.verbs.contains(&info.verb) {
            return Err(unsupported());
        }
        return subresources::dispatch(call, parts, body).await;
    }
    if !call.rest.path.is_empty() {
        return Err(Status::unknown_resource());
    }
    // All namespaces at once can be read, and nothing else.
    let everywhere = resource.namespaced && info.namespace.is_empty();
    if everywhere && matches!(&*info.verb, "create" | "deletecollection") {
        return Err(unsupported());
    }
    let nameless = info.name.is_empty() && matches!(&*info.verb, "get" | "update" | "patch");
    if !call.endpoint.version().facts.verbs.contains(&info.verb) || nameless {
        return Err(unsupported());
    }
    if resource.collection.is_none() {
        return subresources::virtual_resource(call, body).await?.respond(call).await;
    }
    let answer = match &*info.verb {
        "get" => get(call)?,
        "list" => {
            let options = ListOptions::parse(call.query, false)?;
            if options.watch {
                return watch(call, &options).await;
            }
            list(call, &options).await?
        }
        "watch" => return watch(call, &ListOptions::parse(call.query, true)?).await,
        "create" if !info.name.is_empty() => return Err(unsupported()),
        "create" => create(call, body).await?,
        "update" => update(call, body).await?,
        "patch" => patch(call, body).await?,
        "delete" => delete(call, body).await?,
        "deletecollection" => delete_collection(call, body).await?,
        _ => return Err(unsupported()),
    };
    answer.respond(call).await
}

/// 405. Upstream's router answers it for what no handler is installed for.
fn unsupported() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::generic(405, "MethodNotAllowed", message)
}
