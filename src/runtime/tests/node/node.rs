//! What the tests share: a runtime of their own, an image, specs, and cleaning up.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runtime::{
    ContainerSpec, ContainerState, ExitStatus, Runtime, RuntimeConfig, RuntimeEvent, Sandbox,
    SandboxSpec, Seccomp, Status,
};
use tokio::sync::mpsc;

/// The name of the test image.
pub(crate) const IMAGE: &str = "knarr.test/busybox:1";

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime of one test.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) events: mpsc::Receiver<RuntimeEvent>,
    pub(crate) config: RuntimeConfig,
    pub(crate) dir: PathBuf,
    name: String,
    ids: AtomicUsize,
}

/// Removes what a test left, however it ended.
struct Remains {
    config: RuntimeConfig,
    dir: PathBuf,
}

impl Drop for Remains {
    fn drop(&mut self) {
        let tokio = tokio::runtime::Runtime::new().unwrap();
        let cleaned = tokio.block_on(Runtime::cleanup(&self.config, true));
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            cleaned.unwrap();
            self.nothing_is_left();
        } else if let Err(error) = cleaned {
            eprintln!("cleanup: {error}");
        }
    }
}

impl Remains {
    fn nothing_is_left(&self) {
        let run = self.config.run_dir.to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(run), "mounts are left");
        assert!(!self.config.run_dir.exists(), "{run} is left");
        let cgroups = match &self.config.cgroup_v2 {
            Some(mount) => linux::cgroup::Cgroups::v2_at(mount, "/"),
            None => linux::cgroup::Cgroups::detect("/").unwrap(),
        };
        assert!(!cgroups.exists(&self.config.cgroup_root), "cgroups are left");
    }
}

/// The v2 hierarchy of a hybrid machine.
pub(crate) fn unified() -> Option<PathBuf> {
    let mounts = linux::procfs::mounts().unwrap();
    let hybrid = mounts.iter().any(|m| m.fstype == "cgroup");
    let v2 = mounts.into_iter().find(|m| m.fstype == "cgroup2");
    v2.filter(|_| hybrid).map(|m| m.mount_point)
}

/// Runs one test.
pub(crate) fn run<F: Future<Output = ()>>(name: &str, v2: bool, test: impl FnOnce(Node) -> F) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(format!("knarr-{unique}"));
    let config = RuntimeConfig {
        data_dir: dir.join("data"),
        run_dir: Path::new("/run").join(format!("knarr-{unique}")),
        cgroup_root: format!("/knarr-{unique}"),
        cgroup_v2: if v2 { unified() } else { None },
        shim: std::env::current_exe().unwrap(),
        registries: Default::default(),
    };
    std::fs::create_dir_all(&dir).unwrap();
    let _remains = Remains { config: config.clone(), dir: dir.clone() };
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async {
        let (runtime, events) = Runtime::open(config.clone()).await.unwrap();
        let ids = AtomicUsize::new(0);
        let node = Node { runtime, events, config, dir, name: name.to_owned(), ids };
        tokio::time::timeout(PATIENCE * 2, test(node)).await.expect("test takes too long");
    });
    // As if the agent were killed: nothing is told to anybody.
    tokio.shutdown_background();
}

/// A short name for anything.
pub(crate) fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| s.to_string()).collect()
}

