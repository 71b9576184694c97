//! Processes: fork and clone for single-threaded programs, exec, wait, pidfd, credentials, prctl.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::signal::Signal;
use crate::sys::{cstr, cvt, cvt_long, retry};

/// A process id.
pub type Pid = i32;

/// On which side of a fork one is.
#[derive(Debug)]
pub enum Fork {
    /// In the parent, with the child's id.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Refuses to go on in a program with threads: a forked child of one may deadlock on a lock that
/// another thread held. The kernel answers this one: unsharing the thread group is a no-op for a
/// program with one thread and an error for all others.
fn single_threaded() -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::unshare(libc::CLONE_THREAD) })
        .map(drop)
        .map_err(|_| io::Error::other("fork in a program with threads"))
}

/// Forks; an error in a program with more than one thread.
pub fn fork() -> io::Result<Fork> {
    single_threaded()?;
    // SAFETY: there is one thread, so the child is as good as the parent.
    match cvt(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// libc's constant of this name does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces and, on cgroup v2, into a cgroup (a descriptor of its folder), which
/// is far cheaper than moving the process there later. An error with more than one thread.
pub fn clone_into(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    single_threaded()?;
    // SAFETY: clone_args is plain data. Without CLONE_VM the child has its own copy of the memory
    // and goes on at the same place, as after fork.
    let pid = unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = namespaces as u32 as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if let Some(fd) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = fd.as_raw_fd() as u64;
        }
        libc::syscall(libc::SYS_clone3, &args, std::mem::size_of::<libc::clone_args>())
    };
    match cvt_long(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as Pid)),
    }
}

/// Ends the process at once, without destructors or exit handlers: the way out of a forked child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// The process's own id.
pub fn own_pid() -> Pid {
    std::process::id() as Pid
}

fn c_strings<S: AsRef<OsStr>>(items: &[S]) -> io::Result<Vec<CString>> {
    items.iter().map(cstr).collect()
}

fn pointers(items: &[CString]) -> Vec<*const libc::c_char> {
    items.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Replaces the process. Comes back only with an error.
pub fn exec<S: AsRef<OsStr>>(path: impl AsRef<OsStr>, argv: &[S], env: &[S]) -> io::Error {
    let call = || -> io::Result<()> {
        let (path, argv, env) = (cstr(path)?, c_strings(argv)?, c_strings(env)?);
        // SAFETY: both arrays are NULL-terminated and outlive the call.
        cvt(unsafe {
            libc::execve(path.as_ptr(), pointers(&argv).as_ptr(), pointers(&env).as_ptr())
        })
        .map(drop)
    };
    call().err().unwrap_or_else(|| io::Error::other("execve came back"))
}

/// Replaces the process by an open executable. Comes back only with an error.
pub fn exec_fd<S: AsRef<OsStr>>(fd: impl AsFd, argv: &[S], env: &[S]) -> io::Error {
    let call = || -> io::Result<()> {
        let (argv, env) = (c_strings(argv)?, c_strings(env)?);
        // SAFETY: both arrays are NULL-terminated and outlive the call.
        cvt_long(unsafe {
            libc::syscall(
                libc::SYS_execveat,
                fd.as_fd().as_raw_fd(),
                c"".as_ptr(),
                pointers(&argv).as_ptr(),
                pointers(&env).as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        })
        .map(drop)
    };
    call().err().unwrap_or_else(|| io::Error::other("execveat came back"))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// The signal that ended it, 0 for none.
    pub signal: i32,
}

fn exit_of(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        Exit { code: 128 + signal, signal }
    } else {
        Exit { code: libc::WEXITSTATUS(status), signal: 0 }
    }
}

/// Reaps one child that has ended, if there is one.
pub fn reap() -> Option<(Pid, Exit)> {
    let mut status = 0;
    // SAFETY: the status is written to a local.
    let pid = retry(|| cvt(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) })).ok()?;
    (pid > 0).then(|| (pid, exit_of(status)))
}

/// Waits for a child to end.
pub fn wait(pid: Pid) -> io::Result<Exit> {
    let mut status = 0;
    // SAFETY: the status is written to a local.
    retry(|| cvt(unsafe { libc::waitpid(pid, &mut status, 0) }))?;
    Ok(exit_of(status))
}

/// A descriptor of a process; it becomes readable when the process ends.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, close-on-exec by definition, owned here alone.
    unsafe {
        let fd = cvt_long(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Signals the process of a pidfd.
pub fn pidfd_signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is passed.
    cvt_long(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal.0, info, 0)
    })
    .map(drop)
}

