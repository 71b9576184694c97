//! Keeps the Node object true: registers it, writes its status when it changes, renews its lease.
//! One timer for all of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, ObjectReference};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    lease, machine,
    status::{self, Input, Pressure},
};
use crate::{images::gc::Disk, requests, shared::Shared};

/// The lease is renewed, and the machine is looked at, this often.
const TICK: Duration = Duration::from_secs(10);
/// A status that did not change is written this often nevertheless.
const REPORT: Duration = Duration::from_secs(300);

/// The keeper of the node.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    port: Option<u16>,
    pressure: Arc<Mutex<Pressures>>,
    changed: Arc<Notify>,
}

/// What presses, and since when it does not any more.
#[derive(Default)]
struct Pressures {
    now: Pressure,
    memory_until: Option<Instant>,
    disk_until: Option<Instant>,
    pid_until: Option<Instant>,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, port: Option<u16>, changed: Arc<Notify>) -> Self {
        Self { shared, port, pressure: Arc::default(), changed }
    }

    fn input(&self) -> Input<'_> {
        let now = self.pressure.lock().unwrap_or_else(PoisonError::into_inner).now;
        Input {
            config: &self.shared.config,
            machine: &self.shared.machine,
            images: self.shared.images.store().list(),
            pressure: now,
            not_ready: self
                .shared
                .network
                .not_ready()
                .map(|why| {
                    format!(
                        "container runtime network not ready: NetworkReady=false \
                         reason:NetworkPluginNotReady message:{why}"
                    )
                })
                .into_iter()
                .collect(),
            port: self.port,
            now: Timestamp::now(),
        }
    }

    fn reference(&self) -> ObjectReference {
        let name = &self.shared.config.node_name;
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.clone()),
            // Upstream's kubelet names the node by its name here too.
            uid: Some(name.clone()),
            ..ObjectReference::default()
        }
    }

    /// Works until the kubelet stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let work = async {
            self.register().await;
            let reference = self.reference();
            self.shared.recorder.normal(&reference, "Starting", "Starting kubelet.");
            self.keep().await;
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn register(&self) {
        let mut delay = Duration::from_millis(100);
        loop {
            match self.try_register().await {
                Ok(()) => return,
                Err(error) => {
                    warn!(node = self.shared.config.node_name, %error, "node not registered");
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(7));
        }
    }

    async fn try_register(&self) -> Result<(), requests::Error> {
        let failed = |error: serde_json::Error| requests::Error::Failed(error.to_string());
        let node = status::node(&self.input());
        let body = serde_json::to_value(&node).map_err(failed)?;
        let client = &self.shared.client;
        match requests::post(client, "/api/v1/nodes", &body).await {
            Ok(_) => {
                info!(node = self.shared.config.node_name, "node registered");
                return Ok(());
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        // It was registered before: only what this node says of itself is brought up to date.
        let labels = node.metadata.labels.unwrap_or_default();
        let annotations = node.metadata.annotations.unwrap_or_default();
        let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        let path = format!("/api/v1/nodes/{}", self.shared.config.node_name);
        requests::merge(client, &path, &patch).await
    }

    async fn keep(&self) {
        let mut written: Option<NodeStatus> = None;
        let mut reported = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ticked = tokio::select! {
                _ = tick.tick() => true,
                () = self.changed.notified() => false,
            };
            if ticked && let Err(error) = lease::renew(&self.shared).await {
                debug!(%error, "lease not renewed");
            }
            self.look();
            let due = reported.elapsed() >= REPORT;
            match self.report(&mut written, due).await {
                Ok(true) => reported = Instant::now(),
                Ok(false) => {}
                Err(error) => {
                    warn!(%error, "node status not written");
                    written = None;
                }
            }
        }
    }

    /// Writes the status if it is another one, or if it is time. Answers whether it did.
    async fn report(
        &self,
        written: &mut Option<NodeStatus>,
        due: bool,
    ) -> Result<bool, requests::Error> {
        let name = &self.shared.config.node_name;
        let present: Option<Node> = self.shared.node.get_as("", name);
        let before = present.as_ref().and_then(|node| node.status.clone()).unwrap_or_default();
        // Until the watch delivers it, what was written last is what is there.
        let known = written.as_ref().unwrap_or(&before);
        let conditions = known.conditions.as_deref().unwrap_or_default();
        let (mut status, transitions) = status::status(&self.input(), conditions);
        // Resources that others advertise stay, and are allocatable as far as they are there.
        for (name, amount) in before.capacity.iter().flatten().filter(|(name, _)| is_extended(name))
        {
            for own in [&mut status.capacity, &mut status.allocatable] {
                own.get_or_insert_default().entry(name.clone()).or_insert(amount.clone());
            }
        }
        let changed = !same(known, &status);
        if !changed && !due {
            return Ok(false);
        }
        let body = serde_json::to_value(&status)
            .map_err(|error| requests::Error::Failed(error.to_string()))?;
        let mut change = changes(&serde_json::to_value(known).unwrap_or_default(), body);
        if let Some(Value::Object(allocatable)) = change.get_mut("allocatable") {
            // What nobody advertises any more goes.
            for name in before.allocatable.iter().flatten().map(|(name, _)| name) {
                if is_extended(name) {
                    allocatable.entry(name.clone()).or_insert(Value::Null);
                }
            }
        }
        if let Some(Value::Array(addresses)) = change.get_mut("addresses") {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
        let path = format!("/api/v1/nodes/{name}/status");
        requests::patch(&self.shared.client, &path, &json!({"status": change})).await?;
        *written = Some(status);
        for transition in transitions {
            let message = format!("Node {name} status is now: {}", transition.reason);
            self.shared.recorder.normal(&self.reference(), transition.reason, message);
        }
        Ok(true)
    }

    /// Looks what the machine is short of.
    fn look(&self) {
        let eviction = &self.shared.config.eviction;
        let usage = machine::usage();
        let disk = Disk::at(&self.shared.config.data_dir).unwrap_or_default();
        let percent = |part: u64, whole: u64| {
            if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
        };
        let memory = usage.memory_available < eviction.memory_available;
        let space = disk.percent_available();
        let full = space < eviction.nodefs_available.min(eviction.imagefs_available)
            || percent(disk.inodes_free, disk.inodes) < eviction.nodefs_inodes_free;
        let free_threads = usage.max_threads.saturating_sub(usage.threads);
        let pid = percent(free_threads, usage.max_threads) < eviction.pid_available;
        let mut pressures = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let pressures = &mut *pressures;
        let period = eviction.pressure_transition_period;
        let now = Instant::now();
        let settle = |short: bool, until: &mut Option<Instant>| -> bool {
            if short {
                *until = Some(now + period);
            }
            until.is_some_and(|until| now < until)
        };
        pressures.now = Pressure {
            memory: settle(memory, &mut pressures.memory_until),
            disk: settle(full, &mut pressures.disk_until),
            pid: settle(pid, &mut pressures.pid_until),
        };
    }
}

/// Whether a resource is none of the node's own.
fn is_extended(name: &str) -> bool {
    name.contains('/')
}

/// Whether two statuses differ in nothing but the time of their heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        // Written by the attach-detach controller.
        status.volumes_attached = None;
        status.volumes_in_use = None;
        status
            .conditions
            .get_or_insert_default()
            .retain(|c| c.type_ == "Ready" || c.type_.ends_with("Pressure"));
        serde_json::to_value(&status).unwrap_or_default()
    };
    still(a) == still(b)
}

/// The fields of `new` that are not the same in `old`.
fn changes(old: &Value, new: Value) -> Value {
    let Value::Object(new) = new else { return new };
    let changed = new.into_iter().filter(|(field, value)| old.get(field) != Some(value)).collect();
    Value::Object(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_alone_are_no_change() {
        let status = |time: i64, ready: &str| -> NodeStatus {
            serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": ready,
                "lastHeartbeatTime": Timestamp::from_second(time).unwrap().to_string()}]}))
            .unwrap()
        };
        assert!(same(&status(1, "True"), &status(2, "True")));
        assert!(!same(&status(1, "True"), &status(1, "False")));
    }
}