impl Node {
    /// A fresh id.
    pub(crate) fn id(&self) -> String {
        format!("c{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn sandbox_spec(&self) -> SandboxSpec {
        let pod_uid = format!("pod-{}", self.ids.fetch_add(1, Ordering::Relaxed));
        SandboxSpec {
            cgroup_parent: format!("/kubepods/burstable/{pod_uid}"),
            pod_uid,
            pod_name: self.name.clone(),
            pod_namespace: "test".into(),
            hostname: "testpod".into(),
            log_dir: self.dir.join("logs"),
            ..Default::default()
        }
    }

    pub(crate) async fn sandbox(&self) -> Sandbox {
        self.runtime.create_sandbox(self.sandbox_spec()).await.unwrap()
    }

    /// The id of the test image, imported when it is first asked for.
    pub(crate) async fn image(&self) -> String {
        if let Some(image) = self.runtime.images().get(IMAGE) {
            return image.id;
        }
        let archive = self.dir.join("busybox.tar");
        Archive::busybox().write(&archive);
        let names = self.runtime.images().import(&archive).await.unwrap();
        assert_eq!(names, [IMAGE]);
        self.runtime.images().get(IMAGE).unwrap().id
    }

    /// A container that runs a shell script, with a log.
    pub(crate) async fn script(&self, script: &str) -> ContainerSpec {
        let id = self.id();
        ContainerSpec {
            image: self.image().await,
            name: "main".into(),
            argv: strings(&["/bin/sh", "-c", script]),
            log_path: Some(self.dir.join("logs").join(&id).join("0.log")),
            seccomp: Seccomp::RuntimeDefault,
            id,
            ..Default::default()
        }
    }

    /// Runs a container to its end and answers its exit and its output.
    pub(crate) async fn finish(
        &self,
        sandbox: &Sandbox,
        spec: ContainerSpec,
    ) -> (ExitStatus, Vec<String>) {
        let log = spec.log_path.clone().unwrap();
        let state = sandbox.start_container(spec).await.unwrap();
        let exit = in_time(sandbox.wait(&state.id)).await.unwrap();
        (exit, log_lines(&log))
    }

    /// The output of a script in a sandbox of its own.
    pub(crate) async fn output(
        &self,
        change: impl FnOnce(&mut ContainerSpec),
        script: &str,
    ) -> Vec<String> {
        let sandbox = self.sandbox().await;
        let mut spec = self.script(script).await;
        change(&mut spec);
        let (exit, lines) = self.finish(&sandbox, spec).await;
        assert_eq!(exit.code, 0, "{lines:?}");
        lines
    }

    /// Another agent with the same folders, as after a restart.
    pub(crate) async fn restart(&mut self) {
        let (runtime, events) = Runtime::open(self.config.clone()).await.unwrap();
        self.runtime = runtime;
        self.events = events;
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> RuntimeEvent {
        in_time(self.events.recv()).await.expect("an event")
    }
}

/// Waits for something, but not for ever.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("takes too long")
}

/// Waits until something has come true, where nobody tells.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    in_time(async {
        while !holds() {
            ticks.tick().await;
        }
    })
    .await;
}

/// The content of a log's lines, each checked for its form.
pub(crate) fn log_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            let time = fields.next().unwrap();
            assert!(time.len() == 30 && time.ends_with('Z'), "{line}");
            let stream = fields.next().unwrap();
            assert!(matches!(stream, "stdout" | "stderr"), "{line}");
            assert!(matches!(fields.next().unwrap(), "F" | "P"), "{line}");
            fields.next().unwrap().to_owned()
        })
        .collect()
}

pub(crate) fn exit_of(state: &ContainerState) -> Option<&ExitStatus> {
    match &state.status {
        Status::Exited(exit) => Some(exit),
        Status::Running => None,
    }
}

/// A docker archive in the making.
pub(crate) struct Archive {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: serde_json::Value,
    pub(crate) name: String,
}

/// A layer of folders, files and links.
pub(crate) fn layer(build: impl FnOnce(&mut Layer)) -> Vec<u8> {
    let mut layer = Layer(tar::Builder::new(Vec::new()));
    build(&mut layer);
    layer.0.into_inner().unwrap()
}

pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(size as u64);
        header
    }
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        let mut header = Layer::header(tar::EntryType::Regular, mode, content.len());
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }
    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> &mut Self {
        let mut header = Layer::header(tar::EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, path, &[][..]).unwrap();
        self
    }
    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let mut header = Layer::header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

impl Archive {
    pub(crate) fn new(name: &str, layers: Vec<Vec<u8>>) -> Archive {
        Archive { layers, name: name.into(), config: serde_json::json!({"Cmd": ["/bin/sh"]}) }
    }

