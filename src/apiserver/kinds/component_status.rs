//! ComponentStatuses, which are made up when they are asked for.

use serde_json::Value;

use super::{
    Column, Hooks,
    columns::{self, name},
    value::Fields as _,
};

pub(crate) struct ComponentStatus;

impl Hooks for ComponentStatus {
    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/componentstatuses")
    }

    fn cells(&self, component: &Value) -> Vec<Value> {
        let mut conditions = component.list("conditions").iter();
        let health = conditions.find(|condition| condition.text("type") == "Healthy");
        let state = match health.map(|health| health.text("status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |field: &str| health.map_or("", |health| health.text(field)).into();
        vec![name(component), state.into(), text("message"), text("error")]
    }
}
