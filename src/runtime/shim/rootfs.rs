//! The file tree of a container, assembled in a mount namespace of its own: image layers, system
//! filesystems, devices, volumes, masks.
//!
//! Everything is mounted from the new process itself, so every mount has its own propagation and
//! nothing is left on the host when the process ends.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use linux::fs::{self, Root};
use linux::mount::{self, Attributes, NODEV, NOEXEC, NOSUID, RDONLY};
use linux::namespace;
use linux::process;
use linux::procfs;

use super::launch::{CgroupView, Failure, Launch, Tried};
use crate::spec::{Device, Mount, Propagation};

const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_RDONLY: u64 = 1;
const S_IFCHR: u32 = 0o020_000;

/// The device nodes of every container: name, minor, major.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Assembles the tree and makes it the process's root. `go` is called when the process has to be
/// in its cgroup.
pub(super) fn assemble(
    launch: &Launch,
    go: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Copies of the sources come first, while they still belong to the host's propagation groups.
    let mut volumes = Vec::new();
    for wanted in launch.mounts.iter().filter(|m| m.image.is_none()) {
        volumes.push((wanted, source_of(wanted)?));
    }
    let shm = mount::clone_tree(&launch.shm, false).tried(|| "/dev/shm".into())?;
    let cgroups = cgroup_sources(&launch.cgroups)?;
    mount::set_propagation("/", mount::Propagation::Private, true)
        .tried(|| "make mounts private".into())?;
    for wanted in launch.mounts.iter() {
        if let Some(image) = &wanted.image {
            volumes.push((wanted, image_source(launch, image, wanted)?));
        }
    }
    // Parents before children.
    volumes.sort_by_key(|(wanted, _)| wanted.destination.components().count());

    let root = overlay(launch)?;
    let covers = |path: &str| launch.mounts.iter().any(|m| m.destination == Path::new(path));
    process::umask(0);
    system_mounts(&root, launch)?;
    if !covers("/dev") {
        devices(&root, launch, shm)?;
    }
    process::umask(0o022);
    for (wanted, tree) in volumes {
        attach_volume(&root, wanted, tree)?;
    }
    go()?;
    show_cgroups(&root, launch, cgroups).tried(|| "/sys/fs/cgroup".into())?;
    if !launch.privileged {
        for path in &launch.readonly_paths {
            make_read_only(&root, path).tried(|| format!("make {path} read-only"))?;
        }
        for path in &launch.masked_paths {
            mask(&root, path).tried(|| format!("mask {path}"))?;
        }
    }
    if launch.rootfs.read_only {
        let read_only = Attributes { set: RDONLY, ..Default::default() };
        read_only.apply(&root).tried(|| "make the root read-only".into())?;
    }
    mount::pivot_root(&root).tried(|| "pivot_root".into())
}

/// A detached copy of a volume's source, with the propagation and flags that it is to have.
fn source_of(wanted: &Mount) -> Result<OwnedFd, Failure> {
    let source = &wanted.source;
    let shown = source.display();
    match std::fs::metadata(source) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // As container runtimes have always done for a host path without a type.
            std::fs::create_dir_all(source).tried(|| format!("mkdir {shown}"))?;
        }
        Err(e) => return Err(e).tried(|| format!("stat {shown}")),
        Ok(_) => {}
    }
    if wanted.propagation == Propagation::Bidirectional {
        let real = source.canonicalize().tried(|| format!("realpath {shown}"))?;
        let mounts = procfs::mounts().tried(|| "mountinfo".into())?;
        if let Some(mount) = procfs::mount_of(&mounts, &real).filter(|m| !m.shared) {
            let at = mount.mount_point.display();
            return Err(Failure::Create(format!(
                "path {:?} is mounted on {:?} but it is not a shared mount",
                shown.to_string(),
                at.to_string(),
            )));
        }
    }
    let tree = mount::clone_tree(source, true).tried(|| format!("mount {shown}"))?;
    set_up(wanted, &tree).tried(|| format!("mount {shown}"))?;
    Ok(tree)
}

fn set_up(wanted: &Mount, tree: &OwnedFd) -> io::Result<()> {
    let propagation = match wanted.propagation {
        Propagation::None => Some(mount::Propagation::Private),
        Propagation::HostToContainer => Some(mount::Propagation::Slave),
        Propagation::Bidirectional => None,
    };
    let all = Attributes { propagation, recursive: true, ..Default::default() };
    if propagation.is_some() {
        all.apply(tree)?;
    }
    if wanted.readonly {
        let recursive = wanted.recursive_readonly;
        Attributes { set: RDONLY, recursive, ..Default::default() }.apply(tree)?;
    }
    Ok(())
}

