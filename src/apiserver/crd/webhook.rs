//! Conversion webhooks: another server turns objects of one version into another.

use apimachinery::Status;
use serde_json::Value;

use crate::Shared;

/// Who converts the objects of a definition.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// `spec.conversion.webhook` of the definition.
    pub webhook: Value,
    /// The definition's name, for messages.
    pub definition: String,
}

impl Conversion {
    /// The webhook of a definition, if it has one.
    pub fn of(definition: &Value) -> Option<Self> {
        let conversion = &definition["spec"]["conversion"];
        (conversion["strategy"] == "Webhook").then(|| Self {
            webhook: conversion["webhook"].clone(),
            definition: definition["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Converts `objects` to `api_version`; those that have it already stay.
    ///
    /// # Errors
    /// 500 when the webhook cannot be asked or refuses.
    pub async fn convert(
        &self,
        _server: &Shared,
        api_version: &str,
        objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        if objects.iter().all(|object| object["apiVersion"] == api_version) {
            return Ok(objects);
        }
        Err(Status::internal(format!(
            "conversion webhook for {} failed: conversion webhooks are not supported",
            self.definition
        )))
    }
}
