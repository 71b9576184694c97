//! How long it takes until the node is ready: the first time, and with what was there before.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    knarr::launch,
    report::{Goal, Row},
    support::Cluster,
    target::{Target, get},
    watch::Watch,
};

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Starts a server twice.
pub fn measure(_: Option<&Target>) -> Vec<Row> {
    let mut cluster = Cluster::stopped();
    let begin = Instant::now();
    let target = launch(&mut cluster);
    let event = Watch::with_all(&target, NODES).until("the node", |event| ready(&event.object));
    let first = event.at - begin;

    cluster.stop_server();
    let (begin, stopped) = (Instant::now(), Timestamp::now());
    let target = launch(&mut cluster);
    // The stored node still says that it is ready; only a lease shows that it lives again.
    let leases = Watch::with_all(&target, LEASES);
    let event = leases.until("the node's lease", |event| renewed(&event.object) > Some(stopped));
    assert!(ready(&get(&mut target.dial(), &format!("{NODES}/node"))), "the node is not ready");
    let again = event.at - begin;
    vec![
        Row::new("first start to node Ready", "s", Goal::AtMost(1.0), first.as_secs_f64()),
        Row::new("restart to node Ready", "s", Goal::AtMost(1.0), again.as_secs_f64()),
    ]
}

fn ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn renewed(lease: &Value) -> Option<Timestamp> {
    lease["spec"]["renewTime"].as_str()?.parse().ok()
}
