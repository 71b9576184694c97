//! PodTopologyLabels: a pod carries the zone and region of its node, so that it can read them
//! (KEP-4742).

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct PodTopologyLabels;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates()
            && request.is("", "pods")
            && matches!(request.info.subresource.as_str(), "" | "binding")
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let node = match call.request.info.subresource.as_str() {
            "" => object["spec"].text("nodeName"),
            _ if object["target"].text("kind") == "Node" => object["target"].text("name"),
            _ => "",
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = call.server.get("", "nodes", "", node) else { return Ok(()) };
        for label in LABELS {
            if let Some(place) = node.label(label)
                && let Some(metadata) = object_at(object, "metadata")
            {
                let labels = metadata.entry("labels").or_insert(Value::Null);
                if !labels.is_object() {
                    *labels = Value::Object(serde_json::Map::new());
                }
                labels[label] = place.into();
            }
        }
        Ok(())
    }
}
