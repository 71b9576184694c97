//! What a container may not do, the first process and later ones alike.

use std::time::Duration;

use runtime::{
    Capabilities, ContainerSpec, Device, Resources, Rlimit, Sandbox, SandboxSpec, Seccomp, UserSpec,
};

use crate::node::{Node, in_time, log_lines, strings};

crate::tests![
    exec_has_the_filter_of_the_container,
    filters,
    capabilities,
    users,
    read_only_root,
    hidden_paths,
    limits_are_the_container_s_own,
    out_of_memory,
    devices,
    privileged,
    namespaces,
    nothing_of_the_host_is_open,
    the_program_cannot_be_overwritten,
    resource_limits_are_clamped,
];

const STATUS: &str = "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd|CapPrm|CapInh|CapAmb|Uid|Groups):' /proc/self/status";

async fn in_exec(sandbox: &Sandbox, id: &str, script: &str) -> Vec<String> {
    let argv = strings(&["/bin/sh", "-c", script]);
    let output = sandbox.exec_sync(id, argv, Duration::from_secs(20)).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Runs a script as the first process of a container and as a later one; the answers must agree.
async fn both(node: &Node, change: impl Fn(&mut ContainerSpec), script: &str) -> Vec<String> {
    let first = node.output(&change, script).await;
    let sandbox = node.sandbox().await;
    let mut spec = node.script("sleep 1000").await;
    change(&mut spec);
    let id = sandbox.start_container(spec).await.unwrap().id;
    let later = in_exec(&sandbox, &id, script).await;
    assert_eq!(first, later, "first process and exec");
    sandbox.remove().await.unwrap();
    first
}

async fn exec_has_the_filter_of_the_container(node: Node) {
    for no_new_privs in [false, true] {
        let lines = both(&node, |s| s.no_new_privs = no_new_privs, STATUS).await;
        assert!(lines.contains(&"Seccomp:\t2".to_owned()), "{lines:?}");
        let flag = format!("NoNewPrivs:\t{}", u8::from(no_new_privs));
        assert!(lines.contains(&flag), "{lines:?}");
    }
    let lines = both(&node, |s| s.seccomp = Seccomp::Unconfined, STATUS).await;
    assert!(lines.contains(&"Seccomp:\t0".to_owned()), "{lines:?}");
}

async fn filters(node: Node) {
    // unshare(2) is not in the default profile, whatever the capabilities of the file.
    let unshare = "unshare -m true 2>&1; echo $?";
    let lines = both(&node, |_| {}, unshare).await;
    assert_eq!(lines.last().unwrap(), "1", "{lines:?}");
    // With CAP_SYS_ADMIN it is.
    let admin = |s: &mut ContainerSpec| s.capabilities.add = strings(&["SYS_ADMIN"]);
    assert_eq!(both(&node, admin, unshare).await, ["0"]);
    let profile = node.dir.join("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
    std::fs::write(&profile, text).unwrap();
    let local = |s: &mut ContainerSpec| s.seccomp = Seccomp::Localhost(profile.clone());
    let lines = both(&node, local, "mkdir /tmp/x 2>&1; echo $?").await;
    assert!(lines[0].contains("Function not implemented") && lines[1] == "1", "{lines:?}");
    let sandbox = node.sandbox().await;
    let mut spec = node.script("true").await;
    spec.seccomp = Seccomp::Localhost("/nonexistent/profile.json".into());
    let error = sandbox.start_container(spec).await.unwrap_err();
    assert!(error.to_string().contains("cannot load seccomp profile"), "{error}");
}

async fn capabilities(node: Node) {
    let caps = "grep -E '^Cap(Eff|Bnd|Inh|Amb):' /proc/self/status | cut -f2";
    let want = |bits: u64| {
        let zero = "0".repeat(16);
        let bits = format!("{bits:016x}");
        [zero.clone(), bits.clone(), bits, zero].map(String::from)
    };
    assert_eq!(both(&node, |_| {}, caps).await, want(0xa80425fb));
    let set = |add: &[&str], drop: &[&str]| {
        let capabilities = Capabilities { add: strings(add), drop: strings(drop) };
        move |s: &mut ContainerSpec| s.capabilities = capabilities.clone()
    };
    assert_eq!(both(&node, set(&[], &["ALL"]), caps).await, want(0));
    assert_eq!(both(&node, set(&["NET_ADMIN"], &["ALL"]), caps).await, want(1 << 12));
    // Another user has them only as a bound.
    let other = |s: &mut ContainerSpec| {
        s.user.uid = Some(1000);
        s.capabilities.add = strings(&["NET_ADMIN"]);
    };
    let lines = both(&node, other, caps).await;
    assert_eq!(lines[1], "0".repeat(16), "effective");
    assert_eq!(lines[2], format!("{:016x}", 0xa80425fbu64 | 1 << 12));
}

async fn users(node: Node) {
    let user = |user: UserSpec| move |s: &mut ContainerSpec| s.user = user.clone();
    let id = "id -u; id -g; id -G";
    let web = UserSpec { username: "web".into(), ..Default::default() };
    assert_eq!(both(&node, user(web), id).await, ["33", "34", "34 4"]);
    let spec = UserSpec {
        uid: Some(4711),
        gid: Some(12),
        supplementary_groups: vec![100],
        fs_group: Some(200),
        ..Default::default()
    };
    assert_eq!(both(&node, user(spec.clone()), id).await, ["4711", "12", "12 100 200"]);
    // What is not one's own stays closed, what is open to the standard streams is.
    let script = "cat /etc/secret; echo again >/dev/stdout; echo err >/dev/stderr; true";
    let lines = node.output(user(spec.clone()), script).await;
    assert!(lines.iter().any(|l| l.contains("Permission denied")), "{lines:?}");
    assert!(lines.contains(&"again".to_owned()) && lines.contains(&"err".to_owned()));
    let sandbox = node.sandbox().await;
    let mut container = node.script("sleep 100").await;
    container.user = spec;
    let state = sandbox.start_container(container).await.unwrap();
    assert_eq!((state.user.uid, state.user.gid), (4711, 12));
    assert_eq!(state.user.groups, [12, 100, 200]);
}

async fn read_only_root(node: Node) {
    let script = "exec 2>&1; touch /x; touch /tmp/x; touch /dev/shm/ok && echo shm; echo $?";
    let lines = node.output(|s| s.read_only_root = true, script).await;
    assert_eq!(lines.iter().filter(|l| l.contains("Read-only file system")).count(), 2);
    assert_eq!(lines[2..], ["shm", "0"]);
}

async fn hidden_paths(node: Node) {
    let script = "exec 2>&1; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
        (echo 1 > /proc/sys/kernel/panic); (echo 0 > /proc/irq/default_smp_affinity); \
        touch /sys/x; true";
    let lines = both(&node, |_| {}, script).await;
    assert_eq!(lines[..2], ["0", "0"]);
    assert_eq!(
        lines.iter().filter(|l| l.contains("Read-only file system")).count(),
        3,
        "{lines:?}"
    );
    let unmasked = |s: &mut ContainerSpec| {
        s.masked_paths = Some(Vec::new());
        s.readonly_paths = Some(Vec::new());
    };
    let lines = node.output(unmasked, "cat /proc/timer_list | wc -c").await;
    assert_ne!(lines, ["0"]);
}

async fn limits_are_the_container_s_own(node: Node) {
    let limits = |s: &mut ContainerSpec| {
        s.resources = Resources {
            memory_limit: Some(64 << 20),
            pids_limit: Some(20),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            cpu_shares: Some(200),
            ..Default::default()
        };
    };
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (memory, pids) = if v2 {
        ("memory.max", "pids.max")
    } else {
        ("memory/memory.limit_in_bytes", "pids/pids.max")
    };
    // It sees its own limits, and cannot raise them, not even as root.
    let script =
        format!("cd /sys/fs/cgroup; cat {memory}; cat {pids}; (echo 99 > {pids}) 2>&1; ls | wc -l");
    let lines = both(&node, limits, &script).await;
    assert_eq!(lines[..2], ["67108864", "20"]);
    assert!(lines[2].contains("Read-only file system"), "{lines:?}");
    // And they hold.
    let fork =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do sleep 5 & done";
    let sandbox = node.sandbox().await;
    let mut spec = node.script(&format!("{fork}; wait")).await;
    limits(&mut spec);
    let (_, lines) = node.finish(&sandbox, spec).await;
    assert!(lines.iter().any(|l| l.contains("can't fork")), "{lines:?}");
    let mut spec = node.script("sleep 100").await;
    limits(&mut spec);
    let id = sandbox.start_container(spec).await.unwrap().id;
    let more = Resources { memory_limit: Some(128 << 20), ..Default::default() };
    sandbox.update_container(&id, more).await.unwrap();
    let stats = sandbox.stats().await.unwrap();
    let own = &stats.containers[0];
    assert_eq!(own.cgroup.memory_limit, Some(128 << 20));
    assert!(own.cgroup.pids == 1 && stats.cgroup.memory_usage >= own.cgroup.memory_usage);
}

async fn out_of_memory(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec = node.script("exec tail /dev/zero").await;
    spec.resources.memory_limit = Some(16 << 20);
    let state = sandbox.start_container(spec).await.unwrap();
    let exit = in_time(sandbox.wait(&state.id)).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, true));
    // A child that dies so does not end its container, but is not forgotten.
    let mut spec = node.script("tail /dev/zero; echo $?").await;
    spec.resources.memory_limit = Some(16 << 20);
    let (exit, lines) = node.finish(&sandbox, spec).await;
    assert_eq!((exit.code, exit.oom_killed), (0, true), "{lines:?}");
    let (exit, _) = node.finish(&sandbox, node.script("sh -c 'kill -9 $$'; exit $?").await).await;
    assert_eq!((exit.code, exit.oom_killed), (137, false));
}

