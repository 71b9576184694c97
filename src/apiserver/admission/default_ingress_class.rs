//! DefaultIngressClass: an ingress that names no class gets the one that is marked as the default.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin, default_storage_class::newest_marked};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct DefaultIngressClass;

const MARKS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && request.is_object("networking.k8s.io", "ingresses")
    }

    async fn mutate(&self, call: &Call<'_>, ingress: &mut Value) -> Result<(), Status> {
        if ingress["spec"].has("ingressClassName")
            || ingress["metadata"]["annotations"].has("kubernetes.io/ingress.class")
        {
            return Ok(());
        }
        let class = newest_marked(call, "networking.k8s.io", "ingressclasses", &MARKS);
        if let (Some(class), Some(spec)) = (class, object_at(ingress, "spec")) {
            spec.insert("ingressClassName".to_owned(), class.into());
        }
        Ok(())
    }
}
