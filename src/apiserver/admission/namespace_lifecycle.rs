//! NamespaceLifecycle: no object comes into a namespace that is not there or on its way out, and
//! the system's own namespaces stay.

use apimachinery::{GroupResource, Status, status::StatusCause};
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Operation, Plugin};
use crate::kinds::namespace_is_terminating;

pub(super) struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.operation {
            Operation::Create => {
                // A review answers for any namespace: whether there is one is nobody's business.
                !request.info.namespace.is_empty()
                    && !request.is("", "namespaces")
                    && !request.is("authorization.k8s.io", "localsubjectaccessreviews")
            }
            Operation::Delete => request.is("", "namespaces"),
            Operation::Update | Operation::Connect => false,
        }
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let request = call.request;
        if request.operation == Operation::Delete {
            let name = request.info.name.as_str();
            return match IMMORTAL.contains(&name) {
                true => Err(request.forbidden(object, "this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        let name = &request.info.namespace;
        let Some(namespace) = call.server.get("", "namespaces", "", name) else {
            return Err(Status::not_found(&GroupResource::new("", "namespaces"), name));
        };
        if !namespace_is_terminating(&namespace) {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        let mut status = request.forbidden(object, &why);
        status.details.causes.push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        Err(status)
    }
}