async fn devices(node: Node) {
    let script = "ls /dev | sort | tr '\\n' ' '; echo; mknod /tmp/d b 7 0 && echo made; \
        head -c1 /tmp/d 2>&1; mknod /tmp/k c 1 11; head -c1 /tmp/k 2>&1; \
        head -c2 /dev/zero | wc -c; echo x > /dev/null && echo null";
    let lines = both(&node, |_| {}, script).await;
    assert_eq!(
        lines[0],
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(lines[1], "made");
    assert_eq!(lines.iter().filter(|l| l.contains("Operation not permitted")).count(), 2);
    assert_eq!(lines[4..], ["2", "null"]);
    let candidates = ["/dev/fuse", "/dev/loop0", "/dev/loop-control", "/dev/hwrng"];
    let usable = candidates.iter().find(|d| std::fs::File::open(d).is_ok());
    let Some(device) = usable else { return };
    let hand_in = |s: &mut ContainerSpec| {
        s.devices = vec![Device {
            host_path: device.into(),
            container_path: "/dev/data/one".into(),
            permissions: "r".into(),
        }];
    };
    let script = "exec 2>&1; (: < /dev/data/one) && echo readable; (: >> /dev/data/one); true";
    let lines = both(&node, hand_in, script).await;
    assert_eq!(lines[0], "readable", "{lines:?}");
    assert!(lines[1].contains("not permitted"), "{lines:?}");
}

async fn privileged(node: Node) {
    let script = format!(
        "test -c /dev/kmsg && echo kmsg; mkdir /m; mount -t tmpfs x /m && echo mounted; \
         touch /sys/x 2>&1 | grep -c Read-only; {STATUS}"
    );
    let lines = both(&node, |s| s.privileged = true, &script).await;
    assert_eq!(lines[..3], ["kmsg", "mounted", "0"]);
    assert!(lines.contains(&"Seccomp:\t0".to_owned()), "{lines:?}");
}

async fn namespaces(node: Node) {
    let script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done; hostname; \
        ls /sys/class/net; cat /proc/sys/kernel/shm_rmid_forced; echo $$";
    let link = |name: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let spec = SandboxSpec {
        sysctls: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
        ..node.sandbox_spec()
    };
    let pod = node.runtime.create_sandbox(spec).await.unwrap();
    assert!(pod.netns_path().unwrap().exists());
    let (_, first) = node.finish(&pod, node.script(script).await).await;
    let (_, second) = node.finish(&pod, node.script(script).await).await;
    assert_eq!(first, second, "one pod, one set of namespaces");
    assert_eq!(first[3..], ["testpod", "lo", "1", "1"]);
    for (line, name) in first.iter().zip(["net", "ipc", "uts"]) {
        assert_ne!(*line, link(name));
    }
    let spec =
        SandboxSpec { host_network: true, host_ipc: true, host_pid: true, ..node.sandbox_spec() };
    let host = node.runtime.create_sandbox(spec).await.unwrap();
    assert_eq!(host.netns_path(), None);
    let (_, lines) = node.finish(&host, node.script(script).await).await;
    assert_eq!(lines[..3], ["net", "ipc", "uts"].map(link));
    assert_ne!(lines.last().unwrap(), "1");
    // A shared memory segment of one container is the other's.
    let spec = node.script("echo shared > /dev/shm/x; sleep 100").await;
    let id = pod.start_container(spec).await.unwrap().id;
    in_exec(&pod, &id, "while ! test -s /dev/shm/x; do :; done").await;
    let (_, lines) = node.finish(&pod, node.script("cat /dev/shm/x").await).await;
    assert_eq!(lines, ["shared"]);
}

async fn nothing_of_the_host_is_open(node: Node) {
    // No pipeline here: the shell's own pipe would show.
    let script = "ls -l /proc/$$/fd > /tmp/fds; grep -v -E 'pipe:|/dev/null|total|/tmp/fds' /tmp/fds; \
        cat /proc/self/mountinfo | cut -d' ' -f5 | sort | head -3; env | grep -i knarr; \
        readlink /proc/self/cwd";
    let lines = both(&node, |_| {}, script).await;
    assert_eq!(lines[..2], ["/", "/dev"], "{lines:?}");
    assert_eq!(lines.last().unwrap(), "/root");
}

async fn the_program_cannot_be_overwritten(node: Node) {
    // A script whose interpreter is the process's own program, as in CVE-2019-5736.
    let shim = node.config.shim.clone();
    let before = std::fs::read(&shim).unwrap();
    let program = node.config.run_dir.join("program");
    let mode = program.metadata().unwrap().permissions();
    let changed = std::fs::set_permissions(&program, mode);
    assert_eq!(changed.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let sandbox = node.sandbox().await;
    let spec = node
        .script("printf '#!/proc/self/exe\\n' > /bin/evil; chmod +x /bin/evil; sleep 100")
        .await;
    let id = sandbox.start_container(spec).await.unwrap().id;
    in_exec(&sandbox, &id, "while ! test -x /bin/evil; do :; done").await;
    let argv = strings(&["/bin/evil"]);
    // Whatever it does, it is not ours that it changes.
    let _ = sandbox.exec_sync(&id, argv, Duration::from_secs(5)).await;
    assert!(std::fs::read(&shim).unwrap() == before);
    // Nobody in the container can look into a shim or what it makes.
    let log = node.dir.join("logs");
    assert!(log.exists() && log_lines(&log.join("none")).is_empty());
}

async fn resource_limits_are_clamped(node: Node) {
    let limits = |s: &mut ContainerSpec| {
        s.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1 << 30, hard: 1 << 30 }];
        s.oom_score_adj = -999;
    };
    let lines = both(&node, limits, "ulimit -n; cat /proc/self/oom_score_adj").await;
    assert!(lines[0].parse::<u64>().unwrap() >= 1024, "{lines:?}");
    let sandbox = node.sandbox().await;
    let mut spec = node.script("true").await;
    spec.rlimits = vec![Rlimit { kind: "RLIMIT_NONSENSE".into(), soft: 1, hard: 1 }];
    assert!(sandbox.start_container(spec).await.is_err());
}
