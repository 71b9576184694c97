//! One cluster for all scenarios of a file, and a Kubernetes namespace for each of them.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

use super::{Background, Cluster, Finished, Options, eventually};

/// How long anything may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A cluster that the scenarios of a file share; started by the first of them, cleaned up when the
/// test process ends.
pub struct Shared {
    cluster: OnceLock<Cluster>,
    start: fn() -> Cluster,
}

impl Shared {
    /// The control plane alone.
    pub const fn control_plane() -> Self {
        Self { cluster: OnceLock::new(), start: Cluster::control_plane }
    }

    /// A cluster with a node.
    pub const fn with_node() -> Self {
        Self { cluster: OnceLock::new(), start: Cluster::start }
    }

    /// What `start` starts.
    pub const fn started_by(start: fn() -> Cluster) -> Self {
        Self { cluster: OnceLock::new(), start }
    }

    /// The cluster.
    pub fn cluster(&'static self) -> &'static Cluster {
        self.cluster.get_or_init(self.start)
    }

    /// A fresh namespace of the cluster.
    pub fn space(&'static self, name: &'static str) -> Space {
        let cluster = self.cluster();
        cluster.kubectl(&["create", "namespace", name]).stdout();
        let space = Space { cluster, name };
        // Pods are refused until it is there.
        eventually("the default service account", LONG, || {
            space.kubectl(&["get", "serviceaccount", "default"]).result()
        });
        space
    }
}

/// A namespace that one scenario has to itself; it is deleted when dropped, without waiting.
pub struct Space {
    pub cluster: &'static Cluster,
    pub name: &'static str,
}

impl Space {
    /// Runs `kubectl` in the namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.kubectl_with(arguments, "")
    }

    /// Runs `kubectl` in the namespace with `input` on stdin.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Finished {
        let mut all = vec!["-n", self.name];
        all.extend(arguments);
        self.cluster.kubectl_with(&all, input)
    }

    /// Starts `kubectl` in the namespace.
    pub fn kubectl_in_background(&self, arguments: &[&str]) -> Background {
        let mut all = vec!["-n", self.name];
        all.extend(arguments);
        self.cluster.kubectl_in_background(&all)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        self.kubectl_with(&["apply", "-f", "-"], manifest).stdout();
    }

    /// `kubectl get … -o json`.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.kubectl(&all).stdout()).unwrap()
    }

    /// `kubectl wait --for=CONDITION OBJECT…`
    pub fn wait(&self, condition: &str, objects: &[&str]) {
        let condition = format!("--for={condition}");
        let mut all = vec!["wait", condition.as_str(), "--timeout=60s"];
        all.extend(objects);
        self.kubectl(&all).stdout();
    }

    /// Waits until a field of an object, as a JSON pointer, is what `wanted` wants; returns the
    /// object.
    pub fn until(&self, object: &str, pointer: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{pointer} of {object}"), LONG, || {
            let text = self.kubectl(&["get", "-o", "json", object]).result()?;
            let found: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let field = found.pointer(pointer).unwrap_or(&Value::Null);
            if wanted(field) { Ok(found) } else { Err(found["status"].to_string()) }
        })
    }

    /// Runs a shell line in a pod's container (`POD` or `POD -c CONTAINER`); what it wrote.
    pub fn sh(&self, pod: &str, line: &str) -> Finished {
        let mut all = vec!["exec"];
        all.extend(pod.split(' '));
        all.extend(["--", "sh", "-c", line]);
        self.kubectl(&all)
    }

    /// Runs a line in a pod that makes its container end, and may be killed with it.
    pub fn sh_at_last(&self, pod: &str, line: &str) {
        if let Err(said) = self.sh(pod, line).result() {
            assert!(said.contains("exit code 137"), "{said}");
        }
    }

    /// Runs a shell line in a pod until it succeeds; what it wrote.
    pub fn sh_until(&self, pod: &str, line: &str) -> String {
        eventually(&format!("`{line}` in {pod}"), LONG, || self.sh(pod, line).result())
    }

    /// The names of objects of a resource, in order.
    pub fn names(&self, arguments: &[&str]) -> Vec<String> {
        let list = self.get(arguments);
        let items = list["items"].as_array().unwrap();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        let mut names: Vec<String> = items.iter().map(name).collect();
        names.sort();
        names
    }

    /// A request to the API below the namespace's path (`/configmaps?limit=1`).
    pub fn request(&self, method: &str, path: &str, arguments: &[&str]) -> (u16, String) {
        let path = format!("/api/v1/namespaces/{}{path}", self.name);
        self.cluster.request(method, &path, arguments)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let objects = self.kubectl(&["get", "pods,events"]).out();
            let log = self.cluster.log();
            let last: Vec<&str> = log.lines().rev().take(60).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            eprintln!("--- {}\n{objects}\n--- log of the server\n{}", self.name, last.join("\n"));
        }
        self.cluster.kubectl(&["delete", "namespace", self.name, "--wait=false"]);
    }
}
