//! The last steps of a container's process before its program: streams, limits, identity,
//! capabilities, system call filter, exec. The same for the first process and for later ones, so
//! that an exec has everything that the container has.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use linux::capability::{self, Set};
use linux::fd;
use linux::fs::{self, Root};
use linux::mount;
use linux::process;
use linux::pty;
use linux::seccomp::{self, Filter};
use linux::users::{self, Group, User};
use serde::{Deserialize, Serialize};

use super::launch::{Failure, Identity, Streams, Tried, plain};
use super::protocol::{self, Status};
use crate::spec::{ResolvedUser, Rlimit, UserSpec};

/// A program and what it may do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessSpec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    /// Bits of a capability set.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privs: bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: i32,
    pub(crate) tty_size: Option<(u16, u16)>,
    /// An AppArmor profile, from the exec on.
    pub(crate) apparmor: Option<String>,
}

/// Looks a user up in the files of the root filesystem, which is `/` by now.
pub(crate) fn identify(wanted: &UserSpec) -> Result<Identity, Failure> {
    let root = Root::open("/").tried(|| "open /".into())?;
    let read = |path: &str| {
        let content = root.read(path, users::MAX_FILE).unwrap_or_default();
        content.unwrap_or_default()
    };
    let known: Vec<User> = users::users(&read("etc/passwd")).collect();
    let groups: Vec<Group> = users::groups(&read("etc/group")).collect();
    resolve(wanted, &known, &groups).map_err(Failure::Create)
}