/// A detached mount of a part of an image.
fn image_source(launch: &Launch, image: &str, wanted: &Mount) -> Result<OwnedFd, Failure> {
    let what = || format!("mount image {image}");
    let layers = launch.image_volumes.get(image).map(Vec::as_slice).unwrap_or_default();
    let base = &launch.rootfs.layers_dir;
    // Attached for a moment to the place of the root, because a subfolder of a detached mount
    // cannot be cloned.
    let place = &launch.rootfs.mount_point;
    match layers {
        [] => return Err(Failure::Create(format!("image {image:?} has no layers"))),
        [one] => mount::bind(base.join(one), place).tried(what)?,
        many => {
            std::env::set_current_dir(base).tried(what)?;
            let lower = format!("lowerdir={}", many.join(":"));
            mount::mount("overlay", "overlay", place, MS_RDONLY, Some(&lower)).tried(what)?;
        }
    }
    let within = wanted.source.strip_prefix("/").unwrap_or(&wanted.source);
    let tree = Root::open(place)
        .and_then(|root| root.find(within))
        .and_then(|found| mount::clone_tree_of(found, false))
        .tried(|| format!("image {image} subpath {}", within.display()))?;
    Attributes { set: RDONLY, ..Default::default() }.apply(&tree).tried(what)?;
    mount::unmount(place).tried(what)?;
    Ok(tree)
}

/// Mounts the image's layers with the container's writable one on top.
fn overlay(launch: &Launch) -> Result<Root, Failure> {
    let rootfs = &launch.rootfs;
    std::env::set_current_dir(&rootfs.layers_dir).tried(|| "layers".into())?;
    // "volatile": the writable layer need not survive a crash, as no container does, so its end
    // need not wait for the disk.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        rootfs.layers.join(":"),
        rootfs.upper,
        rootfs.work
    );
    mount::mount("overlay", "overlay", &rootfs.mount_point, 0, Some(&options))
        .tried(|| "mount root filesystem".into())?;
    Root::open(&rootfs.mount_point).tried(|| "open root filesystem".into())
}

/// Mounts a filesystem at a path of the tree with `mount(2)`.
fn mount_at(
    root: &Root,
    fstype: &str,
    path: &str,
    flags: u64,
    data: Option<&str>,
) -> Result<(), Failure> {
    let mounted = root
        .make_mount_point(path, true)
        .and_then(|at| mount::mount(fstype, fstype, mount::path_of(at.as_fd()), flags, data));
    mounted.tried(|| format!("mount {fstype} at /{path}"))
}

fn system_mounts(root: &Root, launch: &Launch) -> Result<(), Failure> {
    let safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount_at(root, "proc", "proc", safe, None)?;
    let read_only = if launch.privileged { 0 } else { MS_RDONLY };
    mount_at(root, "sysfs", "sys", safe | read_only, None)
}

fn devices(root: &Root, launch: &Launch, shm: OwnedFd) -> Result<(), Failure> {
    mount_at(root, "tmpfs", "dev", MS_NOSUID, Some("mode=755,size=65536k"))?;
    let dev = root.open_file("dev", 0, 0).map(Root::from_fd).tried(|| "/dev".into())?;
    populate(&dev, shm).tried(|| "/dev".into())?;
    let safe = MS_NOSUID | MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_at(root, "devpts", "dev/pts", safe, options)?;
    if launch.has_mqueue {
        mount_at(root, "mqueue", "dev/mqueue", safe | MS_NODEV, None)?;
    }
    if launch.privileged {
        copy_nodes(Path::new("/dev"), &dev, Path::new("")).tried(|| "host devices".into())?;
    }
    for device in &launch.devices {
        add_device(root, device).tried(|| format!("device {}", device.host_path.display()))?;
    }
    Ok(())
}

fn populate(dev: &Root, shm: OwnedFd) -> io::Result<()> {
    for (name, major, minor) in NODES {
        fs::make_node(dev.as_fd(), OsStr::new(name), S_IFCHR | 0o666, major, minor)?;
    }
    for (name, target) in LINKS {
        fs::make_link(dev.as_fd(), OsStr::new(name), OsStr::new(target))?;
    }
    for name in ["pts", "mqueue", "shm"] {
        fs::make_folder(dev.as_fd(), OsStr::new(name), 0o755)?;
    }
    let private = Some(mount::Propagation::Private);
    let set = NOSUID | NODEV | NOEXEC;
    Attributes { set, propagation: private, ..Default::default() }.apply(&shm)?;
    mount::attach(shm, dev.find("shm")?)
}

