//! What survives kill -9.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{Cluster, eventually, run};

/// Acknowledged writes after which the server is killed: early, and while many come in.
const MOMENTS: [usize; 4] = [3, 40, 130, 150];

#[test]
fn every_acknowledged_write_is_there_after_kill_9_under_load() {
    let mut cluster = Cluster::control_plane();
    let acknowledged = Mutex::new(Vec::new());
    for (round, moment) in MOMENTS.into_iter().enumerate() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (cluster, stop, acknowledged) = (&cluster, &stop, &acknowledged);
                scope.spawn(move || {
                    for count in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let name = format!("r{round}-w{writer}-{count}");
                        let body = format!(
                            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#
                        );
                        let arguments = ["-H", "Content-Type: application/json", "-d", &body];
                        let path = "/api/v1/namespaces/default/configmaps";
                        if cluster.request("POST", path, &arguments).0 == 201 {
                            acknowledged.lock().unwrap().push(name);
                        }
                    }
                });
            }
            eventually("writes to be acknowledged", Duration::from_secs(60), || {
                let count = acknowledged.lock().unwrap().len();
                if count >= moment { Ok(()) } else { Err(count.to_string()) }
            });
            run("kill", &["-9", &cluster.pid().to_string()]).stdout();
            stop.store(true, Ordering::Relaxed);
        });
        cluster.kill_server();
        cluster.launch();
    }
    let names = cluster.kubectl(&["get", "configmaps", "-o", "name"]).stdout();
    let there: std::collections::HashSet<&str> =
        names.lines().filter_map(|name| name.strip_prefix("configmap/")).collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
}
