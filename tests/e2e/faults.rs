//! What a server does when the machine fails it.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::support::{Cluster, Finished, Options, eventually, run};

/// A filesystem of a few megabytes at a folder; gone when dropped.
struct SmallDisk(String);

impl SmallDisk {
    fn at(folder: &Path, megabytes: u32) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let folder = folder.display().to_string();
        let size = format!("size={megabytes}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "none", &folder]).stdout();
        Self(folder)
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        run("mount", &["-o", &options, &self.0]).stdout();
    }

    /// Writes zeros until there is no room left.
    fn fill(&self) -> std::path::PathBuf {
        use std::io::Write;
        let path = Path::new(&self.0).join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let zeros = vec![0; 1 << 16];
        while file.write_all(&zeros).is_ok() {}
        while file.write_all(&zeros[..512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0]);
    }
}

/// A second server with flags of its own beside that of `cluster`.
fn another_server(cluster: &Cluster, flags: &[&str]) -> Finished {
    let program = Cluster::program();
    let mut all = vec!["server", "--log=error"];
    all.extend(flags);
    cluster.on_node(program.to_str().unwrap(), &all)
}

fn one_line(said: &str) {
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

fn config_map(name: &str, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{text: {text}}}\n")
}

#[test]
fn on_a_full_disk_writes_are_refused_reads_go_on_and_room_is_all_it_takes_to_recover() {
    let mut cluster = Cluster::stopped_with(Options { without_node: true, ..Options::default() });
    let disk = SmallDisk::at(&cluster.data(), 16);
    cluster.launch();
    cluster.apply(&config_map("before", 10));
    let ballast = disk.fill();
    let refused = eventually("a write to be refused", Duration::from_secs(30), || {
        let big = config_map("big", 500_000);
        match cluster.kubectl_with(&["create", "-f", "-"], &big).result() {
            Err(refused) => Ok(refused),
            Ok(created) => {
                cluster.kubectl(&["delete", "configmap", "big"]);
                Err(created)
            }
        }
    });
    assert!(refused.contains("the disk is full"), "{refused}");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big2"},"data":{"text":"TEXT"}}"#;
    let body = body.replace("TEXT", &"x".repeat(500_000));
    let file = cluster.folder().join("body.json");
    std::fs::write(&file, body).unwrap();
    let data = format!("@{}", file.display());
    let json = ["-H", "Content-Type: application/json", "--data-binary", &data];
    let (code, status) = cluster.request("POST", "/api/v1/namespaces/default/configmaps", &json);
    assert_eq!(code, 500, "{status}");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["reason"], "InternalError");
    cluster.kubectl(&["get", "configmap", "before"]).stdout();
    assert!(cluster.log().contains("the disk is full"), "{}", cluster.log());

    std::fs::remove_file(ballast).unwrap();
    eventually("writes to be taken again", Duration::from_secs(30), || {
        cluster.kubectl_with(&["create", "-f", "-"], &config_map("after", 500_000)).result()
    });
    // What was refused never happened.
    cluster.kubectl(&["get", "configmap", "big2"]).refused();
    cluster.kill_server();
    cluster.launch();
    cluster.kubectl(&["get", "configmap", "before", "after"]).stdout();
    drop(cluster);
    drop(disk);
}

#[test]
fn a_full_disk_at_the_start_is_said_in_one_line() {
    let cluster = Cluster::stopped_with(Options { without_node: true, ..Options::default() });
    let disk = SmallDisk::at(&cluster.data(), 1);
    disk.fill();
    let flags = cluster.server_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = another_server(&cluster, &flags).refused();
    one_line(&said);
    let data = cluster.data().display().to_string();
    assert!(said.contains("No space left on device") && said.contains(&data), "{said}");
    drop(cluster);
}

#[test]
fn a_database_that_is_none_or_has_no_room_is_named_in_one_line() {
    let mut cluster = Cluster::stopped_with(Options { without_node: true, ..Options::default() });
    let disk = SmallDisk::at(&cluster.data(), 16);
    cluster.launch();
    cluster.stop_server();
    let flags = cluster.server_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let database = cluster.data().join("server/db/state.db");

    let ballast = disk.fill();
    let said = another_server(&cluster, &flags).refused();
    let full =
        format!("knarr: cannot open the store at {}: the disk is full\n", database.display());
    assert_eq!(said, full);
    std::fs::remove_file(ballast).unwrap();
    cluster.launch();
    cluster.stop_server();

    std::fs::write(&database, "nonsense").unwrap();
    let said = another_server(&cluster, &flags).refused();
    one_line(&said);
    let database = format!("cannot open the store at {}: ", database.display());
    assert!(said.contains(&database) && said.contains("not a database"), "{said}");
    drop(cluster);
}

#[test]
fn a_read_only_data_directory_is_said_in_one_line() {
    let cluster = Cluster::stopped_with(Options { without_node: true, ..Options::default() });
    let disk = SmallDisk::at(&cluster.data(), 16);
    disk.remount("ro");
    let flags = cluster.server_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let said = another_server(&cluster, &flags).refused();
    one_line(&said);
    let data = cluster.data().display().to_string();
    assert!(said.contains("Read-only file system") && said.contains(&data), "{said}");
    drop(cluster);
}

#[test]
fn a_taken_port_is_said_in_one_line_with_its_holder() {
    let cluster = Cluster::control_plane();
    let other = cluster.folder().join("other");
    let data = format!("--data-dir={}", other.display());
    let run = format!("--run-dir={}", other.join("run").display());
    let kubeconfig = format!("--write-kubeconfig={}", other.join("kubeconfig").display());
    let said = another_server(&cluster, &["--disable-agent", &data, &run, &kubeconfig]).refused();
    one_line(&said);
    let pid = format!("(pid {})", cluster.pid());
    for part in ["port 6443 for the API server is taken by", &pid, "--https-listen-port"] {
        assert!(said.contains(part), "{said}");
    }
}

/// Runs a server as on a kernel that refuses a system call, and answers what it says.
fn server_without(call: &serde_json::Value) -> String {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call] });
    let profile = serde_json::from_value(profile).unwrap();
    let filter = linux::seccomp::compile(&profile, linux::capability::Set::ALL).unwrap();
    let cluster = Cluster::stopped();
    let flags = cluster.server_flags();
    std::thread::scope(|scope| {
        // A filter is a thread's and goes on to the programs that it starts.
        let filtered = scope.spawn(|| {
            linux::seccomp::install(&filter).unwrap();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            another_server(&cluster, &flags).refused()
        });
        filtered.join().unwrap()
    })
}

#[test]
fn a_kernel_without_overlayfs_is_said_in_one_line() {
    let no_such_filesystem = 19;
    let call =
        json!({ "names": ["fsopen"], "action": "SCMP_ACT_ERRNO", "errnoRet": no_such_filesystem });
    let said = server_without(&call);
    one_line(&said);
    assert!(said.starts_with("knarr: overlayfs: the kernel does not have it; modprobe"), "{said}");
}

#[test]
fn a_kernel_without_nf_tables_is_said_in_one_line() {
    let (family, netlink, protocol, netfilter) = (0, 16, 2, 12);
    let is =
        |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let call = json!({
        "names": ["socket"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 93, // EPROTONOSUPPORT
        "args": [is(family, netlink), is(protocol, netfilter)],
    });
    let said = server_without(&call);
    one_line(&said);
    for part in ["knarr: nf_tables: does not take the table of services", "modprobe nf_tables"] {
        assert!(said.contains(part), "{said}");
    }
}
