//! Making a sandbox: namespaces, cgroup, shim.

use std::io;
use std::path::Path;
use std::sync::Arc;

use linux::mount::{self, Attributes, FsContext};
use linux::namespace;
use linux::process;

use super::state::{Inner, Shared};
use super::{Sandbox, discard};
use crate::error::{Context, Error, Result};
use crate::shim_client;
use crate::spec::SandboxSpec;
use crate::sync::{blocking, lock, write_json};

/// Size of a pod's `/dev/shm`, as in other runtimes.
const SHM_SIZE: &str = "67108864";

/// What every user may do in a pod's own network, as containerd allows it: take low ports, ping.
const UNPRIVILEGED: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Makes a sandbox, or answers the one that there is.
pub(crate) async fn create(shared: &Arc<Shared>, spec: SandboxSpec) -> Result<Sandbox> {
    if let Some(sandbox) = lock(&shared.sandboxes).get(&spec.pod_uid) {
        return Ok(sandbox.clone());
    }
    let pod = shared.layout.pod(&spec.pod_uid)?;
    let inner = Arc::new(Inner::new(shared.clone(), spec, pod));
    let this = inner.clone();
    let made = blocking(move || {
        make(&this).inspect_err(|_| {
            let _ = discard(&this);
        })
    });
    let (stream, child) = made.await?;
    inner.follow(stream, Some(child))?;
    let sandbox = Sandbox::new(inner);
    let uid = sandbox.pod_uid().to_owned();
    lock(&shared.sandboxes).insert(uid, sandbox.clone());
    Ok(sandbox)
}

type Shim = (std::os::unix::net::UnixStream, std::process::Child);

fn make(inner: &Inner) -> Result<Shim> {
    let Inner { shared, spec, pod, .. } = inner;
    // Whatever an interrupted predecessor with this uid left.
    if pod.dir.exists() {
        discard(inner)?;
    }
    for dir in [pod.namespaces(), pod.shm(), pod.containers()] {
        std::fs::create_dir_all(&dir).at("create", &dir)?;
    }
    write_json(&pod.spec(), spec, false)?;
    if !spec.log_dir.as_os_str().is_empty() {
        std::fs::create_dir_all(&spec.log_dir).at("create", &spec.log_dir)?;
    }
    // A new network namespace is what takes the kernel longest; the rest happens beside it.
    std::thread::scope(|scope| {
        let namespaces = scope.spawn(|| make_namespaces(inner));
        let program = shared.layout.program();
        let shim = shim_client::spawn(&program, &spec.pod_uid, pod);
        let cgroup = shared.cgroups.create(&spec.cgroup_parent, &spec.resources);
        let shm = make_shm(&pod.shm());
        let namespaces = namespaces.join();
        let mut child = shim?;
        let rest = || {
            namespaces.unwrap_or_else(|_| Err(Error::Gone("namespaces".to_owned())))?;
            cgroup.context(|| format!("create cgroup {}", spec.cgroup_parent))?;
            shm.at("mount", &pod.shm())?;
            inner.subscribe()
        };
        match rest() {
            Ok((_, stream)) => Ok((stream, child)),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    })
}

/// Starts another shim for a sandbox whose own is gone.
pub(super) fn revive(inner: &Inner) -> Result<Shim> {
    let child =
        shim_client::spawn(&inner.shared.layout.program(), &inner.spec.pod_uid, &inner.pod)?;
    let (_, stream) = inner.subscribe()?;
    Ok((stream, child))
}

/// The namespaces that the containers of a pod share, as kinds and names of their pins.
pub(super) fn namespaces(spec: &SandboxSpec) -> Vec<(i32, &'static str)> {
    let mut kinds = Vec::new();
    if !spec.host_network {
        kinds.push((namespace::NET, "net"));
        kinds.push((namespace::UTS, "uts"));
    }
    if !spec.host_ipc {
        kinds.push((namespace::IPC, "ipc"));
    }
    kinds
}

fn make_namespaces(inner: &Inner) -> Result<()> {
    let spec = &inner.spec;
    let pins: Vec<_> = namespaces(spec)
        .into_iter()
        .map(|(kind, name)| (kind, inner.pod.namespace(name)))
        .collect();
    if pins.is_empty() {
        return Ok(());
    }
    let set_up = || -> io::Result<()> {
        if !spec.host_network {
            process::set_hostname(&spec.hostname)?;
            namespace::loopback_up()?;
            // Kernels without one of them have nothing to open up.
            for (name, value) in UNPRIVILEGED {
                let _ = set_sysctl(name, value);
            }
        }
        for (name, value) in &spec.sysctls {
            set_sysctl(name, value)?;
        }
        Ok(())
    };
    namespace::pin(&pins, set_up).context(|| "create namespaces".to_owned())
}

/// Sets a kernel parameter of the present namespaces. Its name is separated by dots or slashes.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    // As sysctl(8): the first separator decides, and a dot between slashes stands for itself.
    let dotted = match (name.find('.'), name.find('/')) {
        (Some(dot), Some(slash)) => dot < slash,
        (dot, _) => dot.is_some(),
    };
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' if dotted => '/',
            '/' if dotted => '.',
            c => c,
        })
        .collect();
    if path.split('/').any(|part| part == ".." || part.is_empty()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("sysctl {name:?}")));
    }
    std::fs::write(Path::new("/proc/sys").join(path), value)
        .map_err(|e| io::Error::new(e.kind(), format!("sysctl {name:?}: {e}")))
}

fn make_shm(path: &Path) -> io::Result<()> {
    let context = FsContext::open("tmpfs")?;
    context.set("size", SHM_SIZE)?;
    context.set("mode", "1777")?;
    let tree = context.mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
    let private = Some(mount::Propagation::Private);
    mount::attach(&tree, std::fs::File::open(path)?)?;
    Attributes { propagation: private, ..Default::default() }.apply(&tree)
}
