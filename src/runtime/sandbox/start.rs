//! Starting a container.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linux::cgroup::Version;
use linux::process;

use super::create;
use super::state::{Inner, Record, images_of};
use crate::error::{Context, Error, Result, StartError};
use crate::image::ImageConfig;
use crate::layout::{self, check_name};
use crate::security;
use crate::shim::launch::{CgroupView, Identity, Launch, Rootfs};
use crate::shim::process::ProcessSpec;
use crate::shim::protocol::{self, Reply, Request, Start, Status, text_of};
use crate::spec::{ContainerSpec, SandboxSpec};
use crate::state::ContainerState;
use crate::sync::{blocking, lock, write_json};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a container may take to be made; mounting a volume's source can take a while.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn start(
    inner: &Arc<Inner>,
    spec: ContainerSpec,
) -> Result<ContainerState, StartError> {
    check_name("container id", &spec.id)?;
    // Held from here on, so that nobody removes them under our hands.
    let images = images_of(&spec)
        .map(|id| {
            let hold = inner.shared.images.hold(id);
            hold.ok_or_else(|| StartError::ImageMissing(id.to_owned()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if !inner.begin(&spec.id) {
        let id = &spec.id;
        return Err(Error::Invalid(format!("container {id:?} exists already")).into());
    }
    if !inner.shim_alive() {
        let this = inner.clone();
        let revived = blocking(move || create::revive(&this)).await;
        let followed = revived.and_then(|(stream, child)| inner.follow(stream, Some(child)));
        followed.inspect_err(|_| inner.drop_entry(&spec.id))?;
    }
    let id = spec.id.clone();
    let this = inner.clone();
    let made = blocking(move || {
        run(&this, spec).inspect_err(|_| {
            let _ = this.shim.call(&Request::Forget { id: id.clone() });
            super::remove::remove_remains(&this, &id);
            this.drop_entry(&id);
        })
    });
    let record = made.await?;
    let gone = || Error::Gone("the sandbox was removed meanwhile".to_owned()).into();
    inner.begun(record, images).ok_or_else(gone)
}

/// The environment of a container: a path, what the image says, what the pod says; the last of
/// one name wins.
fn environment(spec: &ContainerSpec, image: &ImageConfig, sandbox: &SandboxSpec) -> Vec<String> {
    let path = format!("PATH={DEFAULT_PATH}");
    let hostname = format!("HOSTNAME={}", sandbox.hostname);
    let term = spec.tty.then_some("TERM=xterm");
    let all = std::iter::once(path.as_str())
        .chain(term)
        .chain(image.env.iter().map(String::as_str))
        .chain((!sandbox.hostname.is_empty()).then_some(hostname.as_str()))
        .chain(spec.env.iter().map(String::as_str));
    let mut env: Vec<String> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in all {
        let name = entry.split('=').next().unwrap_or(entry);
        match places.get(name) {
            Some(place) => env[*place] = entry.to_owned(),
            None => {
                places.insert(name, env.len());
                env.push(entry.to_owned());
            }
        }
    }
    env
}

/// Makes the container and runs its program. Blocking.
fn run(inner: &Inner, spec: ContainerSpec) -> Result<Record, StartError> {
    let Inner { shared, pod, .. } = inner;
    if spec.argv.is_empty() {
        return Err(StartError::Create("no command specified".to_owned()));
    }
    let dir = pod.container(&spec.id);
    std::fs::create_dir_all(&dir).at("create", &dir)?;
    if let Some(logs) = spec.log_path.as_deref().and_then(Path::parent) {
        std::fs::create_dir_all(logs).at("create", logs)?;
    }
    let launch = prepare(inner, &spec)?;
    let cgroup = inner.container_cgroup(&spec.id);
    let devices = security::device_rules(&spec)?;
    shared
        .cgroups
        .create(&cgroup, &spec.resources)
        .and_then(|()| shared.cgroups.allow_devices(&cgroup, &devices))
        .map_err(|e| StartError::Create(format!("set up cgroup {cgroup}: {e}")))?;

    let pids_of = spec.process_namespace_of.clone().unwrap_or_default();
    let common = inner.spec.host_pid || inner.spec.share_process_namespace;
    let start = Start {
        id: spec.id.clone(),
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        own_pids: !common && pids_of.is_empty(),
        shared_pids: inner.spec.share_process_namespace && !inner.spec.host_pid,
        log_path: spec.log_path.as_deref().map(text_of).unwrap_or_default(),
        log_limits: spec.log_limits,
        oom_file: text_of(&shared.cgroups.oom_file(&cgroup).at("cgroup", cgroup.as_ref())?),
        procs_file: text_of(&shared.cgroups.procs_file(&cgroup).at("cgroup", cgroup.as_ref())?),
        exit_file: text_of(&layout::exit_file(&dir)),
        // Where all are in one, the target's is that one.
        pids_of: if common { String::new() } else { pids_of },
    };
    let (pid, started, identity) = launch_process(inner, &cgroup, start, &launch)?;

    let mut process = launch.process;
    process.filter = None;
    if !process.env.iter().any(|e| e.starts_with("HOME=")) {
        process.env.push(format!("HOME={}", identity.home));
    }
    let user = identity.user;
    let record = Record { spec: Arc::new(spec), process, user, pid, started };
    write_json(&layout::record_file(&dir), &record, false)?;
    Ok(record)
}

/// Asks the shim for a process and leads it until it runs its program.
fn launch_process(
    inner: &Inner,
    cgroup: &str,
    start: Start,
    launch: &Launch,
) -> Result<(i32, protocol::Moment, Identity), StartError> {
    let json = serde_json::to_vec(launch)
        .map_err(|e| StartError::Create(format!("encode instructions: {e}")))?;
    let (ours, theirs) = UnixStream::pair().context(|| "socket pair".to_owned())?;
    let handle = inner.shared.cgroups.handle(cgroup).at("open cgroup", cgroup.as_ref())?;
    let mut fds = vec![theirs.as_fd()];
    fds.extend(handle.as_ref().map(|fd| fd.as_fd()));
    let stream = inner.shim.send(&Request::Start(start), &fds)?;
    drop(theirs);
    // The instructions are on their way before the process exists. A shim that refuses closes the
    // connection: what it said is what counts then.
    let sent = protocol::send_bytes(&stream, &json);
    let (pid, started) = match inner.shim.answer(&stream)?.0 {
        Reply::Process { pid, at } => (pid, at),
        other => return Err(inner.shim.error(format!("unexpected answer {other:?}")).into()),
    };
    sent.map_err(|e| inner.shim.error(e))?;
    go(inner, cgroup, pid, &stream)?;
    let identity = outcome(&ours)?;
    let identity: Identity = serde_json::from_str(&identity)
        .map_err(|e| StartError::Create(format!("identity of the process: {e}")))?;
    Ok((pid, started, identity))
}

/// Puts a process where it belongs and lets it go on.
pub(super) fn go(inner: &Inner, cgroup: &str, pid: i32, mut stream: &UnixStream) -> Result<()> {
    use std::io::Write;
    let cgroups = &inner.shared.cgroups;
    if cgroups.version() == Version::V1 {
        match cgroups.join(cgroup, pid) {
            // It has failed already, and will say why.
            Err(e) if !process::exists(pid) => drop(e),
            other => other.at("join cgroup", cgroup.as_ref())?,
        }
    }
    // The same holds here.
    let _ = stream.write_all(&[1]);
    Ok(())
}

/// Reads what a process says until it runs its program, or fails to.
pub(super) fn outcome(status: &UnixStream) -> Result<String, StartError> {
    status.set_read_timeout(Some(PATIENCE)).context(|| "status socket".to_owned())?;
    let mut ready = None;
    loop {
        match protocol::receive::<Status>(status) {
            Ok(Some((Status::Ready(identity), _))) => ready = Some(identity),
            Ok(Some((Status::CreateFailed(message), _))) => {
                return Err(StartError::Create(message));
            }
            Ok(Some((Status::RunFailed(message), _))) => {
                return Err(StartError::Run(format!(
                    "unable to start container process: {message}"
                )));
            }
            Ok(Some((Status::Warning(message), _))) => warn_once(message),
            Ok(Some((Status::Terminal, _))) => {}
            Ok(None) => {
                let died = "container process ended before it ran its program";
                return ready.ok_or_else(|| StartError::Run(died.to_owned()));
            }
            Err(e) => return Err(StartError::Create(format!("container process: {e}"))),
        }
    }
}

/// What the machine does not permit is the same for every container: said once.
fn warn_once(message: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if lock(&SAID).insert(message.clone()) {
        tracing::warn!("{message}, using what is permitted");
    }
}

/// The instructions for the first process, and the folders that it needs.
fn prepare(inner: &Inner, spec: &ContainerSpec) -> Result<Launch, StartError> {
    let Inner { shared, pod, .. } = inner;
    let missing = |id: &String| StartError::ImageMissing(id.clone());
    let (layers, image) = shared.images.layers(&spec.image).ok_or_else(|| missing(&spec.image))?;
    let mut image_volumes = BTreeMap::new();
    for id in spec.mounts.iter().filter_map(|m| m.image.as_ref()) {
        let (layers, _) = shared.images.layers(id).ok_or_else(|| missing(id))?;
        image_volumes.insert(id.clone(), layers);
    }
    let (writable, relative) = shared.layout.container(&spec.id);
    for name in ["upper", "work"] {
        let dir = writable.join(name);
        std::fs::create_dir_all(&dir).at("create", &dir)?;
    }
    let capabilities = security::capabilities(spec.privileged, &spec.capabilities)?;
    let cgroups = match shared.cgroups.v1_folders(&inner.container_cgroup(&spec.id)) {
        None => CgroupView::V2,
        Some(folders) => CgroupView::V1(folders),
    };
    let working_dir = [&spec.working_dir, &image.working_dir]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .cloned()
        .unwrap_or_default();
    Ok(Launch {
        process: ProcessSpec {
            argv: spec.argv.clone(),
            env: environment(spec, &image, &inner.spec),
            working_dir,
            capabilities: capabilities.bits(),
            no_new_privs: spec.no_new_privs,
            filter: security::filter(spec, capabilities)?,
            rlimits: spec.rlimits.clone(),
            oom_score_adj: spec.oom_score_adj,
            tty_size: None,
            apparmor: spec.apparmor.clone().filter(|_| !spec.privileged),
        },
        user: spec.user.clone(),
        rootfs: Rootfs {
            layers_dir: shared.layout.layers(),
            layers,
            upper: format!("{relative}/upper"),
            work: format!("{relative}/work"),
            mount_point: shared.layout.mount_point(),
            read_only: spec.read_only_root,
        },
        namespaces: create::namespaces(&inner.spec)
            .into_iter()
            .map(|(kind, name)| (kind, pod.namespace(name)))
            .collect(),
        mounts: spec.mounts.clone(),
        image_volumes,
        devices: spec.devices.clone(),
        privileged: spec.privileged,
        masked_paths: security::masked_paths(spec),
        readonly_paths: security::readonly_paths(spec),
        shm: if inner.spec.host_ipc { "/dev/shm".into() } else { pod.shm() },
        cgroups,
        has_mqueue: Path::new("/proc/sys/fs/mqueue").exists(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_one_name_wins() {
        let strings = |v: &[&str]| v.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let image = ImageConfig { env: strings(&["PATH=/bin", "A=1"]), ..Default::default() };
        let spec = ContainerSpec {
            env: strings(&["A=2", "B=x=y", "B="]),
            tty: true,
            ..Default::default()
        };
        let sandbox = SandboxSpec { hostname: "pod".into(), ..Default::default() };
        let env = environment(&spec, &image, &sandbox);
        assert_eq!(env, strings(&["PATH=/bin", "TERM=xterm", "A=2", "HOSTNAME=pod", "B="]));
        let none =
            environment(&ContainerSpec::default(), &ImageConfig::default(), &Default::default());
        assert_eq!(none, [format!("PATH={DEFAULT_PATH}")]);
    }
}
