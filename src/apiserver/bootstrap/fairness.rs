//! The flow schemas and priority levels that upstream ships, read from
//! `embedded/bootstrap/flowcontrol.jsonl`.

use apimachinery::Status;
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::write::{create, update};
use crate::Shared;

static TABLE: &str = include_str!("../../../embedded/bootstrap/flowcontrol.jsonl");
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

#[derive(Deserialize)]
struct Row {
    kind: String,
    name: String,
    /// Mandatory objects are always kept as they are here; suggested ones while the annotation says so.
    mandatory: bool,
    spec: Value,
}

pub(super) async fn reconcile(server: &Shared) -> Result<(), Status> {
    let rows: Result<Vec<Row>, _> = TABLE.lines().map(serde_json::from_str).collect();
    let rows = rows.map_err(Status::internal)?;
    try_join_all(rows.into_iter().map(|row| one(server, row))).await.map(drop)
}

async fn one(server: &Shared, row: Row) -> Result<(), Status> {
    let Row { kind, name, mandatory, spec } = row;
    let (resource, status) = match kind.as_str() {
        "FlowSchema" => ("flowschemas", json!({ "conditions": [condition(&spec)] })),
        _ => ("prioritylevelconfigurations", json!({})),
    };
    let object = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "generation": 1, "annotations": {UPDATE: "true"}},
        "spec": spec, "status": status,
    });
    let stored = create(server, GROUP, resource, object).await?;
    update(server, GROUP, resource, stored, |current| {
        let follow = current["metadata"]["annotations"][UPDATE] == "true";
        if current["spec"] == spec || !(mandatory || follow) {
            return false;
        }
        current["spec"] = spec.clone();
        let generation = current["metadata"]["generation"].as_i64().unwrap_or_default();
        current["metadata"]["generation"] = json!(generation + 1);
        true
    })
    .await
}

/// The level that a schema refers to exists: all of them are created together.
fn condition(spec: &Value) -> Value {
    let level = spec["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    json!({
        "type": "Dangling", "status": "False", "reason": "Found",
        "lastTransitionTime": apimachinery::time::now(),
        "message": format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_what_upstream_ships() {
        let rows: Vec<Row> =
            TABLE.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.iter().filter(|row| row.kind == "FlowSchema").count(), 11);
        assert_eq!(rows.len(), 19);
        assert_eq!(rows.iter().filter(|row| row.mandatory).count(), 4);
    }
}
