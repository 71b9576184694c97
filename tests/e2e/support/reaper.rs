//! Cleans up after a test process that ended without dropping what it had: it was killed, or what
//! it had was shared by its tests.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Waits for a line, which says that there is nothing to do, or for the end of the test process.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
knarr=$1 directory=$2 node=$3 outside=$4
read -r _ && exit
server=$(cat "$directory/data/lock")
kill -9 "$server"
# Until it is gone it has the lock of the data directory.
while kill -0 "$server"; do sleep 0.1; done
nsenter --net="/run/netns/$node" "$knarr" cleanup --data-dir="$directory/data" \
  --run-dir="$directory/run" --cgroup-root="/$node"
ip netns del "$node"
ip netns del "$outside"
rm -rf "$directory"
"#;

/// Stands by a cluster from its start.
pub struct Reaper(Child);

impl Reaper {
    /// Stands by what is in `directory` and two network namespaces.
    pub fn new(knarr: &Path, directory: &Path, node: &str, outside: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "reaper"])
            .args([knarr, directory, Path::new(node), Path::new(outside)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Says that all has been cleaned up.
    pub fn dismiss(&mut self) {
        let mut stdin = self.0.stdin.take().unwrap();
        let _ = stdin.write_all(b"\n");
        drop(stdin);
        let _ = self.0.wait();
    }
}
