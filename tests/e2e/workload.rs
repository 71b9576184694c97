//! Workloads on a node: pods run, are reached, and come back.

use std::time::Duration;

use crate::support::{Cluster, eventually};

/// A web server that answers with its host name, behind a Service and an Ingress.
pub const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: knarr.demo/web:v1
        command: [sh, -c, 'hostname > /www/index.html; exec httpd -f -p 80 -h /www']
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

/// Starts a cluster with the web server, and waits until it is available.
pub fn with_web() -> Cluster {
    let cluster = Cluster::start();
    cluster.apply(WEB);
    let wait = ["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"];
    cluster.kubectl(&wait).stdout();
    cluster
}

/// The answer of the web server through the Ingress, seen from outside the node.
pub fn through_ingress(cluster: &Cluster) -> Result<String, String> {
    let arguments = ["-sSf", "--max-time", "5", "-H", "Host: web.example", "http://192.0.2.1/"];
    cluster.outside("curl", &arguments).result()
}

fn a_pod(cluster: &Cluster) -> String {
    let names = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).stdout();
    names.lines().next().unwrap().to_owned()
}

#[test]
fn a_deployment_is_reached_by_service_name_and_through_an_ingress() {
    let cluster = with_web();
    let pod = a_pod(&cluster);
    let answer = cluster.kubectl(&["exec", &pod, "--", "wget", "-qO-", "http://web"]).stdout();
    assert!(answer.starts_with("web-"), "{answer}");
    let answer = eventually("the Ingress", Duration::from_secs(20), || through_ingress(&cluster));
    assert!(answer.starts_with("web-"), "{answer}");
    let nowhere = cluster.outside("curl", &["-s", "--max-time", "5", "http://192.0.2.1/"]).out();
    assert!(nowhere.contains("no Ingress rule matches"), "{nowhere}");
}

#[test]
fn a_deleted_pod_is_replaced_and_its_address_serves_no_more() {
    let cluster = with_web();
    let pod = a_pod(&cluster);
    cluster.kubectl(&["delete", &pod, "--grace-period=1", "--wait=true"]).stdout();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).stdout();
    let left = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).stdout();
    assert_eq!(left.lines().count(), 2, "{left}");
    assert!(!left.contains(&pod), "{left}");
}

#[test]
fn logs_and_exit_codes_are_those_of_the_container() {
    let cluster = Cluster::start();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'echo out; echo err >&2; exit 3']
"#,
    );
    let wait = ["wait", "--for=jsonpath={.status.phase}=Failed", "pod/once", "--timeout=60s"];
    cluster.kubectl(&wait).stdout();
    let pod = cluster.get(&["pod", "once"]);
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&3.into(), &"Error".into()));
    let mut lines: Vec<String> =
        cluster.kubectl(&["logs", "once"]).stdout().lines().map(ToOwned::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
}

#[test]
fn a_daemon_set_runs_one_pod_on_the_node() {
    let cluster = Cluster::start();
    cluster.apply(
        r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: every}
spec:
  selector: {matchLabels: {app: every}}
  template:
    metadata: {labels: {app: every}}
    spec:
      containers:
      - name: c
        image: knarr.demo/backend:v1
        command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 1; done']
"#,
    );
    cluster.kubectl(&["rollout", "status", "daemonset/every", "--timeout=60s"]).stdout();
    let pods = cluster.get(&["pods", "-l", "app=every"]);
    let nodes: Vec<_> =
        pods["items"].as_array().unwrap().iter().map(|p| &p["spec"]["nodeName"]).collect();
    assert_eq!(nodes, ["node"]);
}

#[test]
fn manifests_of_the_data_directory_are_applied_and_what_they_drop_is_removed() {
    let cluster = Cluster::control_plane();
    let file = cluster.data().join("server/manifests/colours.yaml");
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    std::fs::write(&file, format!("{}---\n{}", map("sky"), map("sea"))).unwrap();
    let there = |name: &str| cluster.kubectl(&["get", "configmap", name, "-o", "name"]).result();
    eventually("both objects", Duration::from_secs(30), || there("sky").and_then(|_| there("sea")));
    std::fs::write(&file, map("sky")).unwrap();
    eventually("the dropped object to go", Duration::from_secs(30), || match there("sea") {
        Ok(name) => Err(name),
        Err(gone) => Ok(gone),
    });
    there("sky").unwrap();
}

#[test]
fn cleanup_leaves_nothing_of_the_node_behind() {
    let mut cluster = with_web();
    cluster.stop_server();
    cluster.knarr(&["cleanup"]).stdout();
    let links = cluster.on_node("ip", &["-br", "link"]).stdout();
    assert_eq!(links.lines().count(), 2, "only lo and eth0 are left: {links}");
    let data = cluster.data();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let root = data.parent().unwrap().display().to_string();
    let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&root)).collect();
    assert!(left.is_empty(), "{left:?}");
}