/// Makes nodes for all of the host's devices but those that a container has anyway.
fn copy_nodes(host: &Path, dev: &Root, below: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(host.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
            if !own.iter().any(|name| path == Path::new(name)) {
                copy_nodes(host, dev, &path)?;
            }
        } else if kind.is_block_device() || kind.is_char_device() {
            let Ok(metadata) = entry.metadata() else { continue };
            if path != Path::new("console") && path != Path::new("ptmx") {
                make_node(dev, &path, &metadata)?;
            }
        }
    }
    Ok(())
}

fn make_node(root: &Root, path: &Path, of: &std::fs::Metadata) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent = root.make_folders(path.parent().unwrap_or(Path::new("")), &mut |_| {})?;
    if fs::mode_at(parent.as_fd(), name)?.is_some() {
        return Ok(());
    }
    let (major, minor) = fs::device_numbers(of.rdev());
    fs::make_node(parent.as_fd(), name, of.mode(), major, minor)?;
    fs::set_owner(parent.as_fd(), name, of.uid(), of.gid())
}

fn add_device(root: &Root, device: &Device) -> io::Result<()> {
    let metadata = std::fs::metadata(&device.host_path)?;
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(io::Error::other("not a device node"));
    }
    make_node(root, &device.container_path, &metadata)
}

fn attach_volume(root: &Root, wanted: &Mount, tree: OwnedFd) -> Result<(), Failure> {
    let attach = || -> io::Result<()> {
        if wanted.destination.components().count() <= 1 {
            return Err(io::Error::other("the root cannot be mounted over"));
        }
        let folder = fs::is_folder(&tree)?;
        mount::attach(&tree, root.make_mount_point(&wanted.destination, folder)?)
    };
    let (from, to) = (wanted.source.display(), wanted.destination.display());
    attach().tried(|| format!("mount {from} at {to}"))
}

/// Copies of the container's folders in the hierarchies of v1, read-only.
fn cgroup_sources(view: &CgroupView) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let CgroupView::V1(folders) = view else { return Ok(Vec::new()) };
    let copy = |(name, folder): &(String, PathBuf)| {
        let tree = mount::clone_tree(folder, false)?;
        let set = RDONLY | NOSUID | NODEV | NOEXEC;
        let propagation = Some(mount::Propagation::Private);
        Attributes { set, propagation, ..Default::default() }.apply(&tree)?;
        Ok((name.clone(), tree))
    };
    folders.iter().map(|f| copy(f).tried(|| format!("cgroup {}", f.0))).collect()
}

fn show_cgroups(root: &Root, launch: &Launch, sources: Vec<(String, OwnedFd)>) -> io::Result<()> {
    let safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    // A volume at /sys hides it, or the kernel has none.
    let Some(at) = if_there(root, "sys/fs/cgroup")? else { return Ok(()) };
    if matches!(launch.cgroups, CgroupView::V2) {
        namespace::unshare(namespace::CGROUP)?;
        let read_only = if launch.privileged { 0 } else { MS_RDONLY };
        let at = mount::path_of(at.as_fd());
        return mount::mount("cgroup2", "cgroup", at, safe | read_only, None);
    }
    let tmpfs = mount::FsContext::open("tmpfs")?;
    tmpfs.set("mode", "755")?;
    let tmpfs = tmpfs.mount(NOSUID | NODEV | NOEXEC)?;
    mount::attach(&tmpfs, at)?;
    for (name, tree) in sources {
        fs::make_folder(tmpfs.as_fd(), OsStr::new(&name), 0o755)?;
        mount::attach(tree, root.find(Path::new("sys/fs/cgroup").join(name))?)?;
    }
    Attributes { set: RDONLY, ..Default::default() }.apply(&tmpfs)
}

/// Something that may not exist in this kernel or image.
fn if_there(root: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    match root.find(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn make_read_only(root: &Root, path: &str) -> io::Result<()> {
    let Some(at) = if_there(root, path)? else { return Ok(()) };
    let tree = mount::clone_tree_of(&at, true)?;
    Attributes { set: RDONLY, recursive: true, ..Default::default() }.apply(&tree)?;
    mount::attach(tree, at)
}

fn mask(root: &Root, path: &str) -> io::Result<()> {
    let Some(at) = if_there(root, path)? else { return Ok(()) };
    if fs::is_folder(&at)? {
        let flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
        return mount::mount("tmpfs", "tmpfs", mount::path_of(at.as_fd()), flags, None);
    }
    let null = mount::clone_tree("/dev/null", false)?;
    mount::attach(null, at)
}
