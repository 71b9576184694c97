use super::*;
use std::process::{Child, Command};

/// A cgroup of a test, removed with its processes when the test ends, however it ends.
struct Group {
    cgroups: Cgroups,
    path: String,
    children: Vec<Child>,
}

impl Group {
    fn new(cgroups: Cgroups, name: &str) -> Group {
        let path = format!("/knarr-test-{}-{name}/pod/c", std::process::id());
        Group { cgroups, path, children: Vec::new() }
    }
    fn top(&self) -> String {
        self.path.split('/').nth(1).unwrap().to_owned()
    }
    fn sleeper(&mut self) -> Pid {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as Pid;
        self.children.push(child);
        self.cgroups.join(&self.path, pid).unwrap();
        pid
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let top = self.top();
        // Reaps what the kill below ends, or the wait for it would never be over.
        let mut children = std::mem::take(&mut self.children);
        children.iter_mut().for_each(|c| drop(c.kill()));
        children.iter_mut().for_each(|c| drop(c.wait()));
        let _ = self.cgroups.kill(&top);
        let gone = self.cgroups.remove(&top);
        if !std::thread::panicking() {
            gone.unwrap();
            assert!(!self.cgroups.exists(&top));
        }
    }
}

/// The hybrid machine's v2 hierarchy, where there is one.
fn unified() -> Option<Cgroups> {
    let mounts = procfs::mounts().unwrap();
    let mount = mounts.iter().find(|m| m.fstype == "cgroup2")?;
    Some(Cgroups::v2_at(&mount.mount_point, "/"))
}

#[test]
fn limits_and_processes() {
    let cgroups = Cgroups::detect("/").unwrap();
    let mut group = Group::new(cgroups.clone(), "limits");
    let limits = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit: Some(64 << 20),
        memory_swap_limit: Some(64 << 20),
        pids_limit: Some(50),
        ..Default::default()
    };
    cgroups.create(&group.path, &limits).unwrap();
    let pid = group.sleeper();
    assert_eq!(cgroups.processes(&group.top()).unwrap(), [pid]);
    let stats = cgroups.stats(&group.path).unwrap();
    if cgroups.has("memory") {
        assert_eq!(stats.memory_limit, Some(64 << 20));
    }
    if cgroups.has("pids") {
        assert_eq!(stats.pids, 1);
    }
    // Up and down again, memory and swap together.
    for megabytes in [128, 32] {
        let bytes = Some(megabytes << 20);
        let limits =
            Resources { memory_limit: bytes, memory_swap_limit: bytes, ..Default::default() };
        cgroups.update(&group.path, &limits).unwrap();
    }
    let joined = procfs::cgroups(pid).unwrap();
    assert!(joined.iter().any(|(_, path)| *path == group.path), "{joined:?}");
    assert_eq!(cgroups.children(&group.top()).unwrap(), ["pod"]);
    assert!(cgroups.create("/a/../b", &limits).is_err());
}

#[test]
fn kill_leaves_nothing() {
    let cgroups = Cgroups::detect("/").unwrap();
    let mut group = Group::new(cgroups.clone(), "kill");
    cgroups.create(&group.path, &Resources::default()).unwrap();
    let children: Vec<Pid> = (0..5).map(|_| group.sleeper()).collect();
    let reaper = std::thread::spawn({
        let mut taken = std::mem::take(&mut group.children);
        move || taken.iter_mut().map(|c| c.wait().unwrap().success()).filter(|s| *s).count()
    });
    cgroups.kill(&group.top()).unwrap();
    assert_eq!(reaper.join().unwrap(), 0);
    assert!(cgroups.processes(&group.path).unwrap().is_empty(), "{children:?}");
}

#[test]
fn v2_create_join_freeze_kill_remove() {
    let Some(cgroups) = unified() else { return };
    let mut group = Group::new(cgroups.clone(), "v2");
    let limits = Resources {
        cpu_shares: Some(512),
        memory_limit: Some(64 << 20),
        pids_limit: Some(10),
        ..Default::default()
    };
    cgroups.create(&group.path, &limits).unwrap();
    cgroups.allow_devices(&group.path, &DeviceRule::CONTAINER_DEFAULT).unwrap();
    assert!(cgroups.handle(&group.path).unwrap().is_some());
    let pid = group.sleeper();
    cgroups.freeze(&group.path, true).unwrap();
    cgroups.freeze(&group.path, false).unwrap();
    assert_eq!(cgroups.processes(&group.path).unwrap(), [pid]);
    assert_eq!(procfs::cgroups(pid).unwrap().last().unwrap().1, group.path);
}

#[test]
fn v2_device_rules_are_enforced() {
    let Some(cgroups) = unified() else { return };
    let group = Group::new(cgroups.clone(), "dev");
    cgroups.create(&group.path, &Resources::default()).unwrap();
    let procs = {
        let Layout::V2(mount) = &cgroups.layout else { unreachable!() };
        mount.join(cgroups.below(&group.path).unwrap()).join("cgroup.procs")
    };
    let read = |device: &str| {
        let script = format!("echo 0 >{} && : <{device}", procs.display());
        Command::new("sh").args(["-c", &script]).status().unwrap().success()
    };
    assert!(read("/dev/zero") && read("/dev/kmsg"));
    cgroups.allow_devices(&group.path, &DeviceRule::CONTAINER_DEFAULT).unwrap();
    assert!(read("/dev/zero"));
    assert!(!read("/dev/kmsg"), "not in the rules");
}

#[test]
fn v1_values_become_v2_values() {
    for (shares, weight) in [(0, 1), (2, 1), (102, 17), (1024, 100), (2048, 174), (262_144, 10_000)]
    {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
    assert_eq!(v2::swap_limit(100, Some(60)), 40);
    assert_eq!(v2::swap_limit(100, Some(100)), 0);
    assert_eq!(v2::swap_limit(-1, Some(60)), -1);
    assert_eq!(v2::swap_limit(100, None), 100);
}