/// The identity for a wish, by the rules of [`UserSpec`].
fn resolve(wanted: &UserSpec, known: &[User], groups: &[Group]) -> Result<Identity, String> {
    let (name, group) = match wanted.username.split_once(':') {
        Some((name, group)) => (name, group),
        None => (wanted.username.as_str(), ""),
    };
    let user = match (wanted.uid, name) {
        (Some(uid), _) => known.iter().find(|u| u.uid == uid),
        (None, "") => known.iter().find(|u| u.uid == 0),
        (None, name) => known
            .iter()
            .find(|u| u.name == name)
            .or_else(|| known.iter().find(|u| name.parse() == Ok(u.uid))),
    };
    let uid = match (wanted.uid, user, name) {
        (Some(uid), ..) => uid,
        (None, Some(user), _) => user.uid,
        (None, None, "") => 0,
        (None, None, name) => name.parse().map_err(|_| {
            format!("unable to find user {name}: no matching entries in passwd file")
        })?,
    };
    let by_name = |group: &str| -> Result<u32, String> {
        let found = groups.iter().find(|g| g.name == group).map(|g| g.gid);
        found.map_or_else(
            || {
                group.parse().map_err(|_| {
                    format!("unable to find group {group}: no matching entries in group file")
                })
            },
            Ok,
        )
    };
    let gid = match (wanted.gid, group) {
        (Some(gid), _) => gid,
        // The image's group goes with the image's user.
        (None, group) if !group.is_empty() && wanted.uid.is_none() => by_name(group)?,
        _ => user.map_or(0, |u| u.gid),
    };
    let member = |g: &&Group| user.is_some_and(|u| g.members.contains(&u.name));
    let from_image = groups.iter().filter(member).map(|g| g.gid);
    let from_image = from_image.filter(|_| !wanted.strict_groups);
    let mut all = vec![gid];
    for gid in from_image.chain(wanted.supplementary_groups.iter().copied()).chain(wanted.fs_group)
    {
        if !all.contains(&gid) {
            all.push(gid);
        }
    }
    let home = user.map(|u| u.home.clone()).filter(|home| !home.is_empty());
    Ok(Identity {
        user: ResolvedUser { uid, gid, groups: all },
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

/// Runs the program. Comes back only with a failure.
pub(crate) fn run(
    spec: ProcessSpec,
    identity: &Identity,
    streams: Streams,
    status: &UnixStream,
    first: bool,
) -> Failure {
    match try_run(spec, identity, streams, status, first) {
        Ok(failure) | Err(failure) => failure,
    }
}

fn try_run(
    mut spec: ProcessSpec,
    identity: &Identity,
    streams: Streams,
    status: &UnixStream,
    first: bool,
) -> Result<Failure, Failure> {
    let user = &identity.user;
    process::setsid().tried(|| "new session".into())?;
    connect(streams, user.uid, spec.tty_size, first).tried(|| "standard streams".into())?;
    limit(&spec, status)?;
    enter_working_dir(&spec.working_dir, first)?;
    if first && !spec.env.iter().any(|e| e.starts_with("HOME=")) {
        spec.env.push(format!("HOME={}", identity.home));
    }

    if let Some(profile) = &spec.apparmor {
        confine(profile).tried(|| format!("apply apparmor profile {profile:?}"))?;
    }
    // Without no_new_privs a filter is a privileged thing, to be done before they are gone.
    if let Some(filter) = spec.filter.as_ref().filter(|_| !spec.no_new_privs) {
        seccomp::install(filter).tried(|| "seccomp filter".into())?;
    }
    let capabilities = Set::from_bits(spec.capabilities).and(capability::bounding());
    capability::limit_bounding(capabilities).tried(|| "capabilities".into())?;
    process::become_user(user.uid, user.gid, &user.groups)
        .tried(|| format!("become user {}", user.uid))?;
    // What another user keeps is lost at the exec anyway, there are no ambient capabilities.
    let effective = if user.uid == 0 { capabilities } else { Set::NONE };
    capability::set_effective(effective).tried(|| "capabilities".into())?;

    let program = look_up(&spec)?;
    if first {
        let json = serde_json::to_string(identity).unwrap_or_default();
        protocol::send(status, &Status::Ready(json), &[]).tried(|| "report".into())?;
    } else {
        protocol::send(status, &Status::Ready(String::new()), &[]).tried(|| "report".into())?;
    }
    // Nothing of the host may be open in the program.
    fd::close_on_exec_from(3).tried(|| "close descriptors".into())?;
    if spec.no_new_privs {
        process::set_no_new_privs().tried(|| "no_new_privs".into())?;
        if let Some(filter) = &spec.filter {
            seccomp::install(filter).tried(|| "seccomp filter".into())?;
        }
    }
    let error = process::exec(&program, &spec.argv, &spec.env);
    Ok(Failure::Run(format!("exec {}: {}", program.display(), plain(&error))))
}

/// Makes the streams, or a terminal, the process's own.
fn connect(streams: Streams, uid: u32, size: Option<(u16, u16)>, first: bool) -> io::Result<()> {
    match streams {
        Streams::Pipes(pipes) => {
            for (number, pipe) in pipes.iter().enumerate() {
                // A program may open /dev/stdout anew, which is its own then.
                let is_pipe = std::fs::metadata(mount::path_of(pipe.as_fd()))
                    .is_ok_and(|m| m.file_type().is_fifo());
                if uid != 0 && is_pipe {
                    fs::set_owner_of(pipe, uid, u32::MAX)?;
                }
                fd::set_stdio(pipe, number as i32)?;
            }
            Ok(())
        }
        Streams::Terminal(socket) => {
            let root = Root::open("/")?;
            let (master, number) = pty::open(&root)?;
            let slave = pty::open_slave(&root, number)?;
            if let Some((columns, rows)) = size {
                pty::resize(&slave, columns, rows)?;
            }
            if first {
                let console = root.make_mount_point("dev/console", false)?;
                mount::bind(format!("/dev/pts/{number}"), mount::path_of(console.as_fd()))?;
            }
            fs::set_owner_of(&slave, uid, u32::MAX)?;
            protocol::send(&socket, &Status::Terminal, &[master.as_fd()])?;
            take_terminal(slave.as_fd())
        }
    }
}

fn take_terminal(slave: BorrowedFd<'_>) -> io::Result<()> {
    // The standard streams may be what stands in their way.
    let slave: OwnedFd = fd::duplicate_above(slave, 3)?;
    (0..3).try_for_each(|number| fd::set_stdio(&slave, number))?;
    pty::make_controlling(&slave)
}

fn limit(spec: &ProcessSpec, status: &UnixStream) -> Result<(), Failure> {
    let warn = |text: String| drop(protocol::send(status, &Status::Warning(text), &[]));
    for limit in &spec.rlimits {
        let number = process::rlimit_by_name(&limit.kind)
            .ok_or_else(|| Failure::Create(format!("unknown resource limit {:?}", limit.kind)))?;
        let clamped =
            process::set_rlimit(number, limit.soft, limit.hard).tried(|| limit.kind.clone())?;
        if clamped {
            warn("hard resource limits cannot be raised".into());
        }
    }
    match std::fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string()) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            warn("oom_score_adj cannot be lowered".into());
            Ok(())
        }
        other => other.tried(|| "oom_score_adj".into()),
    }
}

/// Names the AppArmor profile that the exec enters.
fn confine(profile: &str) -> io::Result<()> {
    // Where several security modules are stacked, only the first file is AppArmor's own.
    let own = Path::new("/proc/self/attr/apparmor/exec");
    let path = if own.exists() { own } else { Path::new("/proc/self/attr/exec") };
    std::fs::write(path, format!("exec {profile}"))
}

