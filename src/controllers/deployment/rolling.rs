//! The arithmetic of a rolling update: how large each ReplicaSet may be now. Pure functions over
//! sizes, after upstream's `rolling.go` and `deployment_util.go`.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::revision;
use crate::counts::{Round, scaled};

/// `spec.replicas` of the Deployment.
pub(super) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// `spec.replicas` of a ReplicaSet.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(0)
}

/// Available pods of a ReplicaSet.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Whether pods are replaced step by step, as opposed to all at once.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("Recreate")
}

/// How many pods there may be beyond the desired number.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { bounds(deployment).0 } else { 0 }
}

/// How many pods may be missing.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    match desired(deployment) {
        0 => 0,
        _ if !is_rolling(deployment) => 0,
        desired => bounds(deployment).1.min(desired),
    }
}

/// Surge (rounded up) and unavailability (rounded down); one of them is at least 1, or nothing
/// could ever move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    let desired = desired(deployment);
    let rolling =
        deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let resolve =
        |value: Option<&IntOrString>, round| value.map_or(0, |value| scaled(value, desired, round));
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Round::Up);
    let unavailable =
        resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// The size that the new ReplicaSet may grow (or must shrink) to now.
pub(super) fn new_size(deployment: &Deployment, all: &[ReplicaSet], new: i32) -> i32 {
    let desired = desired(deployment);
    if !is_rolling(deployment) || new >= desired {
        return desired;
    }
    let most = desired.saturating_add(max_surge(deployment));
    let now: i32 = all.iter().map(size).sum();
    if now >= most { new } else { new + (most - now).min(desired - new) }
}

/// How many pods each of `old` (ordered by age) can lose now: first those that are not available
/// anyway, then available ones as far as the minimum allows.
pub(super) fn shrink_old(
    deployment: &Deployment,
    all: &[ReplicaSet],
    new: &ReplicaSet,
    old: &[&ReplicaSet],
) -> Vec<i32> {
    let least = desired(deployment) - max_unavailable(deployment);
    let total: i32 = all.iter().map(size).sum();
    let new_unavailable = (size(new) - available(new)).max(0);
    let mut sizes: Vec<i32> = old.iter().map(|set| size(set)).collect();
    let mut budget = total - least - new_unavailable;
    if budget <= 0 {
        return sizes;
    }
    for (set, size) in old.iter().zip(&mut sizes) {
        let unavailable = (*size - available(set)).clamp(0, budget);
        *size -= unavailable;
        budget -= unavailable;
    }
    let mut surplus = all.iter().map(available).sum::<i32>() - least;
    for size in &mut sizes {
        let taken = (*size).min(surplus).max(0);
        *size -= taken;
        surplus -= taken;
    }
    sizes
}

/// Sizes after the Deployment was scaled in the middle of a rollout: each ReplicaSet in `active`
/// keeps its share, so that the risk stays spread (proportional scaling).
pub(super) fn proportional(deployment: &Deployment, active: &[&ReplicaSet]) -> Vec<i32> {
    let desired = desired(deployment);
    let allowed = if desired > 0 { desired + max_surge(deployment) } else { 0 };
    let total: i32 = active.iter().map(|set| size(set)).sum();
    let mut sizes: Vec<i32> = active.iter().map(|set| size(set)).collect();
    let change = allowed - total;
    if change == 0 || active.is_empty() {
        return sizes;
    }
    // The largest first; among equals the newest when growing, the oldest when shrinking.
    let mut order: Vec<usize> = (0..active.len()).collect();
    order.sort_by(|a, b| {
        let by_age = revision::by_age(active[*a], active[*b]);
        size(active[*b]).cmp(&size(active[*a])).then(if change > 0 {
            by_age.reverse()
        } else {
            by_age
        })
    });
    let mut spent = 0;
    for at in &order {
        let share = share(active[*at], allowed, desired);
        let left = change - spent;
        let share = if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        sizes[*at] += share;
        spent += share;
    }
    let first = order[0];
    sizes[first] = (sizes[first] + change - spent).max(0);
    sizes
}

fn share(set: &ReplicaSet, allowed: i32, desired: i32) -> i32 {
    if desired == 0 {
        return -size(set);
    }
    let before = revision::noted_maximum(set).filter(|before| *before > 0).unwrap_or(allowed);
    let exact = f64::from(size(set)) * f64::from(allowed) / f64::from(before);
    exact.round() as i32 - size(set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
        .unwrap()
    }

    fn set(size: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "s"},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "availableReplicas": available}}))
        .unwrap()
    }

    #[test]
    fn surge_rounds_up_and_unavailability_down() {
        let quarter = deployment(10, "25%", "25%");
        assert_eq!((max_surge(&quarter), max_unavailable(&quarter)), (3, 2));
        let none = deployment(1, "0%", "0%");
        assert_eq!((max_surge(&none), max_unavailable(&none)), (0, 1));
    }

    #[test]
    fn a_rollout_never_exceeds_its_bounds() {
        let deployment = deployment(10, "30%", "20%");
        let (mut old, mut new) = (set(10, 10), set(0, 0));
        for _ in 0..20 {
            let all = [old.clone(), new.clone()];
            let grown = new_size(&deployment, &all, size(&new));
            new = set(grown, available(&new));
            let all = [old.clone(), new.clone()];
            assert!(size(&old) + size(&new) <= 13);
            let shrunk = shrink_old(&deployment, &all, &new, &[&old])[0];
            old = set(shrunk, shrunk.min(available(&old)));
            assert!(available(&old) + available(&new) >= 8);
            // The new pods become available one by one.
            new = set(size(&new), (available(&new) + 1).min(size(&new)));
        }
        assert_eq!((size(&old), size(&new)), (0, 10));
    }

    #[test]
    fn pods_that_never_became_available_go_first() {
        let deployment = deployment(4, "0%", "50%");
        let (broken, good, new) = (set(2, 0), set(2, 2), set(0, 0));
        let all = [broken.clone(), good.clone(), new.clone()];
        assert_eq!(shrink_old(&deployment, &all, &new, &[&broken, &good]), [0, 2]);
    }

    #[test]
    fn scaling_in_the_middle_of_a_rollout_keeps_the_proportions() {
        let grown = deployment(20, "0%", "25%");
        let noted = |size| {
            let mut set = set(size, size);
            let note = [("deployment.kubernetes.io/max-replicas".to_owned(), "10".to_owned())];
            set.metadata.annotations = Some(note.into());
            set
        };
        let (a, b) = (noted(6), noted(4));
        assert_eq!(proportional(&grown, &[&a, &b]), [12, 8]);
        assert_eq!(proportional(&deployment(0, "0%", "25%"), &[&a, &b]), [0, 0]);
    }
}
