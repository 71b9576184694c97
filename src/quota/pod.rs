//! What a whole pod asks for: upstream's `component-helpers/resource`, KEP-753 (sidecars), KEP-1287
//! (in-place resize) and KEP-2837 (resources of the pod itself).

use serde_json::Value;

use crate::amounts::{self, Amounts};

/// Where amounts are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What the spec asks for.
    Spec,
    /// The most of what is asked for, granted and in effect while a resize is under way.
    Status,
}

/// Which amounts of a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Spec,
    Allocated,
    Actuated,
}

/// The requests of a pod, overhead included.
pub fn requests(pod: &Value, view: View) -> Amounts {
    let mut total = containers(pod, view, "requests");
    if has_own(pod, &["requests"]) {
        apply_own(pod, "requests", &mut total);
    }
    amounts::add(&mut total, &amounts::read(&pod["spec"]["overhead"]));
    total
}

/// The limits of a pod, with overhead where there is a limit.
pub fn limits(pod: &Value, view: View) -> Amounts {
    let mut total = containers(pod, view, "limits");
    if has_own(pod, &["requests", "limits"]) {
        apply_own(pod, "limits", &mut total);
    }
    for (name, amount) in amounts::read(&pod["spec"]["overhead"]) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += amount;
        }
    }
    total
}

/// Whether the pod itself has requests or limits of resources that it can have.
pub fn has_own_resources(pod: &Value) -> bool {
    has_own(pod, &["requests", "limits"])
}

fn has_own(pod: &Value, lists: &[&str]) -> bool {
    lists.iter().any(|list| own(pod, list).next().is_some())
}

fn own<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let entries = pod["spec"]["resources"][list].as_object().into_iter().flatten();
    entries.filter(|(name, _)| {
        matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-")
    })
}

fn apply_own(pod: &Value, list: &str, total: &mut Amounts) {
    let mine = own(pod, list).map(|(name, amount)| (name.clone(), amount.clone())).collect();
    total.extend(amounts::read(&Value::Object(mine)));
}

fn containers(pod: &Value, view: View, list: &str) -> Amounts {
    let spec = sum(pod, Source::Spec, list, false);
    if view == View::Spec || pod["status"]["containerStatuses"].is_null() {
        return spec;
    }
    let infeasible = is_resize_infeasible(pod);
    let mut total = sum(pod, Source::Actuated, list, infeasible);
    if list == "requests" {
        amounts::raise(&mut total, &sum(pod, Source::Allocated, list, infeasible));
    }
    if !infeasible {
        amounts::raise(&mut total, &spec);
    }
    total
}

fn is_resize_infeasible(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut pending = conditions.filter(|condition| condition["type"] == "PodResizePending");
    pending.next().is_some_and(|condition| condition["reason"] == "Infeasible")
}

fn of_container(
    pod: &Value,
    container: &Value,
    source: Source,
    list: &str,
    infeasible: bool,
) -> Amounts {
    if source != Source::Spec {
        let status = ["containerStatuses", "initContainerStatuses"]
            .iter()
            .filter_map(|group| pod["status"][*group].as_array())
            .flatten()
            .find(|status| status["name"] == container["name"]);
        if let Some(status) = status {
            let actual = &status["resources"][list];
            if source == Source::Actuated && actual.is_object() {
                return amounts::read(actual);
            }
            let allocated = &status["allocatedResources"];
            if list == "requests" && allocated.is_object() {
                return amounts::read(allocated);
            }
        }
        if infeasible {
            return Amounts::new();
        }
    }
    amounts::read(&container["resources"][list])
}

/// Containers run side by side; init containers one after the other, beside the sidecars before
/// them.
fn sum(pod: &Value, source: Source, list: &str, infeasible: bool) -> Amounts {
    let all = |field: &str| pod["spec"][field].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut total = Amounts::new();
    for container in all("containers") {
        amounts::add(&mut total, &of_container(pod, container, source, list, infeasible));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in all("initContainers") {
        let mut own = of_container(pod, container, source, list, infeasible);
        if container["restartPolicy"] == "Always" {
            amounts::add(&mut total, &own);
            amounts::add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            amounts::add(&mut own, &sidecars);
        }
        amounts::raise(&mut starting, &own);
    }
    amounts::raise(&mut total, &starting);
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cpu(amount: &str) -> Value {
        json!({"requests": {"cpu": amount}, "limits": {"cpu": amount}})
    }

    #[test]
    fn init_containers_run_before_and_sidecars_beside() {
        let pod = json!({"spec": {
            "containers": [{"resources": cpu("1")}, {"resources": cpu("500m")}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": cpu("1")},
                {"resources": cpu("3")},
            ],
            "overhead": {"cpu": "100m"},
        }});
        assert_eq!(amounts::text(&requests(&pod, View::Spec)), "cpu=4100m");
        assert_eq!(amounts::text(&limits(&pod, View::Spec)), "cpu=4100m");
    }

    #[test]
    fn resources_of_the_pod_itself_count_instead() {
        let pod = json!({"spec": {
            "containers": [{"resources": cpu("1")}],
            "resources": {"requests": {"cpu": "2", "acme.com/gpu": "1"}},
        }});
        assert_eq!(amounts::text(&requests(&pod, View::Spec)), "cpu=2");
        assert_eq!(amounts::text(&limits(&pod, View::Spec)), "cpu=1");
    }

    #[test]
    fn a_resize_under_way_counts_with_its_most() {
        let pod = |reason: &str| {
            json!({
                "spec": {"containers": [{"name": "a", "resources": cpu("3")}]},
                "status": {
                    "containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "1"},
                        "resources": {"requests": {"cpu": "2"}}}],
                    "conditions": [{"type": "PodResizePending", "reason": reason}],
                },
            })
        };
        assert_eq!(amounts::text(&requests(&pod("Deferred"), View::Status)), "cpu=3");
        assert_eq!(amounts::text(&requests(&pod("Infeasible"), View::Status)), "cpu=2");
        assert_eq!(amounts::text(&requests(&pod("Infeasible"), View::Spec)), "cpu=3");
    }
}
