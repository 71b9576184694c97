//! Probes: what a container says of itself decides over traffic and restarts.

use crate::support::{LONG, Shared, eventually};

static SHARED: Shared = Shared::with_node();

#[test]
fn a_pod_gets_traffic_while_it_is_ready() {
    let space = SHARED.space("readiness");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: moody, labels: {app: moody}}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'trap exit TERM; sleep 1d & wait']
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: moody}
spec: {selector: {app: moody}, ports: [{port: 80}]}
"#,
    );
    let endpoint_is = |ready: bool| {
        let what = format!("an endpoint that is ready: {ready}");
        eventually(&what, LONG, || {
            let slices = space.get(&["endpointslices", "-l", "kubernetes.io/service-name=moody"]);
            match slices.pointer("/items/0/endpoints/0/conditions/ready") {
                Some(seen) if *seen == ready => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        });
    };
    endpoint_is(false);
    space.sh("moody", "touch /tmp/ready").stdout();
    endpoint_is(true);
    space.wait("condition=Ready", &["pod/moody"]);
    space.sh("moody", "rm /tmp/ready").stdout();
    endpoint_is(false);
    let pod = space.get(&["pod", "moody"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_container_that_is_not_alive_is_restarted() {
    let space = SHARED.space("liveness");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: frail}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'httpd -p 8080 -h /www; touch /www/alive; trap exit TERM; sleep 1d & wait']
    livenessProbe: {httpGet: {path: /alive, port: 8080}, periodSeconds: 1, failureThreshold: 1}
"#,
    );
    space.wait("condition=Ready", &["pod/frail"]);
    space.sh_at_last("frail", "rm /www/alive");
    let pod = space.until("pod/frail", "/status/containerStatuses/0/restartCount", |n| *n == 1);
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert!(last["containerID"].is_string(), "{last}");
    let reasons = ["get", "events", "--field-selector=involvedObject.name=frail", "-o"];
    let mut reasons = reasons.to_vec();
    reasons.push("jsonpath={.items[*].reason}");
    eventually("the events", LONG, || {
        let reasons = space.kubectl(&reasons).stdout();
        match reasons.contains("Unhealthy") && reasons.contains("Killing") {
            true => Ok(()),
            false => Err(reasons),
        }
    });
}

#[test]
fn a_container_may_take_a_moment_before_it_answers() {
    let space = SHARED.space("moment");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'sleep 0.3; touch /tmp/up; trap exit TERM; sleep 1d & wait']
    livenessProbe:
      exec: {command: [sh, -c, 'echo >> /tmp/asked; test -e /tmp/up']}
      periodSeconds: 1
      failureThreshold: 1
"#,
    );
    space.wait("condition=Ready", &["pod/late"]);
    space.sh_until("late", "test $(wc -l < /tmp/asked) -ge 3");
    let pod = space.get(&["pod", "late"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn other_probes_wait_for_the_startup_probe() {
    let space = SHARED.space("startup");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'trap exit TERM; sleep 1d & wait']
    startupProbe:
      exec: {command: [sh, -c, 'echo >> /tmp/asked; test -e /tmp/started']}
      periodSeconds: 1
      failureThreshold: 100
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
"#,
    );
    let status = "/status/containerStatuses/0";
    space.until("pod/slow", &format!("{status}/started"), |started| *started == false);
    // In the time of three startup probes the liveness probe would have failed.
    space.sh_until("slow", "test $(wc -l < /tmp/asked) -ge 3");
    let pod = space.get(&["pod", "slow"]);
    let seen = pod.pointer(status).unwrap();
    assert_eq!((&seen["restartCount"], &seen["ready"]), (&0.into(), &false.into()));
    space.sh_at_last("slow", "touch /tmp/started");
    space.until("pod/slow", &format!("{status}/restartCount"), |count| *count == 1);
}
