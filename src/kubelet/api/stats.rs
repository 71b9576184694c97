//! Figures of the node and its pods: `/stats/summary` and `/metrics/resource`.

use std::{fmt::Write, time::SystemTime};

use jiff::Timestamp;
use runtime::{CgroupStats, Sandbox, SandboxStats, Status};
use serde_json::{Value, json};

use crate::{images::gc::Disk, node::machine, shared::Shared};

struct PodFigures {
    name: String,
    namespace: String,
    uid: String,
    stats: SandboxStats,
}

async fn pods(shared: &Shared) -> Vec<PodFigures> {
    let mut figures = Vec::new();
    for sandbox in shared.runtime.sandboxes() {
        match sandbox.stats().await {
            Ok(stats) => figures.push(PodFigures {
                name: sandbox.spec().pod_name.clone(),
                namespace: sandbox.spec().pod_namespace.clone(),
                uid: sandbox.pod_uid().to_owned(),
                stats,
            }),
            Err(error) => tracing::debug!(pod = sandbox.pod_uid(), %error, "no figures of the pod"),
        }
    }
    figures
}

fn cpu(time: &str, stats: &CgroupStats) -> Value {
    json!({"time": time, "usageCoreNanoSeconds": stats.cpu_usage_ns})
}

fn memory(time: &str, stats: &CgroupStats) -> Value {
    let mut memory = json!({
        "time": time,
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.page_faults,
        "majorPageFaults": stats.major_page_faults,
    });
    if let Some(limit) = stats.memory_limit {
        memory["availableBytes"] = json!(limit.saturating_sub(stats.memory_working_set));
    }
    memory
}

fn disk(time: &str, disk: Disk) -> Value {
    json!({
        "time": time,
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.capacity.saturating_sub(disk.available),
        "inodes": disk.inodes,
        "inodesFree": disk.inodes_free,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

/// The body of `/stats/summary`.
pub(super) async fn summary(shared: &Shared) -> Value {
    let time = apimachinery::time::format_seconds(Timestamp::now());
    let root = Disk::at(&shared.config.data_dir).unwrap_or_default();
    let pods: Vec<Value> = pods(shared)
        .await
        .into_iter()
        .map(|pod| {
            let containers: Vec<Value> = pod
                .stats
                .containers
                .iter()
                .map(|container| {
                    json!({
                        "name": container.name,
                        "cpu": cpu(&time, &container.cgroup),
                        "memory": memory(&time, &container.cgroup),
                        "rootfs": {
                            "time": time,
                            "availableBytes": root.available,
                            "capacityBytes": root.capacity,
                            "usedBytes": container.writable_layer.bytes,
                            "inodesUsed": container.writable_layer.inodes,
                        },
                    })
                })
                .collect();
            json!({
                "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "containers": containers,
                "cpu": cpu(&time, &pod.stats.cgroup),
                "memory": memory(&time, &pod.stats.cgroup),
                "process_stats": {"process_count": pod.stats.cgroup.pids},
            })
        })
        .collect();
    let usage = machine::usage();
    let images = shared.images.store().disk_usage();
    json!({
        "node": {
            "nodeName": shared.config.node_name,
            "startTime": apimachinery::time::format_seconds(shared.began),
            "cpu": {"time": time, "usageCoreNanoSeconds": usage.cpu_ns},
            "memory": {
                "time": time,
                "availableBytes": usage.memory_available,
                "usageBytes": usage.memory_used,
                "workingSetBytes": usage.memory_used,
            },
            "fs": disk(&time, root),
            "runtime": {"imageFs": {
                "time": time,
                "availableBytes": root.available,
                "capacityBytes": root.capacity,
                "usedBytes": images.bytes,
                "inodesUsed": images.inodes,
            }},
        },
        "pods": pods,
    })
}

/// The body of `/metrics`: what the kubelet says of itself.
pub(super) fn own_metrics(shared: &Shared) -> String {
    let sandboxes = shared.runtime.sandboxes();
    let containers: Vec<_> = sandboxes.iter().flat_map(Sandbox::containers).collect();
    let running = containers.iter().filter(|c| c.status == Status::Running).count();
    let exited = containers.len() - running;
    let node = &shared.config.node_name;
    format!(
        "# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n\
         # TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{node}\"}} 1\n\
         # HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n\
         # TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {}\n\
         # HELP kubelet_running_containers [ALPHA] Number of containers currently running\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {running}\n\
         kubelet_running_containers{{container_state=\"exited\"}} {exited}\n",
        sandboxes.len(),
    )
}

/// The body of `/metrics/resource`: what metrics servers read.
pub(super) async fn resource_metrics(shared: &Shared) -> String {
    let now = Timestamp::now().as_millisecond();
    let usage = machine::usage();
    let pods = pods(shared).await;
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, f64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value} {now}");
        }
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut cpu = Vec::new();
    let mut memory = Vec::new();
    let mut start = Vec::new();
    let mut pod_cpu = Vec::new();
    let mut pod_memory = Vec::new();
    for pod in &pods {
        let of_pod = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name);
        pod_cpu.push((format!("{{{of_pod}}}"), seconds(pod.stats.cgroup.cpu_usage_ns)));
        pod_memory.push((format!("{{{of_pod}}}"), pod.stats.cgroup.memory_working_set as f64));
        let sandbox = shared.runtime.sandbox(&pod.uid);
        for container in &pod.stats.containers {
            let labels = format!("{{container=\"{}\",{of_pod}}}", container.name);
            cpu.push((labels.clone(), seconds(container.cgroup.cpu_usage_ns)));
            memory.push((labels.clone(), container.cgroup.memory_working_set as f64));
            let state = sandbox.as_ref().and_then(|sandbox| sandbox.container(&container.id));
            if let Some(since) =
                state.and_then(|s| s.started_at.duration_since(SystemTime::UNIX_EPOCH).ok())
            {
                start.push((labels, since.as_secs_f64()));
            }
        }
    }
    let core = "Cumulative cpu time consumed by the";
    let set = "Current working set of the";
    metric(
        "node_cpu_usage_seconds_total",
        "counter",
        &format!("{core} node in core-seconds"),
        &[(String::new(), seconds(usage.cpu_ns))],
    );
    metric(
        "node_memory_working_set_bytes",
        "gauge",
        &format!("{set} node in bytes"),
        &[(String::new(), usage.memory_used as f64)],
    );
    metric(
        "container_cpu_usage_seconds_total",
        "counter",
        &format!("{core} container in core-seconds"),
        &cpu,
    );
    metric(
        "container_memory_working_set_bytes",
        "gauge",
        &format!("{set} container in bytes"),
        &memory,
    );
    metric(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        &start,
    );
    metric(
        "pod_cpu_usage_seconds_total",
        "counter",
        &format!("{core} pod in core-seconds"),
        &pod_cpu,
    );
    metric("pod_memory_working_set_bytes", "gauge", &format!("{set} pod in bytes"), &pod_memory);
    metric(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        &[(String::new(), 0.0)],
    );
    out
}
