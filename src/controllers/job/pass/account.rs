//! How pods that ended come into the status: a pod is first noted by UID in
//! `status.uncountedTerminatedPods`, then loses its finalizer, and only then is counted. Whatever is
//! interrupted, no pod is lost or counted twice.

use std::{collections::HashSet, sync::Arc};

use apimachinery::Object;
use k8s_openapi::api::batch::v1::UncountedTerminatedPods;

use super::{
    super::{
        condition,
        pods::{JobPod, by_index},
        policy::{consequence, is_failed},
    },
    Pass, failed,
};
use crate::pod::Phase;

/// UIDs noted in the status at a time, so that it stays small.
const MOST_UNCOUNTED: usize = 500;

impl Pass {
    /// Notes in the status what ended. Returns the pods that may lose their finalizer then, and
    /// whether that is all of them.
    pub(in super::super) fn account(&mut self) -> (Vec<Arc<Object>>, bool) {
        self.status.active = some(self.active);
        self.status.ready = Some(self.ready);
        self.status.terminating = Some(self.terminating);
        let waiting = self.pods.iter().filter(|pod| self.waits(pod));
        let waiting: HashSet<Box<str>> = waiting.map(|pod| pod.object.uid.clone()).collect();
        self.settle(&waiting);
        let mut pods = std::mem::take(&mut self.pods);
        pods.sort_by(by_index);
        let (mut releasing, mut indexes) = (Vec::new(), 0);
        let mut noted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let mut all = true;
        let failing = self.finished.as_ref().is_some_and(|one| one.type_ != condition::SUCCESS);
        for pod in pods.iter().filter(|pod| self.waits(pod)) {
            let failed = is_failed(pod, &self.job);
            if !self.may_release(pod, failed) {
                continue;
            }
            releasing.push(pod.object.clone());
            let uid = pod.object.uid.to_string();
            let index = self.valid_index(pod);
            if pod.facts.phase == Phase::Succeeded && !self.noted_failed.contains(&uid) {
                if self.indexed() {
                    // An index that is noted as succeeded is not counted again.
                    indexes += usize::from(index.is_some_and(|index| !self.before.has(index)));
                } else if !self.noted_succeeded.contains(&uid) {
                    noted.succeeded.get_or_insert_default().push(uid);
                }
            } else if (failed || failing)
                && !self.noted_failed.contains(&uid)
                && (!self.indexed() || index.is_some())
                && consequence(&self.job, pod).counts()
            {
                noted.failed.get_or_insert_default().push(uid);
            }
            let length = |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, Vec::len);
            if indexes + length(&noted.succeeded) + length(&noted.failed) >= MOST_UNCOUNTED {
                all = false;
                break;
            }
        }
        self.pods = pods;
        self.status.uncounted_terminated_pods = Some(noted);
        if self.indexed() {
            let succeeded = &self.succeeded_indexes;
            self.status.succeeded = some(succeeded.total());
            self.status.completed_indexes =
                Some(succeeded.to_string()).filter(|text| !text.is_empty());
            self.status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        self.announce();
        (releasing, all)
    }

    /// Says in the status how the Job will end, before it has.
    fn announce(&mut self) {
        let Some(interim) = self.finished.clone() else { return };
        let conditions = self.status.conditions.get_or_insert_default();
        if interim.type_ == condition::FAILURE {
            self.finished = Some(failed(&interim, self.now));
            condition::set(conditions, interim);
        } else if interim.type_ == condition::SUCCESS {
            let (reason, message) = (interim.reason.as_deref(), interim.message.as_deref());
            let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
            self.finished = Some(condition::new(condition::COMPLETE, reason, message, self.now));
            if !conditions.iter().any(|one| one.type_ == condition::SUCCESS && one.status == "True")
            {
                conditions.push(interim);
            }
        }
    }

    fn may_release(&self, pod: &JobPod, failed: bool) -> bool {
        if self.deleting() || self.finished.is_some() || pod.facts.phase == Phase::Succeeded {
            return true;
        }
        let delayed = pod.index.and_then(|index| self.delayed.get(&index));
        failed && delayed.is_none_or(|delayed| delayed.object.uid != pod.object.uid)
    }

    /// Counts the noted pods that have no finalizer any more: all but those `waiting`.
    pub(in super::super) fn settle(&mut self, waiting: &HashSet<Box<str>>) {
        let count = |uids: &mut Option<Vec<String>>, total: &mut Option<i32>| {
            let Some(list) = uids else { return };
            let before = list.len();
            list.retain(|uid| waiting.contains(uid.as_str()));
            let settled = i32::try_from(before - list.len()).unwrap_or(i32::MAX);
            *total = some(total.unwrap_or(0) + settled);
            if list.is_empty() {
                *uids = None;
            }
        };
        let noted: &mut UncountedTerminatedPods =
            self.status.uncounted_terminated_pods.get_or_insert_default();
        count(&mut noted.succeeded, &mut self.status.succeeded);
        count(&mut noted.failed, &mut self.status.failed);
    }

    /// Says in the status that the Job is over, once every pod is counted and gone. Returns whether
    /// it is.
    pub(in super::super) fn finish(&mut self) -> bool {
        let Some(finished) = self.finished.clone() else { return false };
        let noted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let uncounted = [noted.succeeded, noted.failed].into_iter().flatten().flatten().count();
        if uncounted > 0 || self.terminating > 0 {
            return false;
        }
        if finished.type_ == condition::COMPLETE {
            self.status.completion_time.clone_from(&finished.last_transition_time);
        }
        condition::set(self.status.conditions.get_or_insert_default(), finished);
        true
    }
}

/// Zero is left out, as upstream's JSON leaves it out.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{super::pods::tests::pod, tests::pass},
        *,
    };

    #[test]
    fn pods_are_noted_then_released_then_counted() {
        let pods = vec![pod("a", "Succeeded", None, 1), pod("b", "Failed", None, 1)];
        let mut pass = pass(json!({}), json!({}), pods);
        assert_eq!((pass.succeeded, pass.failed), (1, 1));
        let (releasing, all) = pass.account();
        assert_eq!((releasing.len(), all), (2, true));
        let noted = pass.status.uncounted_terminated_pods.clone().unwrap();
        assert_eq!(noted.succeeded, Some(vec!["a".to_owned()]));
        assert_eq!((pass.status.succeeded, pass.status.failed), (None, None));
        pass.settle(&HashSet::from(["b".into()]));
        assert_eq!((pass.status.succeeded, pass.status.failed), (Some(1), None));
        assert!(!pass.finish());
    }
}
