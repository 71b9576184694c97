//! ServiceAccounts.

use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    value::{Fields as _, list_mut},
};

pub(crate) struct ServiceAccount;

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

impl Hooks for ServiceAccount {
    fn prepare_create(&self, _context: &Context<'_>, account: &mut Value) {
        names_only(account);
    }

    fn prepare_update(&self, _context: &Context<'_>, _old: &Value, new: &mut Value) {
        names_only(new);
    }

    fn warnings(&self, old: Option<&Value>, account: &Value) -> Vec<String> {
        let marked = |account: &Value| account["metadata"]["annotations"].has(ENFORCE);
        if marked(account) && !old.is_some_and(marked) {
            return vec![format!(
                "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to \
                 isolate access to mounted secrets"
            )];
        }
        Vec::new()
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/serviceaccounts")
    }

    fn cells(&self, account: &Value) -> Vec<Value> {
        vec![name(account), age(account)]
    }
}

/// Of a secret only the name counts: it is one of the account's namespace.
fn names_only(account: &mut Value) {
    for secret in list_mut(account, "secrets") {
        *secret = match secret.text("name") {
            "" => json!({}),
            name => json!({ "name": name }),
        };
    }
}
