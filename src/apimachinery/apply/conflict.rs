//! Why an apply is refused, in upstream's words.

use std::collections::BTreeMap;

use super::element::PathElement;
use super::managers::{ManagerId, Operation};
use super::set::path_text;
use crate::Status;
use crate::quote::go_quote;
use crate::status::StatusCause;

/// A field that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// Its owner.
    pub manager: ManagerId,
    /// The field.
    pub path: Vec<PathElement>,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is not for this object or has fields that nobody can apply.
    #[error("{0}")]
    BadRequest(String),
    /// Others own fields that it changes; sorted by manager.
    #[error("{}", conflict_message(.0))]
    Conflict(Vec<Conflict>),
    /// The configuration or the object does not fit the schema, which upstream reports as a
    /// failure of its own.
    #[error("{0}")]
    Internal(String),
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Status {
        let message = error.to_string();
        match error {
            ApplyError::BadRequest(_) => Status::bad_request(message),
            ApplyError::Internal(_) => Status::failure(500, "", message),
            ApplyError::Conflict(conflicts) => {
                let mut status = Status::failure(409, "Conflict", message);
                let cause = |conflict: Conflict| StatusCause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", manager_text(&conflict.manager)),
                    field: path_text(&conflict.path),
                };
                status.details.causes = conflicts.into_iter().map(cause).collect();
                status
            }
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            manager_text(&conflict.manager),
            path_text(&conflict.path)
        );
    }
    let mut by_manager: BTreeMap<&ManagerId, Vec<&Conflict>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(conflict);
    }
    let mut lines = Vec::new();
    for (manager, conflicts) in by_manager {
        lines.push(format!("conflicts with {}:", manager_text(manager)));
        lines.extend(conflicts.iter().map(|c| format!("- {}", path_text(&c.path))));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// `"kubectl" with subresource "status" using apps/v1`.
fn manager_text(id: &ManagerId) -> String {
    let mut text = go_quote(&id.manager);
    if !id.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", go_quote(&id.subresource)));
    }
    if id.operation == Operation::Update {
        text.push_str(&format!(" using {}", id.api_version));
    }
    text
}
