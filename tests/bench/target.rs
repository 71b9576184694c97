//! A cluster that is measured: Knarr's own, or another one beside it.

use std::{fs::File, io, net::TcpStream, path::PathBuf, time::Duration};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::{
    http::{Connection, Request},
    kubeconfig::Endpoint,
    support::eventually,
};

/// The namespace that all measured objects are in.
pub const NAMESPACE: &str = "bench";
/// How long a cluster may take to be rid of what was measured.
const CLEAR: Duration = Duration::from_secs(300);

/// Where a cluster is and what belongs to it.
pub struct Target {
    /// Its API.
    pub endpoint: Endpoint,
    /// The network namespace that it is reached from, if not this one.
    pub namespace: Option<PathBuf>,
    /// Its processes, without pods.
    pub pids: Vec<u32>,
    /// An image with a shell that its node has, if it has a node.
    pub image: Option<String>,
}

impl Target {
    /// A new connection to the API.
    pub fn dial(&self) -> Connection {
        self.try_dial().unwrap()
    }

    /// The same where the API may not be there yet.
    pub fn try_dial(&self) -> io::Result<Connection> {
        // A socket stays in the network namespace it was made in, so only a thread has to go there.
        let there = || {
            if let Some(namespace) = &self.namespace {
                setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
            }
            TcpStream::connect(&self.endpoint.authority)
        };
        let socket = std::thread::scope(|scope| scope.spawn(there).join().unwrap())?;
        Connection::new(socket, &self.endpoint)
    }

    /// The namespace for what is measured, made if it is not there, and ready for pods.
    pub fn make_namespace(&self) {
        let mut connection = self.dial();
        let body = json!({"metadata": {"name": NAMESPACE}}).to_string();
        let request = Request::new("POST", "/api/v1/namespaces").with(body.as_bytes());
        let status = connection.exchange(request, |_| ()).unwrap();
        assert!(matches!(status, 201 | 409), "the namespace was not made: {status}");
        let account = namespaced("serviceaccounts/default");
        eventually("the default service account", Duration::from_secs(30), || {
            match connection.exchange(Request::new("GET", &account), |_| ()).unwrap() {
                200 => Ok(()),
                status => Err(status.to_string()),
            }
        });
    }

    /// Deletes all objects of a resource that were made, and waits until they are gone.
    pub fn clear(&self, resource: &str) {
        let path = namespaced(resource);
        let all = format!("{path}?gracePeriodSeconds=0");
        eventually("what was measured to be gone", CLEAR, || {
            // So many take some servers longer than a request may take: what is left counts.
            let _ = self.dial().exchange(Request::new("DELETE", &all), |_| ());
            let list = get(&mut self.dial(), &format!("{path}?limit=2"));
            let left = list["items"].as_array().map_or(0, Vec::len);
            // What controllers put into each namespace comes back.
            if left <= usize::from(resource == "configmaps") { Ok(()) } else { Err("some".into()) }
        });
    }
}

/// The path of a resource of the core group in the namespace.
pub fn namespaced(resource: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{resource}")
}

/// Gets an object or a list.
pub fn get(connection: &mut Connection, path: &str) -> Value {
    let mut body = Vec::new();
    let take = |piece: &[u8]| body.extend_from_slice(piece);
    let status = connection.exchange(Request::new("GET", path), take).unwrap();
    assert_eq!(status, 200, "GET {path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}
