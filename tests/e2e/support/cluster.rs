//! A cluster of one node, started as a user starts it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    background::Background,
    command::{Finished, run, run_with},
    images, network,
    reaper::Reaper,
    wait::eventually,
};

/// What differs from the ordinary.
#[derive(Default)]
pub struct Options {
    /// The control plane alone.
    pub without_node: bool,
    /// A node without images.
    pub without_images: bool,
    /// Further flags.
    pub flags: Vec<String>,
}

/// A running cluster; stopped and cleaned up when dropped.
pub struct Cluster {
    network: network::Network,
    directory: TempDir,
    options: Options,
    server: Option<Child>,
    reaper: Reaper,
}

impl Cluster {
    /// The program under test: the one that `KNARR` names, else the one that cargo built for tests.
    pub fn program() -> PathBuf {
        match (std::env::var_os("KNARR"), option_env!("CARGO_BIN_EXE_knarr")) {
            (Some(path), _) => path.into(),
            (None, Some(path)) => path.into(),
            (None, None) => panic!("KNARR names no program"),
        }
    }

    /// Starts a cluster with a node, and waits until the node is ready.
    pub fn start() -> Self {
        let cluster = Self::start_with(Options::default());
        cluster.wait_for_node();
        cluster
    }

    /// Waits until the node is there and ready.
    pub fn wait_for_node(&self) {
        eventually("the node to be there", Duration::from_secs(30), || {
            self.kubectl(&["get", "node", "node"]).result()
        });
        self.kubectl(&["wait", "--for=condition=Ready", "node/node", "--timeout=60s"]).stdout();
    }

    /// Starts the control plane of a cluster.
    pub fn control_plane() -> Self {
        Self::start_with(Options { without_node: true, ..Options::default() })
    }

