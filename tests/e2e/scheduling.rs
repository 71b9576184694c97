//! Where pods go, and what happens where there is no room.

use serde_json::json;

use crate::support::{LONG, Shared, eventually};

static SHARED: Shared = Shared::with_node();

#[test]
fn a_pod_that_fits_nowhere_waits_and_says_why() {
    let space = SHARED.space("unschedulable");
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  nodeSelector: {disk: golden}
  containers:
  - {name: c, image: "knarr.demo/backend:v1", command: ["true"]}
"#;
    space.apply(pod);
    let reason = "/status/conditions/0/reason";
    let pod = space.until("pod/p", reason, |reason| *reason == "Unschedulable");
    let message = pod["status"]["conditions"][0]["message"].as_str().unwrap();
    let expected = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    assert!(message.starts_with(expected), "{message}");
    space.cluster.kubectl(&["label", "node", "node", "disk=golden"]).stdout();
    eventually("the pod to be placed", LONG, || match space.get(&["pod", "p"])["spec"]["nodeName"]
        .as_str()
    {
        Some(node) => Ok(node.to_owned()),
        None => Err("not yet".to_owned()),
    });
    space.cluster.kubectl(&["label", "node", "node", "disk-"]).stdout();
}

#[test]
fn a_more_important_pod_takes_the_place_of_a_less_important_one() {
    let space = SHARED.space("preemption");
    let capacity = json!({"status": {"capacity": {"knarr.demo/seat": "1"}}}).to_string();
    let patch = ["patch", "node", "node", "--subresource=status", "-p", &capacity];
    space.cluster.kubectl(&patch).stdout();
    let sitting = |name: &str, class: &str| {
        space.apply(&format!(
            r#"
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {{name: {class}}}
value: {}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  priorityClassName: {class}
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'trap exit TERM; sleep 1d & wait']
    resources: {{limits: {{knarr.demo/seat: "1"}}}}
"#,
            if class == "important" { 1000 } else { 1 }
        ));
    };
    sitting("first", "unimportant");
    space.wait("condition=Ready", &["pod/first"]);
    sitting("second", "unimportant");
    let message = "/status/conditions/0/message";
    let pod = space.until("pod/second", message, |message| message.is_string());
    let expected = "0/1 nodes are available: 1 Insufficient knarr.demo/seat. preemption: 0/1 nodes \
                    are available: 1 No preemption victims found for incoming pod.";
    assert_eq!(pod.pointer(message).unwrap(), expected);
    sitting("third", "important");
    space.wait("condition=Ready", &["pod/third"]);
    assert_eq!(space.names(&["pods"]), ["second", "third"]);
    eventually("the event of the preemption", LONG, || {
        let selector = "--field-selector=reason=Preempted,involvedObject.name=first";
        match space.names(&["events", selector]).len() {
            1 => Ok(()),
            other => Err(format!("{other} events")),
        }
    });
}
