//! Tables: the columns that `kubectl get` shows, computed by the server.

pub mod jsonpath;

use apimachinery::Status;
use serde_json::{Value, json};

use crate::{
    crd::PrinterColumn,
    kinds::{Column, columns},
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

/// A table of `objects`: of the stored version for built-in kinds, of the endpoint's for others.
pub fn table(
    endpoint: &Endpoint,
    objects: Vec<Value>,
    include: Include,
    metadata: Value,
    meta_version: &str,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = cells(endpoint, &object);
            json!({ "cells": cells, "object": shown(endpoint, object, include, meta_version) })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": meta_version, "metadata": metadata,
        "columnDefinitions": definitions(endpoint), "rows": rows,
    })
}

/// What goes with the row of `object`.
pub fn shown(
    endpoint: &Endpoint,
    mut object: Value,
    include: Include,
    meta_version: &str,
) -> Value {
    match include {
        Include::Metadata => partial_value(&object, meta_version),
        Include::Object => {
            if !endpoint.resource.is_custom() {
                convert::between(endpoint, &mut object);
            }
            object
        }
        Include::Nothing => Value::Null,
    }
}

fn custom_columns(endpoint: &Endpoint) -> Option<&[PrinterColumn]> {
    let definition = endpoint.resource.definition.as_ref()?;
    let version = definition.version(&endpoint.version().gvk.version)?;
    Some(&version.columns)
}

fn definitions(endpoint: &Endpoint) -> Vec<Value> {
    if let Some(columns) = custom_columns(endpoint) {
        let name = definition(&PLAIN[0]);
        return [name].into_iter().chain(columns.iter().map(|c| c.definition.clone())).collect();
    }
    match endpoint.resource.hooks.columns() {
        [] => PLAIN.iter().map(definition).collect(),
        columns => columns.iter().map(definition).collect(),
    }
}

/// The cells of the row of `object`.
pub fn cells(endpoint: &Endpoint, object: &Value) -> Vec<Value> {
    let hooks = endpoint.resource.hooks;
    let metadata = &object["metadata"];
    if let Some(columns) = custom_columns(endpoint) {
        let own = columns.iter().map(|column| cell(column, object));
        return [metadata["name"].clone()].into_iter().chain(own).collect();
    }
    if hooks.columns().is_empty() {
        return vec![metadata["name"].clone(), metadata["creationTimestamp"].clone()];
    }
    hooks.cells(object)
}

/// The cell of a custom column; null where there is nothing of its type.
fn cell(column: &PrinterColumn, object: &Value) -> Value {
    let Some(found) = jsonpath::first(&column.path, object) else { return Value::Null };
    match (&*column.kind, found) {
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64));
            whole.map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
        ("date", Value::String(time)) => columns::since(time).into(),
        _ => Value::Null,
    }
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