/// Signals a process. Only for children not yet reaped, whose id cannot be somebody else's.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::kill(pid, signal.0) }).map(drop)
}

/// Whether there is a process of this id, a zombie not counted.
pub fn exists(pid: Pid) -> bool {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            let state = stat.iter().rposition(|b| *b == b')').and_then(|end| stat.get(end + 2));
            !matches!(state, None | Some(b'Z' | b'X'))
        }
        Err(_) => false,
    }
}

fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: only for options whose arguments are numbers.
    cvt(unsafe { libc::prctl(option, a, b, 0, 0) })
}

/// Makes orphaned descendants children of this process.
pub fn set_child_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// This process is killed when its parent ends.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map(drop)
}

/// Whether others of the same user may look into this process (and its `/proc` files).
pub fn set_dumpable(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, on.into(), 0).map(drop)
}

/// No privileges are gained by exec from now on.
pub fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// The name that `ps` shows for the process.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated; the kernel copies 16 bytes at most.
    cvt(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr() as u64, 0, 0, 0) }).map(drop)
}

/// Starts a session of its own.
pub fn setsid() -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::setsid() }).map(drop)
}

/// Sets the file mode mask.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::umask(mask) }
}

/// Becomes another user for good: supplementary groups, group and user, real, effective and saved.
/// Raw system calls: glibc's would signal every thread.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the groups are valid for their number; the rest are numbers.
    unsafe {
        cvt_long(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        cvt_long(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        cvt_long(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// The number of a resource limit by its name (`RLIMIT_NOFILE`).
pub fn rlimit_by_name(name: &str) -> Option<u32> {
    Some(match name.strip_prefix("RLIMIT_").unwrap_or(name) {
        "AS" => libc::RLIMIT_AS,
        "CORE" => libc::RLIMIT_CORE,
        "CPU" => libc::RLIMIT_CPU,
        "DATA" => libc::RLIMIT_DATA,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "LOCKS" => libc::RLIMIT_LOCKS,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "NOFILE" => libc::RLIMIT_NOFILE,
        "NPROC" => libc::RLIMIT_NPROC,
        "RSS" => libc::RLIMIT_RSS,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "STACK" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

/// Sets a resource limit of this process. Where raising the hard limit is not permitted, both
/// limits are clamped to it. Answers whether they were.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<bool> {
    let set = |soft: u64, hard: u64| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the limit outlives the call.
        cvt(unsafe { libc::setrlimit(resource, &limit) })
    };
    match set(soft, hard) {
        Ok(_) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the limit is written to a local.
            cvt(unsafe { libc::getrlimit(resource, &mut now) })?;
            set(soft.min(now.rlim_max), hard.min(now.rlim_max))?;
            Ok(true)
        }
        Err(e) => Err(e),
    }
}

/// Whether a host name can be set for the present UTS namespace, and sets it.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the name is valid for its length.
    cvt(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Seconds and nanoseconds since 1970. A syscall-free read of the clock.
pub fn now() -> (i64, u32) {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut ts) };
    (ts.tv_sec, ts.tv_nsec as u32)
}

/// Whether the kernel is told (by NTP or the like) that its clock is right.
pub fn clock_synchronized() -> bool {
    const UNSYNCHRONIZED: libc::c_int = 5;
    // SAFETY: timex is plain data; without modes the kernel only writes to it.
    unsafe {
        let mut state: libc::timex = std::mem::zeroed();
        let clock = libc::adjtimex(&mut state);
        (0..UNSYNCHRONIZED).contains(&clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forking_with_threads_is_refused() {
        // The test harness runs tests on threads.
        assert!(fork().is_err());
        assert!(clone_into(0, None).is_err());
    }

    #[test]
    fn rlimits_are_clamped_or_set() {
        let nofile = rlimit_by_name("RLIMIT_NOFILE").unwrap();
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: written to a local.
        unsafe { libc::getrlimit(nofile, &mut now) };
        assert!(!set_rlimit(nofile, now.rlim_cur, now.rlim_max).unwrap());
        assert_eq!(rlimit_by_name("RLIMIT_NONE"), None);
    }

    #[test]
    fn pidfd_of_a_child() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let fd = pidfd_open(child.id() as Pid).unwrap();
        pidfd_signal(&fd, Signal::KILL).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(pidfd_signal(&fd, Signal::KILL).is_err());
    }
}
