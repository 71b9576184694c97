//! The processes of a container, between their clone from the shim and the exec of their program:
//! the first one, which makes the container around itself, and later ones, which join it.
//!
//! They get their instructions as JSON over the agent's connection, then a single byte when the
//! agent has put them where they belong. A shim may be older than the agent, so what is missing
//! from its instructions has a default, and what it does not know is passed over.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use linux::namespace;
use linux::process;
use linux::signal;
use serde::{Deserialize, Serialize};

use super::process::ProcessSpec;
use super::protocol::{self, Status};
use super::rootfs;
use crate::spec::{Device, Mount, ResolvedUser, UserSpec};

/// Where a new process's standard streams go.
#[derive(Debug)]
pub(crate) enum Streams {
    /// stdin, stdout, stderr.
    Pipes([OwnedFd; 3]),
    /// The socket over which the master of a new terminal is sent.
    Terminal(UnixStream),
}

/// How the first process makes its container.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Launch {
    pub(crate) process: ProcessSpec,
    pub(crate) user: UserSpec,
    pub(crate) rootfs: Rootfs,
    /// Namespaces to enter, by their pins.
    pub(crate) namespaces: Vec<(i32, PathBuf)>,
    pub(crate) mounts: Vec<Mount>,
    /// The layers of the images that mounts show.
    pub(crate) image_volumes: BTreeMap<String, Vec<String>>,
    pub(crate) devices: Vec<Device>,
    /// Everything of the host's `/dev`, writable `/sys`.
    pub(crate) privileged: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    /// The pod's `/dev/shm`.
    pub(crate) shm: PathBuf,
    pub(crate) cgroups: CgroupView,
    /// The kernel has POSIX message queues.
    pub(crate) has_mqueue: bool,
}

/// The layers that make a root filesystem. All names are relative to `layers_dir`, because the
/// options of an overlay mount must fit into one page.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rootfs {
    pub(crate) layers_dir: PathBuf,
    /// From the topmost down.
    pub(crate) layers: Vec<String>,
    pub(crate) upper: String,
    pub(crate) work: String,
    /// A folder to mount on; nobody outside sees the mount.
    pub(crate) mount_point: PathBuf,
    pub(crate) read_only: bool,
}

/// What is shown at `/sys/fs/cgroup`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CgroupView {
    /// The container's own part of the v2 hierarchy.
    V2,
    /// For each hierarchy its name and the container's folder in it.
    V1(Vec<(String, PathBuf)>),
}

impl Default for CgroupView {
    fn default() -> Self {
        CgroupView::V1(Vec::new())
    }
}

/// How a later process joins.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Join {
    pub(crate) process: ProcessSpec,
    pub(crate) user: ResolvedUser,
    /// Kinds of namespaces to enter besides that of processes.
    pub(crate) namespaces: i32,
}

/// What the first process found out, told before its program runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) user: ResolvedUser,
    /// `HOME`, where the environment does not say.
    pub(crate) home: String,
}

/// Why a process could not be made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The container around it cannot be made.
    Create(String),
    /// Its program cannot be run.
    Run(String),
}

/// Adds what was tried to an error.
pub(crate) trait Tried<T> {
    /// The failure, if there is one, to make a container.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| Failure::Create(format!("{}: {}", what(), plain(&e))))
    }
}

/// An error in the words of the C library, as other runtimes print it.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match error.raw_os_error() {
        Some(_) => text.split(" (os error").next().unwrap_or(&text),
        None => &text,
    };
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// Ends the process with a failure that the agent hears of.
fn fail(status: &UnixStream, failure: Failure) -> ! {
    let message = match failure {
        Failure::Create(message) => Status::CreateFailed(message),
        Failure::Run(message) => Status::RunFailed(message),
    };
    let _ = protocol::send(status, &message, &[]);
    // The code of a shell that cannot run a command, as runc and crun use it.
    process::exit_now(128)
}

fn instructions<T: for<'de> Deserialize<'de>>(client: &UnixStream) -> Result<T, Failure> {
    let bytes = protocol::receive_bytes(client).tried(|| "read instructions".into())?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::Create(format!("instructions: {e}")))
}

/// Waits until the agent says that the process is in its cgroups.
fn wait_for_go(mut client: &UnixStream) -> Result<(), Failure> {
    use std::io::Read;
    client.set_read_timeout(None).tried(|| "agent".into())?;
    client.read_exact(&mut [0]).tried(|| "agent".into())
}

/// Makes a container and runs its program.
pub(crate) fn first_process(client: &UnixStream, status: UnixStream, streams: Streams) -> ! {
    let run = || -> Result<Failure, Failure> {
        signal::reset_all().tried(|| "signals".into())?;
        let launch: Launch = instructions(client)?;
        for (kind, path) in &launch.namespaces {
            let pinned = std::fs::File::open(path);
            pinned
                .and_then(|file| namespace::enter(file, *kind))
                .tried(|| format!("enter namespace {}", path.display()))?;
        }
        rootfs::assemble(&launch, || wait_for_go(client))?;
        let identity = super::process::identify(&launch.user)?;
        Ok(super::process::run(launch.process, &identity, streams, &status, true))
    };
    let (Ok(failure) | Err(failure)) = run();
    fail(&status, failure)
}

/// Joins a container and runs a program in it.
pub(crate) fn later_process(
    client: &UnixStream,
    status: UnixStream,
    streams: io::Result<Streams>,
    target: OwnedFd,
) -> ! {
    let run = || -> Result<Failure, Failure> {
        signal::reset_all().tried(|| "signals".into())?;
        let join: Join = instructions(client)?;
        // The first process's cgroup namespace is entered after the move into its cgroup.
        wait_for_go(client)?;
        namespace::enter(&target, join.namespaces).tried(|| "enter namespaces".into())?;
        let identity = Identity { user: join.user, home: String::new() };
        let streams = streams.tried(|| "streams".into())?;
        Ok(super::process::run(join.process, &identity, streams, &status, false))
    };
    let (Ok(failure) | Err(failure)) = run();
    fail(&status, failure)
}
