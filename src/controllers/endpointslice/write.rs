//! Carries out a plan for the slices of one service.

use client::{Client, DeleteParams, Error, PostParams, is_conflict, is_not_found};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Plan;
use crate::pod_control::is_terminating;

/// Makes the writes of `plan` in `namespace`.
pub(crate) async fn write(client: &Client, namespace: &str, plan: Plan) -> Result<(), Error> {
    let api = client.namespaced::<EndpointSlice>(namespace);
    for slice in plan.create {
        match api.create(&PostParams::default(), &slice).await {
            Ok(_) => {}
            Err(error) if is_terminating(&error) => {}
            Err(error) => return Err(error),
        }
    }
    for slice in plan.update {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        api.replace(name, &PostParams::default(), &slice).await?;
    }
    delete_all(client, namespace, &plan.delete).await
}

/// Deletes `slices`, those that are still there.
pub(crate) async fn delete_all(
    client: &Client,
    namespace: &str,
    slices: &[EndpointSlice],
) -> Result<(), Error> {
    let api = client.namespaced::<EndpointSlice>(namespace);
    for slice in slices {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
