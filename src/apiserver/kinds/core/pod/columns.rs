//! How `kubectl get pods` shows a Pod.

use serde_json::Value;

use crate::kinds::{
    columns::{age, name, or, since},
    value::Fields as _,
};

/// What `cells` looks at.
pub(super) const PATHS: &[&str] = &[
    "metadata.name",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "spec.containers.name",
    "spec.initContainers.name",
    "spec.initContainers.restartPolicy",
    "spec.readinessGates",
    "spec.nodeName",
    "status",
];

/// Restarts and when the last one was.
#[derive(Default)]
struct Restarts {
    count: i64,
    /// RFC 3339, so that the later one is the greater text.
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.int("restartCount").unwrap_or_default();
        let ended = status["lastState"]["terminated"].text("finishedAt");
        if ended > self.last.as_str() {
            ended.clone_into(&mut self.last);
        }
    }
}

pub(super) fn cells(pod: &Value) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let sidecar = |name: &str| {
        let init = spec.list("initContainers").iter().find(|c| c.text("name") == name);
        init.is_some_and(|container| container.text("restartPolicy") == "Always")
    };
    let sidecars =
        spec.list("initContainers").iter().filter(|c| c.text("restartPolicy") == "Always");
    let total = spec.list("containers").len() + sidecars.count();
    let mut ready = 0;
    let mut reason = match status.text("reason") {
        "" => status.text("phase").to_owned(),
        reason => reason.to_owned(),
    };
    let gated = |condition: &Value| {
        condition.text("type") == "PodScheduled" && condition.text("reason") == "SchedulingGated"
    };
    if status.list("conditions").iter().any(gated) {
        "SchedulingGated".clone_into(&mut reason);
    }

    let mut restarts = Restarts::default();
    let mut of_sidecars = Restarts::default();
    let mut initializing = false;
    for (at, container) in status.list("initContainerStatuses").iter().enumerate() {
        restarts.add(container);
        let sidecar = sidecar(container.text("name"));
        if sidecar {
            of_sidecars.add(container);
        }
        let state = &container["state"];
        let succeeded = |ended: &Value| ended.int("exitCode").unwrap_or_default() == 0;
        if state.sub("terminated").is_some_and(succeeded) {
            continue;
        }
        if sidecar && container.on("started") {
            ready += usize::from(container.on("ready"));
            continue;
        }
        let waiting = state["waiting"].text("reason");
        reason = if let Some(ended) = state.sub("terminated") {
            format!("Init:{}", ended_reason(ended))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{at}/{}", spec.list("initContainers").len())
        };
        initializing = true;
        break;
    }

    let condition = |kind: &str| {
        let mut all = status.list("conditions").iter();
        all.any(|condition| condition.text("type") == kind && condition.text("status") == "True")
    };
    if !initializing || condition("Initialized") {
        restarts = of_sidecars;
        let mut running = false;
        let mut failed = String::new();
        for container in status.list("containerStatuses").iter().rev() {
            restarts.add(container);
            let state = &container["state"];
            let waiting = state["waiting"].text("reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut reason);
            } else if let Some(ended) = state.sub("terminated") {
                reason = ended_reason(ended);
                if ended.int("exitCode").unwrap_or_default() != 0 {
                    failed.clone_from(&reason);
                }
            } else if container.on("ready") && state.has("running") {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" {
            if running && condition("Ready") {
                "Running".clone_into(&mut reason);
            } else if !failed.is_empty() {
                reason = failed;
            } else if running {
                "NotReady".clone_into(&mut reason);
            }
        }
    }
    if pod["metadata"].has("deletionTimestamp") {
        if status.text("reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(status.text("phase"), "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut reason);
        }
    }
    let restarts = match (restarts.count, restarts.last.as_str()) {
        (0, _) => "0".to_owned(),
        (count, "") => count.to_string(),
        (count, last) => format!("{count} ({} ago)", since(last)),
    };
    let ip = status.list("podIPs").first().map(|ip| ip.text("ip")).unwrap_or_default();
    let gates = spec.list("readinessGates");
    let open = gates.iter().filter(|gate| condition(gate.text("conditionType"))).count();
    let gates =
        if gates.is_empty() { "<none>".to_owned() } else { format!("{open}/{}", gates.len()) };
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.into(),
        age(pod),
        or(ip, "<none>"),
        or(spec.text("nodeName"), "<none>"),
        or(status.text("nominatedNodeName"), "<none>"),
        gates.into(),
    ]
}

/// `Error`, `Signal:9`, `ExitCode:3`.
fn ended_reason(ended: &Value) -> String {
    match (ended.text("reason"), ended.int("signal").unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", ended.int("exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(spec: Value, status: Value) -> String {
        let cells = cells(&json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
        let text = |at: usize| cells[at].as_str().unwrap().to_owned();
        format!("{} {} {}", text(1), text(2), text(3))
    }

    #[test]
    fn a_pods_status_is_summed_up_as_upstream_does() {
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(status(two.clone(), json!({"phase": "Pending"})), "0/2 Pending 0");
        let running =
            json!({"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}}});
        let crash = json!({"name": "b", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(
            status(two.clone(), json!({"phase": "Running", "containerStatuses": [running, crash]})),
            "1/2 CrashLoopBackOff 5"
        );
        let done =
            json!({"name": "b", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
        assert_eq!(
            status(two.clone(), json!({"phase": "Running", "containerStatuses": [running, done]})),
            "1/2 NotReady 1"
        );
        let killed = json!({"name": "b", "state": {"terminated": {"signal": 9, "exitCode": 137}}});
        assert_eq!(
            status(two, json!({"phase": "Failed", "containerStatuses": [killed]})),
            "0/2 Signal:9 0"
        );
        let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
        assert_eq!(
            status(
                init,
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]})
            ),
            "0/1 Init:0/1 0"
        );
    }
}
