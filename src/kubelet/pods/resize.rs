//! Resources of pods that change while they run (KEP-1287). What a pod wants is granted first, or
//! put off, and then brought about: by cgroups, or by a restart where the container asks for one.
//! Everything else in the kubelet sees a pod with the resources that were granted.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use apimachinery::quantity::{Format, Quantity};
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use runtime::{PodResources, Resources, Sandbox};
use serde::{Deserialize, Serialize};

use super::view::PodView;
use crate::{
    podspec::{PodExt, is_sidecar},
    resources::{
        amount,
        cgroups::{container_resources, milli_cpu},
        pod_limits, pod_requests, to_api,
    },
};

/// The file in a pod's folder that a later kubelet learns all this from.
const FILE: &str = "resources.json";

/// What a pod may use, as this node has granted it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Allocation {
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, ResourceRequirements>,
}

fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers().iter().chain(pod.containers())
}

impl Allocation {
    /// What the pod's specification asks for.
    pub(super) fn of(pod: &Pod) -> Self {
        let of = |c: &Container| (c.name.clone(), c.resources.clone().unwrap_or_default());
        Self {
            pod: pod.spec_or_empty().resources.clone(),
            containers: all_containers(pod).map(of).collect(),
        }
    }

    /// What a pod runs with that nobody has resized yet, or else what it asks for.
    pub(super) fn running(pod: &Pod, view: &PodView) -> Self {
        let mut allocation = Self::of(pod);
        for (name, resources) in &mut allocation.containers {
            if let Some(actual) = view.newest(name).and_then(|it| it.resources.clone()) {
                *resources = actual;
            }
        }
        allocation
    }

    /// Gives a pod the resources that it was granted.
    pub(super) fn apply(&self, pod: &mut Pod) {
        let Some(spec) = &mut pod.spec else { return };
        spec.resources = self.pod.clone();
        let lists = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        for container in lists {
            if let Some(resources) = self.containers.get(&container.name) {
                container.resources = Some(resources.clone());
            }
        }
    }
}

/// What was granted and what is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub(super) allocation: Allocation,
    /// Of containers that were resized since their start, by container id.
    pub(super) resized: BTreeMap<String, ResourceRequirements>,
    /// Of the pod's cgroup, if it was changed.
    pub(super) cgroup: Option<PodResources>,
    /// Of the pod as a whole, where it sets them.
    pub(super) level: Option<ResourceRequirements>,
}

impl Record {
    /// Of a pod that nobody has resized.
    pub(super) fn new(allocation: Allocation) -> Self {
        Self { level: allocation.pod.clone(), allocation, ..Self::default() }
    }

    fn path(pod_dir: &Path) -> PathBuf {
        pod_dir.join(FILE)
    }

    /// What an earlier kubelet wrote; nothing for a pod that was never resized.
    pub(super) fn read(pod_dir: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(pod_dir)).ok()?;
        let read = serde_json::from_slice(&text);
        read.inspect_err(|error| tracing::warn!(%error, "record of resources not read")).ok()
    }

    pub(super) fn write(&self, pod_dir: &Path) -> io::Result<()> {
        let path = Self::path(pod_dir);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }
}

/// A container whose cgroup is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Update {
    pub(super) id: String,
    name: String,
    from: Resources,
    to: Resources,
    /// What is in force afterwards.
    pub(super) resources: ResourceRequirements,
}

/// What has to be done to give containers what they were granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Containers that have to be started anew.
    pub(super) restarts: Vec<String>,
    pub(super) updates: Vec<Update>,
}

