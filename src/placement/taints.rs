//! Which taints of a node a pod tolerates.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether the toleration covers the taint. An empty key or effect stands for all of them.
///
/// The operators `Lt` and `Gt` cover nothing: in v1.37 they belong to the feature
/// TaintTolerationComparisonOperators, which is alpha and off.
pub fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    fn text(given: &Option<String>) -> &str {
        given.as_deref().unwrap_or_default()
    }
    let any_or = |given: &Option<String>, own: &str| text(given).is_empty() || text(given) == own;
    any_or(&toleration.effect, &taint.effect)
        && any_or(&toleration.key, &taint.key)
        && match text(&toleration.operator) {
            "" | "Equal" => text(&toleration.value) == text(&taint.value),
            "Exists" => true,
            _ => false,
        }
}

/// Whether any of the tolerations covers the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// The first taint with one of `effects` that no toleration covers.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerates(tolerations, taint))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn taint(value: &str) -> Taint {
        Taint {
            key: "k".to_owned(),
            value: Some(value.to_owned()),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }
    }

    fn check(toleration: Value) -> bool {
        covers(&serde_json::from_value(toleration).unwrap(), &taint("5"))
    }

    #[test]
    fn a_toleration_covers_by_key_value_and_effect() {
        assert!(check(json!({"key": "k", "value": "5"})));
        assert!(check(json!({"key": "k", "operator": "Equal", "value": "5"})));
        assert!(check(json!({"key": "k", "operator": "Exists"})));
        assert!(check(json!({"operator": "Exists"})));
        assert!(check(json!({"key": "k", "value": "5", "effect": "NoSchedule"})));
        assert!(!check(json!({"key": "k", "value": "6"})));
        assert!(!check(json!({"key": "l", "operator": "Exists"})));
        assert!(!check(json!({"operator": "Exists", "effect": "NoExecute"})));
    }

    #[test]
    fn comparisons_cover_nothing() {
        assert!(!check(json!({"key": "k", "operator": "Lt", "value": "9"})));
        assert!(!check(json!({"key": "k", "operator": "Gt", "value": "1"})));
    }

    #[test]
    fn only_taints_with_the_given_effects_have_to_be_tolerated() {
        let taints = [taint("5"), Taint { effect: "NoExecute".to_owned(), ..taint("6") }];
        let found = |effects: &[&str]| {
            untolerated(&taints, &[], effects).map(|taint| taint.effect.as_str())
        };
        assert_eq!(found(&["PreferNoSchedule"]), None);
        assert_eq!(found(&["NoExecute"]), Some("NoExecute"));
        assert_eq!(found(&["NoSchedule", "NoExecute"]), Some("NoSchedule"));
        let all = Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() };
        assert_eq!(untolerated(&taints, &[all], &["NoSchedule", "NoExecute"]), None);
    }
}