fn enter_working_dir(path: &str, first: bool) -> Result<(), Failure> {
    let path = if path.is_empty() { "/" } else { path };
    let enter = || -> io::Result<()> {
        if first {
            Root::open("/")?.make_folders(path, &mut |_| {})?;
        }
        std::env::set_current_dir(path)?;
        // A descriptor of the host as working directory would be the way out.
        let real = std::env::current_dir()?;
        if real.is_absolute() { Ok(()) } else { Err(io::Error::other("outside of the container")) }
    };
    enter().tried(|| format!("chdir to cwd ({path:?})"))
}

/// The program for a command line, by the rules of a shell, with the messages of runc.
fn look_up(spec: &ProcessSpec) -> Result<PathBuf, Failure> {
    let Some(name) = spec.argv.first() else {
        return Err(Failure::Run("no command specified".into()));
    };
    let failed = |why: &str| Failure::Run(format!("exec: {name:?}: {why}"));
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(failed(&format!("stat {name}: {}", plain(&e))))
            }
            Err(e) => Err(failed(&plain(&e))),
        };
    }
    let path = spec.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let candidates =
        path.split(':').map(|f| Path::new(if f.is_empty() { "." } else { f }).join(name));
    candidates
        .into_iter()
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| failed("executable file not found in $PATH"))
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32, gid: u32) -> User {
        User { name: name.into(), uid, gid, home: format!("/home/{name}") }
    }
    fn group(name: &str, gid: u32, members: &[&str]) -> Group {
        Group { name: name.into(), gid, members: members.iter().map(|m| m.to_string()).collect() }
    }

    #[test]
    fn users_as_kubernetes_finds_them() {
        let known = [user("root", 0, 0), user("web", 33, 34), user("1000", 7, 8)];
        let groups = [group("root", 0, &[]), group("log", 4, &["web"]), group("web", 34, &[])];
        let spec = |username: &str, uid, gid| UserSpec {
            username: username.into(),
            uid,
            gid,
            ..Default::default()
        };
        let with = |mut s: UserSpec, extra: &[u32], fs, strict| {
            s.supplementary_groups = extra.to_vec();
            s.fs_group = fs;
            s.strict_groups = strict;
            s
        };
        for (wanted, want) in [
            (spec("", None, None), (0, 0, vec![0])),
            (spec("web", None, None), (33, 34, vec![34, 4])),
            (spec("33", None, None), (33, 34, vec![34, 4])),
            (spec("web:log", None, None), (33, 4, vec![4])),
            (spec("web:99", None, None), (33, 99, vec![99, 4])),
            (spec("4711", None, None), (4711, 0, vec![0])),
            (spec("4711:12", None, None), (4711, 12, vec![12])),
            // A name that looks like a number is a name.
            (spec("1000", None, None), (7, 8, vec![8])),
            // The pod's user wins, and the image's group with its user is out.
            (spec("web:log", Some(5), None), (5, 0, vec![0])),
            (spec("root", Some(33), None), (33, 34, vec![34, 4])),
            (spec("web", None, Some(1)), (33, 1, vec![1, 4])),
            (with(spec("web", None, None), &[9, 4], Some(10), false), (33, 34, vec![34, 4, 9, 10])),
            (with(spec("web", None, None), &[9], Some(10), true), (33, 34, vec![34, 9, 10])),
        ] {
            let got = resolve(&wanted, &known, &groups).unwrap().user;
            assert_eq!((got.uid, got.gid, got.groups), want, "{wanted:?}");
        }
        let missing = resolve(&spec("nope", None, None), &known, &groups).unwrap_err();
        assert_eq!(missing, "unable to find user nope: no matching entries in passwd file");
        let missing = resolve(&spec("web:nope", None, None), &known, &groups).unwrap_err();
        assert_eq!(missing, "unable to find group nope: no matching entries in group file");
    }

    #[test]
    fn programs_by_path_and_name() {
        let spec = |name: &str| ProcessSpec {
            argv: vec![name.into()],
            env: vec!["PATH=/nonexistent:/bin:/usr/bin".into()],
            ..Default::default()
        };
        let message = |name: &str| match look_up(&spec(name)) {
            Err(Failure::Run(message)) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(look_up(&spec("sh")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(look_up(&spec("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(message("nope"), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(message("/nope"), "exec: \"/nope\": stat /nope: no such file or directory");
        assert_eq!(message("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(message("/etc"), "exec: \"/etc\": is a directory");
    }
}