    pub(crate) fn busybox() -> Archive {
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is needed");
        let applets = [
            "sh", "cat", "echo", "sleep", "id", "ls", "touch", "mkdir", "grep", "head", "ps",
            "kill", "mount", "umount", "stat", "hostname", "true", "false", "dd", "tail", "env",
            "pwd", "chmod", "mknod", "readlink", "wc", "sort", "tr", "seq", "rm", "chroot",
            "unshare", "stty", "tty", "nproc", "ip", "ln", "cut",
        ];
        let base = layer(|l| {
            for dir in ["bin", "etc", "proc", "root", "var", "home"] {
                l.dir(dir, 0o755);
            }
            l.dir("tmp", 0o1777);
            l.file("bin/busybox", 0o755, &busybox);
            for applet in applets {
                l.link(&format!("bin/{applet}"), "busybox");
            }
            l.file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/home/web:/bin/sh\n",
            );
            l.file("etc/group", 0o644, b"root:x:0:\nlog:x:4:web\nweb:x:34:\n");
            l.file("etc/removed", 0o644, b"by the next layer");
            l.file("etc/secret", 0o600, b"root's alone");
        });
        let top = layer(|l| {
            l.dir("etc", 0o755);
            l.file("etc/.wh.removed", 0o644, b"");
            l.file("etc/added", 0o644, b"added\n");
        });
        let mut archive = Archive::new(IMAGE, vec![base, top]);
        archive.config = serde_json::json!({
            "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "echo hello"],
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "WorkingDir": "/root", "Labels": {"a": "b"},
        });
        archive
    }

    pub(crate) fn config_json(&self) -> Vec<u8> {
        let diff_ids: Vec<String> =
            self.layers.iter().map(|l| format!("sha256:{}", sha256(l))).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// As `docker save` writes it.
    pub(crate) fn docker(&self) -> Vec<u8> {
        let config = self.config_json();
        let config_name = format!("{}.json", sha256(&config));
        let names: Vec<String> = (0..self.layers.len()).map(|i| format!("{i}/layer.tar")).collect();
        let manifest = serde_json::json!([
            {"Config": config_name, "RepoTags": [self.name], "Layers": names}
        ]);
        layer(|tar| {
            tar.file(&config_name, 0o644, &config);
            for (name, layer) in names.iter().zip(&self.layers) {
                tar.file(name, 0o644, layer);
            }
            tar.file("manifest.json", 0o644, &serde_json::to_vec(&manifest).unwrap());
        })
    }

    /// The blobs of an OCI layout with compressed layers, and the digest of the manifest.
    pub(crate) fn blobs(&self) -> (BTreeMap<String, Vec<u8>>, String) {
        let mut blobs = BTreeMap::new();
        let mut put = |bytes: Vec<u8>| {
            let digest = format!("sha256:{}", sha256(&bytes));
            let size = bytes.len();
            blobs.insert(digest.clone(), bytes);
            (digest, size)
        };
        let layers: Vec<serde_json::Value> = self
            .layers
            .iter()
            .map(|layer| {
                let level = flate2::Compression::fast();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
                gzip.write_all(layer).unwrap();
                let (digest, size) = put(gzip.finish().unwrap());
                let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
                serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
            })
            .collect();
        let (config, size) = put(self.config_json());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
            "layers": layers,
        });
        let (manifest, _) = put(serde_json::to_vec(&manifest).unwrap());
        (blobs, manifest)
    }

    /// An OCI layout.
    pub(crate) fn oci(&self) -> Vec<u8> {
        let (blobs, manifest) = self.blobs();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest, "size": blobs[&manifest].len(),
            "annotations": {"io.containerd.image.name": self.name},
        }]});
        layer(|tar| {
            tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
            tar.file("index.json", 0o644, &serde_json::to_vec(&index).unwrap());
            for (digest, blob) in &blobs {
                tar.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, blob);
            }
        })
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.docker()).unwrap();
    }
}
