//! As many pods as a node is for.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{Cluster, LONG, eventually};

const PODS: usize = 100;

/// The folders below `root` whose name contains `part`.
fn folders(root: &Path, part: &str) -> Vec<String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().contains(part) {
            found.push(entry.path().display().to_string());
        }
        found.extend(folders(&entry.path(), part));
    }
    found
}

#[test]
fn a_hundred_pods_run_on_the_node_and_leave_nothing() {
    let cluster = Cluster::start();
    let links = || cluster.on_node("ip", &["-br", "link"]).stdout().lines().count();
    let links_before = links();
    cluster.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: many}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      containers:
      - name: c
        image: knarr.demo/backend:v1
        command: [sh, -c, 'trap exit TERM; sleep 1d & wait']
        resources: {{requests: {{cpu: 1m, memory: 1Mi}}}}
"#
    ));
    cluster.kubectl(&["rollout", "status", "deployment/many", "--timeout=180s"]).stdout();
    let pods = cluster.get(&["pods", "-l", "app=many"]);
    let pods = pods["items"].as_array().unwrap();
    let addresses: BTreeSet<&str> =
        pods.iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
    let restarts = |pod: &serde_json::Value| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(-1)
    };
    assert_eq!((pods.len(), addresses.len()), (PODS, PODS));
    assert!(pods.iter().all(|pod| pod["status"]["phase"] == "Running" && restarts(pod) == 0));
    assert_eq!(links(), links_before + PODS, "each has an interface");

    cluster.kubectl(&["delete", "deployment", "many", "--cascade=foreground"]).stdout();
    let gone = ["wait", "--for=delete", "pod", "-l", "app=many", "--timeout=120s"];
    cluster.kubectl(&gone).stdout();
    // What is left of them on the node is cleared away behind their backs.
    let uids: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["uid"].as_str().unwrap()).collect();
    eventually("nothing to be left", LONG, || {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mounts = uids.iter().filter(|uid| mounts.contains(**uid)).count();
        let cgroups = folders(Path::new("/sys/fs/cgroup"), "pod");
        let cgroups = cgroups.iter().filter(|path| uids.iter().any(|uid| path.contains(uid)));
        let files = folders(cluster.folder(), "-").into_iter();
        let files: Vec<String> =
            files.filter(|path| uids.iter().any(|uid| path.contains(uid))).collect();
        let left = (links() - links_before, mounts, cgroups.count(), files.len());
        if left == (0, 0, 0, 0) { Ok(()) } else { Err(format!("{left:?} {:?}", files.first())) }
    });
    let shims = cluster
        .on_node("pgrep", &["-fc", &format!("{}/run/program shim", cluster.folder().display())]);
    assert_eq!(shims.out().trim(), "0");
}
