//! Conversion webhooks: another server turns objects of one version into another.

use std::time::Duration;

use apimachinery::Status;
use serde_json::{Value, json};

use crate::{Shared, webhook};

/// A conversion must be done after this long; upstream's limit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who converts the objects of a definition.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// `spec.conversion.webhook.clientConfig` of the definition.
    config: Value,
    /// Versions of ConversionReview that the webhook understands.
    reviews: Vec<String>,
    /// The kind, for messages.
    kind: String,
}

impl Conversion {
    /// The webhook of a definition, if it has one.
    pub fn of(definition: &Value) -> Option<Self> {
        let conversion = &definition["spec"]["conversion"];
        let webhook = &conversion["webhook"];
        let reviews = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let group = text(&definition["spec"]["group"]);
        (conversion["strategy"] == "Webhook").then(|| Self {
            config: webhook["clientConfig"].clone(),
            reviews: reviews.map(text).collect(),
            kind: format!("{group}/{}", text(&definition["spec"]["names"]["kind"])),
        })
    }

    /// Converts `objects` to `api_version`; those that have it already stay.
    ///
    /// # Errors
    /// 500 when the webhook cannot be asked or refuses.
    pub async fn convert(
        &self,
        server: &Shared,
        api_version: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let due: Vec<usize> =
            (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != api_version).collect();
        if due.is_empty() {
            return Ok(objects);
        }
        let sent: Vec<Value> = due.iter().map(|at| objects[*at].clone()).collect();
        let failed = |why: &str| {
            let kind = &self.kind;
            Status::internal(format!("conversion webhook for {kind} failed: {why}"))
        };
        let converted = self.ask(server, api_version, &sent).await.map_err(|why| failed(&why))?;
        for (at, mut object) in due.into_iter().zip(converted) {
            restore(&objects[at], &mut object, api_version).map_err(|why| failed(&why))?;
            objects[at] = object;
        }
        Ok(objects)
    }

    async fn ask(
        &self,
        server: &Shared,
        api_version: &str,
        objects: &[Value],
    ) -> Result<Vec<Value>, String> {
        let version = match self.reviews.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1")) {
            Some(version) => version.as_str(),
            None => return Err("no supported conversion review versions".to_owned()),
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": { "uid": uid, "desiredAPIVersion": api_version, "objects": objects },
        });
        let mut answer = webhook::call(server, &self.config, &review, PATIENCE).await?;
        let response = &mut answer["response"];
        if !response.is_object() {
            return Err("webhook returned no response".to_owned());
        }
        if version == "v1" && response["uid"] != *uid {
            return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
        }
        if response["result"]["status"] != "Success" {
            let why = response["result"]["message"].as_str().unwrap_or_default();
            return Err(why.to_owned());
        }
        let converted = match response["convertedObjects"].take() {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        if converted.len() != objects.len() {
            return Err(format!(
                "webhook returned {} objects, expected {}",
                converted.len(),
                objects.len()
            ));
        }
        Ok(converted)
    }
}

/// Checks a converted object and gives it back the metadata that a conversion cannot change.
fn restore(original: &Value, object: &mut Value, api_version: &str) -> Result<(), String> {
    if object["apiVersion"] != api_version || object["kind"] != original["kind"] {
        return Err(format!(
            "webhook returned an object of {} {}, expected {api_version} {}",
            object["apiVersion"], object["kind"], original["kind"]
        ));
    }
    let given = object["metadata"].take();
    for field in ["name", "namespace", "uid"] {
        let same = given.get(field).unwrap_or(&Value::Null)
            == original["metadata"].get(field).unwrap_or(&Value::Null);
        if !same {
            return Err(format!("webhook changed metadata.{field}"));
        }
    }
    let mut metadata = original["metadata"].clone();
    if let Some(metadata) = metadata.as_object_mut() {
        for field in ["labels", "annotations"] {
            match given.get(field).filter(|map| map.as_object().is_some_and(|m| !m.is_empty())) {
                Some(value) => metadata.insert(field.to_owned(), value.clone()),
                None => metadata.remove(field),
            };
        }
    }
    object["metadata"] = metadata;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_may_change_labels_and_annotations_alone() {
        let original = json!({"apiVersion": "a/v1", "kind": "K",
            "metadata": {"name": "n", "uid": "u", "labels": {"x": "y"}, "resourceVersion": "5"}});
        let mut object = json!({"apiVersion": "a/v2", "kind": "K",
            "metadata": {"name": "n", "uid": "u", "annotations": {"a": "b"}}});
        restore(&original, &mut object, "a/v2").unwrap();
        let wanted =
            json!({"name": "n", "uid": "u", "annotations": {"a": "b"}, "resourceVersion": "5"});
        assert_eq!(object["metadata"], wanted);
        object["metadata"]["uid"] = json!("other");
        assert!(restore(&original, &mut object, "a/v2").is_err());
        assert!(restore(&original, &mut json!({"kind": "K"}), "a/v2").is_err());
    }
}