/// Compares what was granted with what is in force; `level` is what is in force for the pod as a
/// whole.
pub(super) fn plan(pod: &Pod, level: Option<&ResourceRequirements>, view: &PodView) -> Plan {
    let mut plan = Plan::default();
    let mut pod_before = None;
    if pod.spec_or_empty().resources.as_ref() != level {
        let mut before = pod.clone();
        before.spec.get_or_insert_default().resources = level.cloned();
        pod_before = Some(before);
    }
    let pod_before = pod_before.as_ref().unwrap_or(pod);
    let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
    for container in pod.containers().iter().chain(sidecars) {
        let Some(it) = view.newest(&container.name).filter(|it| it.running()) else { continue };
        let Some(actual) = &it.resources else { continue };
        let granted = container.resources.clone().unwrap_or_default();
        let changed = changed(actual, &granted);
        let before = Container { resources: Some(actual.clone()), ..container.clone() };
        let from = container_resources(pod_before, &before);
        let to = container_resources(pod, container);
        // Without limits of its own a container has those of the pod.
        if changed.is_empty() && from == to {
            continue;
        }
        let restarts = container.resize_policy.iter().flatten().any(|policy| {
            policy.restart_policy == "RestartContainer"
                && changed.contains(&policy.resource_name.as_str())
        });
        if restarts {
            plan.restarts.push(container.name.clone());
            continue;
        }
        plan.updates.push(Update {
            id: it.id.clone(),
            name: container.name.clone(),
            from,
            to,
            resources: granted,
        });
    }
    plan
}

/// Which of CPU and memory two sets of resources differ in.
fn changed(a: &ResourceRequirements, b: &ResourceRequirements) -> Vec<&'static str> {
    let differs = |name: &&'static str| {
        let same = |get: fn(&ResourceRequirements) -> Option<&List>| {
            amount(get(a), name) == amount(get(b), name)
        };
        !(same(|r| r.requests.as_ref()) && same(|r| r.limits.as_ref()))
    };
    ["cpu", "memory"].into_iter().filter(differs).collect()
}

type List = BTreeMap<String, ApiQuantity>;

/// Changes the cgroups of a pod from `from` to `to` and those of its containers, so that at no time
/// a container's limit is above its pod's: cgroup v1 refuses that.
pub(super) async fn actuate(
    sandbox: &Sandbox,
    from: &PodResources,
    to: &PodResources,
    updates: &[Update],
) -> Result<(), String> {
    check_memory(sandbox, from, to, updates).await?;
    let text = |error: runtime::Error| error.to_string();
    type Part = (fn(&Resources) -> Resources, fn(&Resources) -> Option<i64>);
    let memory: Part = (
        |r| Resources {
            memory_limit: r.memory_limit,
            memory_swap_limit: r.memory_swap_limit,
            ..Resources::default()
        },
        |r| r.memory_limit,
    );
    let cpu: Part = (
        |r| Resources {
            cpu_shares: r.cpu_shares,
            cpu_quota: r.cpu_quota,
            cpu_period: r.cpu_period,
            ..Resources::default()
        },
        |r| r.cpu_quota,
    );
    for (part, limit) in [memory, cpu] {
        let grows = above(limit(to), limit(from));
        if part(to) != part(from) && grows {
            sandbox.update(part(to)).await.map_err(text)?;
        }
        let mut changing: Vec<&Update> =
            updates.iter().filter(|u| part(&u.from) != part(&u.to)).collect();
        // Those that give something back come first.
        changing.sort_by_key(|u| above(limit(&u.to), limit(&u.from)));
        for update in changing {
            sandbox.update_container(&update.id, part(&update.to)).await.map_err(text)?;
        }
        if part(to) != part(from) && !grows {
            sandbox.update(part(to)).await.map_err(text)?;
        }
    }
    Ok(())
}