    /// Starts a cluster and waits until its API is ready.
    pub fn start_with(options: Options) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.launch();
        cluster
    }

    /// A cluster with a node whose server is not started yet.
    pub fn stopped() -> Self {
        Self::stopped_with(Options::default())
    }

    /// A cluster whose server is not started yet.
    pub fn stopped_with(options: Options) -> Self {
        Self::prepare(options)
    }

    /// Adds a flag to the server's command line, from its next start on.
    pub fn add_flag(&mut self, flag: String) {
        self.options.flags.push(flag);
    }

    fn prepare(options: Options) -> Self {
        let directory = tempfile::Builder::new().prefix("knarr-e2e-").tempdir().unwrap();
        let network = network::Network::new();
        let reaper =
            Reaper::new(&Self::program(), directory.path(), &network.node, &network.outside);
        let cluster = Self { network, directory, options, server: None, reaper };
        if !cluster.options.without_node {
            let folder = cluster.data().join("agent/images");
            std::fs::create_dir_all(&folder).unwrap();
            if !cluster.options.without_images {
                std::os::unix::fs::symlink(images::archive(), folder.join("demo.tar")).unwrap();
            }
        }
        cluster
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Folder flags by which a command finds this cluster's state.
    fn directories(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.data().display()),
            format!("--run-dir={}", self.path("run").display()),
            format!("--pod-logs-dir={}", self.path("logs/pods").display()),
            format!("--cgroup-root=/{}", self.network.node),
        ]
    }

    /// The command line of the server.
    pub fn server_flags(&self) -> Vec<String> {
        let mut flags = self.directories();
        flags.push(format!("--write-kubeconfig={}", self.kubeconfig().display()));
        flags.push(format!("--node-ip={}", network::NODE));
        flags.push("--node-name=node".to_owned());
        if self.options.without_node {
            flags.push("--disable-agent".to_owned());
        }
        flags.extend(self.options.flags.iter().cloned());
        flags
    }

    /// Starts the server and waits until the API says that it is ready.
    pub fn launch(&mut self) {
        self.spawn();
        eventually("the API to be ready", Duration::from_secs(30), || {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server ended: {status}");
            }
            self.kubectl(&["get", "--raw=/readyz"]).result()
        });
    }

    /// Starts the server and waits for nothing.
    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = self
            .command_in(&self.network.node, &Self::program())
            .arg("server")
            .args(self.server_flags())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(child);
    }

    /// The network namespace of the node.
    pub fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.network.node)
    }

    /// The folder of everything that this cluster has on disk.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Kills the server without warning.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Stops the server as systemd would.
    pub fn stop_server(&mut self) {
        let mut server = self.server.take().unwrap();
        run("kill", &["-TERM", &server.id().to_string()]).stdout();
        server.wait().unwrap();
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig.yaml")
    }

    fn command_in(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        // Not `ip netns exec`: it mounts a fresh /sys, which hides the cgroups.
        command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
        command
    }

    /// Runs a program on the node.
    pub fn on_node(&self, program: &str, arguments: &[&str]) -> Finished {
        self.inside(&self.network.node, program, arguments, "")
    }

    /// Runs a program on the machine outside.
    pub fn outside(&self, program: &str, arguments: &[&str]) -> Finished {
        self.inside(&self.network.outside, program, arguments, "")
    }

    fn inside(&self, namespace: &str, program: &str, arguments: &[&str], input: &str) -> Finished {
        let net = format!("--net=/run/netns/{namespace}");
        let mut all = vec![net.as_str(), program];
        all.extend(arguments);
        run_with("nsenter", &all, input)
    }

    /// Runs kubectl as the admin.
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl as the admin with `input` on stdin.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Finished {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let mut all = vec![kubeconfig.as_str()];
        all.extend(arguments);
        self.inside(&self.network.node, &tool("kubectl"), &all, input)
    }

    /// Starts kubectl as the admin.
    pub fn kubectl_in_background(&self, arguments: &[&str]) -> Background {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let mut all = vec![kubeconfig.as_str()];
        all.extend(arguments);
        self.in_background(&tool("kubectl"), &all)
    }

    /// Starts a program on the node.
    pub fn in_background(&self, program: &str, arguments: &[&str]) -> Background {
        let mut command = self.command_in(&self.network.node, Path::new(program));
        Background::start(command.args(arguments))
    }

    /// The shell line of kubectl as the admin, for programs that start it themselves.
    pub fn command_line(&self, first: &[&str], then: &[&str]) -> String {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let mut words = vec![tool("kubectl"), kubeconfig];
        let quoted = |word: &&str| format!("'{word}'");
        words.extend(first.iter().chain(then).map(quoted));
        words.join(" ")
    }

    /// Runs a client of the API, such as helm, with variables (`NAME=value`) in its environment.
    pub fn client(&self, environment: &[&str], name: &str, arguments: &[&str]) -> Finished {
        let kubeconfig = format!("KUBECONFIG={}", self.kubeconfig().display());
        let client = tool(name);
        let mut all = vec![kubeconfig.as_str()];
        all.extend(environment);
        all.push(&client);
        all.extend(arguments);
        self.on_node("env", &all)
    }

    /// The network namespace of the machine outside.
    pub fn outside_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.network.outside)
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

    /// A request to the API by curl with the admin's certificate: method, path, further arguments.
    /// The answer is the status code and the body.
    pub fn request(&self, method: &str, path: &str, arguments: &[&str]) -> (u16, String) {
        let tls = self.data().join("server/tls");
        let file = |name: &str| tls.join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
        let url = format!("https://127.0.0.1:6443{path}");
        let mut all = vec![
            "-sS",
            "--max-time",
            "30",
            "-w",
            "\n%{http_code}",
            "-X",
            method,
            "--cacert",
            &ca,
            "--cert",
            &certificate,
            "--key",
            &key,
        ];
        all.extend(arguments);
        all.push(&url);
        let out = self.on_node("curl", &all).out();
        let (body, code) = out.rsplit_once('\n').unwrap_or(("", ""));
        (code.parse().unwrap_or(0), body.to_owned())
    }

    /// Runs `knarr` with a subcommand and the folders of this cluster.
    pub fn knarr(&self, subcommand: &[&str]) -> Finished {
        let directories = self.directories();
        let mut all = subcommand.to_vec();
        all.extend(directories.iter().map(String::as_str));
        self.on_node(&Self::program().display().to_string(), &all)
    }
}

/// Where `make deps` put a client, or the one on the path.
fn tool(name: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let ours = Path::new(&home).join(".cache/knarr/bin").join(name);
    if ours.exists() { ours.display().to_string() } else { name.to_owned() }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        if !self.options.without_node {
            let cleaned = self.knarr(&["cleanup"]);
            if !std::thread::panicking() {
                cleaned.stdout();
            }
        }
        self.reaper.dismiss();
    }
}
