//! A machine of its own for a cluster: a network namespace for the node and one for a client
//! outside, joined by a veth pair.

use std::sync::atomic::{AtomicU16, Ordering};

use super::command::run;

/// The node's address on the wire.
pub const NODE: &str = "192.0.2.1";
/// The outside client's address on the wire.
pub const OUTSIDE: &str = "192.0.2.2";

/// Two joined namespaces; gone when dropped.
pub struct Network {
    pub node: String,
    pub outside: String,
}

impl Network {
    /// Makes the namespaces.
    pub fn new() -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{count}", std::process::id());
        let network = Self { node: format!("knarr-n{id}"), outside: format!("knarr-o{id}") };
        for name in [&network.node, &network.outside] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let (node, outside) = (network.node.as_str(), network.outside.as_str());
        ip(&[
            "-n", node, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
            outside,
        ]);
        for (name, address) in [(node, NODE), (outside, OUTSIDE)] {
            ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        ip(&["-n", node, "route", "add", "default", "via", OUTSIDE]);
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.node, &self.outside] {
            let deleted = run("ip", &["netns", "del", name]);
            if !std::thread::panicking() {
                deleted.stdout();
            }
        }
    }
}

fn ip(arguments: &[&str]) {
    run("ip", arguments).stdout();
}