/// The resources of a pod as a whole: those of its cgroup, if it has one, or what it was granted.
pub(super) fn in_force(pod: &Pod, cgroup: Option<&PodResources>) -> ResourceRequirements {
    let mut resources = pod.spec_or_empty().resources.clone().unwrap_or_default();
    let Some(cgroup) = cgroup else {
        resources.requests = Some(to_api(&pod_requests(pod)));
        resources.limits = Some(to_api(&pod_limits(pod)));
        return resources;
    };
    let set = |list: &mut Option<List>, name: &str, amount: Option<Quantity>| {
        if let Some(amount) = amount {
            let amount = ApiQuantity(amount.to_string());
            list.get_or_insert_default().insert(name.to_owned(), amount);
        }
    };
    let cpu_request = cgroup.cpu_shares.and_then(milli_cpu).map(Quantity::from_milli);
    set(&mut resources.requests, "cpu", cpu_request);
    let memory_request = pod_requests(pod).get("memory").copied();
    let memory_request = memory_request
        .filter(|_| resources.requests.as_ref().is_none_or(|list| !list.contains_key("memory")));
    set(&mut resources.requests, "memory", memory_request);
    let period = cgroup.cpu_period.and_then(|period| i64::try_from(period).ok()).unwrap_or(0);
    let cpu_limit = cgroup.cpu_quota.filter(|_| period > 0).map(|quota| quota * 1000 / period);
    set(&mut resources.limits, "cpu", cpu_limit.map(Quantity::from_milli));
    let memory_limit = cgroup.memory_limit.map(|limit| Quantity::new(limit, Format::BinarySi));
    set(&mut resources.limits, "memory", memory_limit);
    resources
}

/// Whether the pod's cgroup has to be changed.
pub(super) fn differs(from: &PodResources, to: &PodResources) -> bool {
    let of = |r: &PodResources| (r.memory_limit, r.cpu_shares, r.cpu_quota);
    of(from) != of(to)
}

/// Whether a pod gets more of something that is limited.
pub(super) fn grows(from: &PodResources, to: &PodResources) -> bool {
    above(to.memory_limit, from.memory_limit) || above(to.cpu_quota, from.cpu_quota)
}

/// Whether one limit is above another; nothing is above no limit.
fn above(a: Option<i64>, b: Option<i64>) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

/// A limit below what is in use would end processes, so it is not set.
async fn check_memory(
    sandbox: &Sandbox,
    from: &PodResources,
    to: &PodResources,
    updates: &[Update],
) -> Result<(), String> {
    let falls =
        |from: Option<i64>, to: Option<i64>| above(from, to) || from.is_none() && to.is_some();
    let pod = to.memory_limit.filter(|_| falls(from.memory_limit, to.memory_limit));
    let containers: Vec<(&Update, i64)> = updates
        .iter()
        .filter(|u| falls(u.from.memory_limit, u.to.memory_limit))
        .filter_map(|u| Some((u, u.to.memory_limit?)))
        .collect();
    if pod.is_none() && containers.is_empty() {
        return Ok(());
    }
    let stats = sandbox.stats().await.map_err(|error| error.to_string())?;
    let mut errors = Vec::new();
    if let Some(limit) = pod.filter(|limit| stats.cgroup.memory_usage >= limit.unsigned_abs()) {
        let usage = stats.cgroup.memory_usage;
        errors.push(format!(
            "attempting to set pod memory limit ({limit}) below current usage ({usage})"
        ));
    }
    for (update, limit) in containers {
        let usage = stats.containers.iter().find(|c| c.id == update.id);
        let usage = usage.map_or(0, |c| c.cgroup.memory_usage);
        if usage >= limit.unsigned_abs() {
            let name = &update.name;
            errors.push(format!(
                "attempting to set container {name:?} memory limit ({limit}) below current usage \
                 ({usage})"
            ));
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
    }
}

/// The message of an event about a resize: what happens, and the resources as JSON.
pub(super) fn message(what: &str, pod: &Pod, generation: i64, error: &str) -> String {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<Named<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<Named<'a>>,
        generation: i64,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'a str,
    }
    fn named(list: &[Container]) -> Vec<Named<'_>> {
        let of = |c: &Container| c.resources.clone().unwrap_or_default();
        list.iter().map(|c| Named { name: &c.name, resources: of(c) }).collect()
    }
    let summary = Summary {
        init_containers: named(pod.init_containers()),
        containers: named(pod.containers()),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(json) => format!("{what}: {json}"),
        Err(_) => what.to_owned(),
    }
}

