//! What a worker says of its pod, and when.

use std::{sync::Arc, time::Duration};

use apimachinery::Object;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Stage, WRITE_RETRY, Worker};
use crate::{
    pods::{view::PodView, write},
    requests,
    status::{conditions::condition, finish::reportable, generate},
};

/// How long a status may wait that says nothing that anybody waits for.
const UNHURRIED: Duration = Duration::from_millis(150);

impl Worker {
    pub(super) fn generate(&mut self, pod: &Pod, view: &PodView, terminal: bool) {
        let evicted = self
            .eviction
            .as_ref()
            .filter(|eviction| !eviction.reason.is_empty())
            .map(|eviction| (eviction.reason.as_str(), eviction.message.as_str()));
        let extra: Vec<PodCondition> = self
            .eviction
            .iter()
            .filter_map(|eviction| eviction.disruption.as_deref())
            .map(|message| {
                condition(pod, "DisruptionTarget", true, "TerminationByKubelet", message)
            })
            .chain(self.resizing.conditions())
            .collect();
        let status = generate::status(&generate::Input {
            pod,
            view,
            old: &self.status,
            reasons: &self.reasons,
            probes: self.probes.verdicts(),
            host_ips: &self.shared.config.node_ips,
            terminal,
            evicted,
            extra: &extra,
            pod_resources: Some(self.resources_in_force(pod)),
        });
        self.status = status;
    }

    /// Writes the status if the API server has another one. Answers when, if it has to wait.
    pub(super) fn report(&mut self, pod: &Pod, may_run: bool) -> Option<Instant> {
        if self.gone || self.writing {
            return None;
        }
        let status =
            if may_run { reportable(pod, &self.status, true) } else { self.status.clone() };
        let Some(patch) = write::patch(&self.object, &status) else {
            self.write_after = None;
            return None;
        };
        if self.last_patch.as_ref() == Some(&patch) && self.write_after.is_none() {
            // The server took it and still has something else: it knows better.
            return None;
        }
        let now = Instant::now();
        if self.unhurried(pod, &status, &patch) && self.write_after.is_none() {
            self.write_after = Some(now + UNHURRIED);
        }
        if let Some(after) = self.write_after.filter(|after| *after > now)
            && self.unhurried(pod, &status, &patch)
        {
            return Some(after);
        }
        self.write_after = None;
        self.writing = true;
        self.last_patch = Some(patch.clone());
        write::write(&self.shared, &self.mailbox, &self.object, patch);
        None
    }

    /// Whether a status is likely to be overtaken by the next one within moments: a pod that is just
    /// being set up, or just being stopped.
    fn unhurried(&self, pod: &Pod, status: &PodStatus, patch: &serde_json::Value) -> bool {
        let waits_plainly = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
            status.state.as_ref().and_then(|s| s.waiting.as_ref()).is_some_and(|waiting| {
                matches!(waiting.reason.as_deref(), Some("ContainerCreating" | "PodInitializing"))
            })
        };
        let new = pod.status.as_ref().is_none_or(|s| s.start_time.is_none());
        let setting_up = new
            && status.container_statuses.iter().flatten().all(waits_plainly)
            && status.init_container_statuses.iter().flatten().all(waits_plainly);
        let stopping = matches!(self.stage, Stage::Terminating { .. })
            && patch["status"].get("phase").is_none();
        setting_up || stopping
    }

    pub(super) fn written(&mut self, written: Result<Arc<Object>, requests::Error>) {
        match written {
            Ok(object) => {
                if object.revision > self.object.revision {
                    self.object = object;
                }
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {
                // Gone, or another pod of that name; the watch will say so.
                debug!(pod = %self.object.key, %error, "status not written");
                self.write_after = Some(Instant::now() + WRITE_RETRY);
                self.last_patch = None;
            }
            Err(error) => {
                warn!(pod = %self.object.key, %error, "status not written");
                self.write_after = Some(Instant::now() + WRITE_RETRY);
                self.last_patch = None;
            }
        }
    }
}
