//! Knarr as it is measured: a server with a node, in a network namespace of its own.

use std::time::{Duration, Instant};

use crate::{kubeconfig, support::Cluster, target::Target};

/// The image that pods are made of: busybox, imported when the server starts.
const IMAGE: &str = "knarr.demo/backend:v1";
/// How closely a start is watched before the API can be.
const LOOK: Duration = Duration::from_millis(1);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A running server.
pub struct Knarr {
    pub cluster: Cluster,
    pub target: Target,
}

impl Knarr {
    /// Starts a server with a node; returns when the node is ready.
    pub fn start() -> Self {
        let cluster = Cluster::start();
        let target = target(&cluster).unwrap();
        Self { cluster, target }
    }
}

/// The running server of `cluster`, once there is a kubeconfig.
fn target(cluster: &Cluster) -> Result<Target, String> {
    Ok(Target {
        endpoint: kubeconfig::read(&cluster.kubeconfig())?,
        namespace: Some(cluster.namespace()),
        pids: vec![cluster.pid()],
        image: Some(IMAGE.to_owned()),
    })
}

/// Starts the server of `cluster` and returns when its API takes connections.
pub fn launch(cluster: &mut Cluster) -> Target {
    cluster.spawn();
    let begin = Instant::now();
    loop {
        // The kubeconfig may be half written, the port not bound yet.
        let reached = target(cluster).and_then(|target| match target.try_dial() {
            Ok(_) => Ok(target),
            Err(error) => Err(error.to_string()),
        });
        match reached {
            Ok(target) => return target,
            Err(error) => assert!(begin.elapsed() < START, "{error}; {}", cluster.log()),
        }
        std::thread::sleep(LOOK);
    }
}