/// Why a resize has to wait: what is asked for, what others hold and what there is.
pub(super) fn lacking(name: &str, want: i64, held: i64, have: i64) -> String {
    format!(
        "Node didn't have enough resource: {name}, requested: {want}, used: {held}, capacity: {have}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::view::ContainerView;

    fn pod(cpu: &str, memory: &str, policy: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{
            "name": "c",
            "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}},
            "resizePolicy": [
                {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "memory", "restartPolicy": policy},
            ],
        }]}}))
        .unwrap()
    }

    fn view(resources: &Pod) -> PodView {
        let it = ContainerView {
            id: "i".to_owned(),
            name: "c".to_owned(),
            resources: resources.containers()[0].resources.clone(),
            ..ContainerView::default()
        };
        PodView { containers: vec![it], ..PodView::default() }
    }

    #[test]
    fn what_differs_is_changed_in_place_or_by_a_restart() {
        let small = pod("100m", "64Mi", "RestartContainer");
        let plan = |pod: &Pod, view: &PodView| plan(pod, None, view);
        assert_eq!(plan(&small, &view(&small)), Plan::default());
        // Equal amounts in other words are no change.
        assert_eq!(
            plan(&pod("0.1", "65536Ki", "RestartContainer"), &view(&small)),
            Plan::default()
        );
        let faster = plan(&pod("200m", "64Mi", "RestartContainer"), &view(&small));
        assert_eq!((faster.restarts.len(), faster.updates.len()), (0, 1));
        assert_eq!(faster.updates[0].to.cpu_quota, Some(20_000));
        let larger = plan(&pod("200m", "128Mi", "RestartContainer"), &view(&small));
        assert_eq!((larger.restarts, larger.updates.len()), (vec!["c".to_owned()], 0));
        let larger = plan(&pod("200m", "128Mi", "NotRequired"), &view(&small));
        assert_eq!(
            (larger.restarts.len(), larger.updates[0].to.memory_limit),
            (0, Some(128 << 20))
        );
    }

    #[test]
    fn pods_are_seen_with_what_they_were_granted() {
        let granted = Allocation::of(&pod("100m", "64Mi", "NotRequired"));
        let mut wanted = pod("200m", "64Mi", "NotRequired");
        assert_ne!(Allocation::of(&wanted), granted);
        granted.apply(&mut wanted);
        assert_eq!(wanted, pod("100m", "64Mi", "NotRequired"));
    }

    #[test]
    fn the_cgroup_tells_what_is_in_force() {
        let pod = pod("100m", "64Mi", "NotRequired");
        let resources = |cpu: &str, memory: &str| -> ResourceRequirements {
            serde_json::from_value(json!({"requests": {"cpu": cpu, "memory": "64Mi"},
                "limits": {"cpu": cpu, "memory": memory}}))
            .unwrap()
        };
        assert_eq!(in_force(&pod, None), resources("100m", "64Mi"));
        let cgroup = PodResources {
            cpu_shares: Some(51),
            cpu_quota: Some(5000),
            cpu_period: Some(100_000),
            memory_limit: Some(32 << 20),
            ..PodResources::default()
        };
        assert_eq!(in_force(&pod, Some(&cgroup)), resources("50m", "32Mi"));
        let unlimited = PodResources { cpu_shares: Some(2), ..PodResources::default() };
        let requests = json!({"requests": {"memory": "64Mi"}});
        let requests: ResourceRequirements = serde_json::from_value(requests).unwrap();
        assert_eq!(in_force(&pod, Some(&unlimited)), requests);
    }

    #[test]
    fn events_tell_the_resources() {
        let text = message("Pod resize started", &pod("1", "1Gi", "NotRequired"), 2, "");
        let expected = r#"Pod resize started: {"containers":[{"name":"c","resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1","memory":"1Gi"}}}],"generation":2}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn records_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()), None);
        let record = Record {
            allocation: Allocation::of(&pod("1", "1Gi", "NotRequired")),
            ..Record::default()
        };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(record));
    }
}
