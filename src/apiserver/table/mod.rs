//! Tables: the columns that `kubectl get` shows, computed by the server.

use apimachinery::Status;
use serde_json::{Value, json};

use crate::{
    kinds::Column,
    registry::{answer::partial_value, convert, resource::Endpoint},
};

/// What of the object goes with each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    Nothing,
}

impl Include {
    /// Reads the `includeObject` parameter.
    ///
    /// # Errors
    /// 400 for a value that does not exist.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::Nothing),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                 must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The columns of a kind that says nothing about them.
static PLAIN: [Column; 2] = [
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
        description: "Name must be unique within a namespace.",
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
        description: "CreationTimestamp is a timestamp representing the server time when this \
                      object was created.",
    },
];

/// A table of `objects` (storage version).
pub fn table(
    endpoint: &Endpoint,
    objects: Vec<Value>,
    include: Include,
    metadata: Value,
    meta_version: &str,
) -> Value {
    let resource = &endpoint.resource;
    let columns = resource.hooks.columns();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = if columns.is_empty() {
                vec![
                    object["metadata"]["name"].clone(),
                    object["metadata"]["creationTimestamp"].clone(),
                ]
            } else {
                resource.hooks.cells(&object)
            };
            let object = match include {
                Include::Metadata => partial_value(&object, meta_version),
                Include::Object => convert::from_storage(endpoint, object).unwrap_or_default(),
                Include::Nothing => Value::Null,
            };
            json!({ "cells": cells, "object": object })
        })
        .collect();
    let columns = if columns.is_empty() { &PLAIN[..] } else { columns };
    json!({
        "kind": "Table", "apiVersion": meta_version, "metadata": metadata,
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<_>>(), "rows": rows,
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// The table that stands for a bookmark: one row with the bookmark's metadata.
pub fn bookmark(object: &Value, meta_version: &str) -> Value {
    json!({
        "kind": "Table", "apiVersion": meta_version, "metadata": {}, "columnDefinitions": null,
        "rows": [{ "cells": [], "object": partial_value(object, meta_version) }],
    })
}
