//! On which node it hurts least.

use std::cmp::Reverse;

use super::victims::Candidate;

/// The best candidate; the first of equals.
pub(super) fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    let costs: Vec<_> = candidates.iter().map(cost).collect();
    let at = (0..costs.len()).min_by(|a, b| costs[*a].cmp(&costs[*b]))?;
    drop(costs);
    candidates.into_iter().nth(at)
}

/// Upstream's criteria in its order: violated budgets, the highest priority among the victims, the
/// sum of their priorities, their number, and how long the most important of them have been
/// running.
fn cost(candidate: &Candidate) -> impl Ord {
    let victims = &candidate.victims;
    let highest = victims.iter().map(|victim| victim.priority).max();
    // Counted from the lowest possible priority, so that more victims never cost less.
    let sum: i64 =
        victims.iter().map(|victim| i64::from(victim.priority) - i64::from(i32::MIN)).sum();
    let most_important = victims.iter().filter(|victim| Some(victim.priority) == highest);
    let first_start = most_important.map(|victim| victim.start_order()).min();
    (candidate.violations, highest, sum, victims.len(), Reverse(first_start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{node::Placed, testing::pod};

    /// A node with victims of these priorities, that started in these minutes.
    fn candidate(node: &str, violations: usize, victims: &[(i32, Option<u8>)]) -> Candidate {
        let victims = victims.iter().map(|(priority, minute)| {
            let start = minute.map(|minute| format!("2026-01-01T00:{minute:02}:00Z"));
            let victim = json!({"metadata": {"name": "v"}, "spec": {"priority": priority},
                "status": {"startTime": start}});
            Placed::new(&pod(victim), node)
        });
        Candidate { node: node.into(), victims: victims.collect(), violations }
    }

    fn best_of(candidates: Vec<Candidate>) -> String {
        best(candidates).unwrap().node.to_string()
    }

    #[test]
    fn fewer_violated_budgets_come_first() {
        let a = candidate("a", 1, &[(1, None)]);
        let b = candidate("b", 0, &[(9, None), (9, None)]);
        assert_eq!(best_of(vec![a, b]), "b");
    }

    #[test]
    fn then_a_lower_highest_priority() {
        let a = candidate("a", 0, &[(9, None)]);
        let b = candidate("b", 0, &[(8, None), (8, None), (8, None)]);
        assert_eq!(best_of(vec![a, b]), "b");
    }

    #[test]
    fn then_a_lower_sum_of_priorities() {
        let a = candidate("a", 0, &[(9, None), (8, None)]);
        let b = candidate("b", 0, &[(9, None), (7, None)]);
        assert_eq!(best_of(vec![a, b]), "b");
        let a = candidate("a", 0, &[(-5, None), (-5, None)]);
        let b = candidate("b", 0, &[(-5, None)]);
        assert_eq!(best_of(vec![a, b]), "b", "negative priorities are no gain");
    }

    #[test]
    fn then_fewer_victims() {
        let lowest = i32::MIN;
        let a = candidate("a", 0, &[(9, None), (lowest, None)]);
        let b = candidate("b", 0, &[(9, None)]);
        assert_eq!(best_of(vec![a, b]), "b");
    }

    #[test]
    fn then_a_later_start_of_the_most_important() {
        let a = candidate("a", 0, &[(9, Some(5)), (1, Some(30))]);
        let b = candidate("b", 0, &[(9, Some(6)), (1, Some(1))]);
        assert_eq!(best_of(vec![a, b]), "b");
        let a = candidate("a", 0, &[(9, Some(5)), (9, Some(30))]);
        let b = candidate("b", 0, &[(9, Some(6)), (9, Some(7))]);
        assert_eq!(best_of(vec![a, b]), "b", "the earliest of them counts");
        let a = candidate("a", 0, &[(9, Some(59))]);
        let b = candidate("b", 0, &[(9, None)]);
        assert_eq!(best_of(vec![a, b]), "b", "not started yet is latest");
    }

    #[test]
    fn then_the_first() {
        let equals = ["a", "b"].map(|name| candidate(name, 0, &[(1, Some(1))]));
        assert_eq!(best_of(equals.into()), "a");
        assert!(best(Vec::new()).is_none());
    }
}
