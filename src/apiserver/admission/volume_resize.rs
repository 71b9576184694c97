//! PersistentVolumeClaimResize: a claim grows only where its class allows that.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::{storage_class, validation::quantity, value::Fields as _};

pub(super) struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.updates() && request.is_object("", "persistentvolumeclaims")
    }

    async fn validate(&self, call: &Call<'_>, claim: &Value) -> Result<(), Status> {
        let old = call.request.old();
        let size = |claim: &Value| quantity(&claim["spec"]["resources"]["requests"]["storage"]);
        if size(claim) <= size(old) {
            return Ok(());
        }
        let refuse = |why: &str| Err(call.request.forbidden(claim, why));
        if old["status"].text("phase") != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        let class = storage_class(claim);
        let allowed = !class.is_empty()
            && class == storage_class(old)
            && call
                .get("storage.k8s.io", "storageclasses", "", class)
                .is_some_and(|class| class.on("allowVolumeExpansion"));
        if allowed {
            return Ok(());
        }
        refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions \
             the pvc must support resize",
        )
    }
}
