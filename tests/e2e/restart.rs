//! The server goes away and comes back; pods, names and requests do not notice.

use std::time::Duration;

use crate::{
    support::{Cluster, eventually},
    workload::{through_ingress, with_web},
};

#[test]
fn kill_9_of_the_server_restarts_no_container_and_fails_no_request() {
    let mut cluster = with_web();
    eventually("the Ingress", Duration::from_secs(20), || through_ingress(&cluster));
    let containers = |cluster: &Cluster| -> Vec<(String, i64)> {
        let pods = cluster.get(&["pods", "-l", "app=web"]);
        let mut found: Vec<(String, i64)> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| {
                let status = &pod["status"]["containerStatuses"][0];
                let id = status["containerID"].as_str().unwrap_or_default().to_owned();
                (id, status["restartCount"].as_i64().unwrap_or(-1))
            })
            .collect();
        found.sort();
        found
    };
    let before = containers(&cluster);
    cluster.kill_server();
    let away: Vec<String> = (0..20).filter_map(|_| through_ingress(&cluster).err()).collect();
    assert!(away.is_empty(), "while the server is away: {away:?}");
    cluster.launch();
    let wait = ["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"];
    cluster.kubectl(&wait).stdout();
    through_ingress(&cluster).unwrap();
    assert_eq!(containers(&cluster), before);
}
