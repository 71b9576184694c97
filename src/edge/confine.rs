//! What the edge gives up before it reads a stranger's first byte: its user, its capabilities, and
//! every system call that serving does not need.

use std::io;

use linux::capability::Set;
use linux::process;
use linux::seccomp::{Arg, Compare, Profile, Rule};

/// Why a process keeps more power than it should have, and must not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// A step that takes privileges away failed.
    #[error("cannot give up {what}: {source}")]
    Step {
        /// What could not be given up.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The filter of system calls is not valid.
    #[error(transparent)]
    Filter(#[from] linux::seccomp::ProfileError),
}

/// Descriptors of the process: a client is one or two of them.
const FILES: u64 = 1 << 20;

/// What a single-threaded server of sockets does.
const CALLS: &[&str] = &[
    // sockets
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
    // files that are open, and the memory of what they are (resolv.conf, this binary)
    "close",
    "fcntl",
    "fstat",
    "lseek",
    "newfstatat",
    "pread64",
    "read",
    "readv",
    "statx",
    "write",
    "writev",
    // waiting
    "clock_gettime",
    "clock_nanosleep",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "futex",
    "poll",
    "ppoll",
    "restart_syscall",
    "sched_yield",
    // memory, signals and the end
    "brk",
    "exit",
    "exit_group",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mremap",
    "munmap",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
];

/// Gives up everything that the process does not need, and becomes `user` if one is named.
pub(crate) fn confine(user: Option<u32>) -> Result<(), ConfineError> {
    let step =
        |what, result: io::Result<()>| result.map_err(|source| ConfineError::Step { what, source });
    // A signal to the agent's group or terminal is not for this process.
    step("the agent's session", process::setsid())?;
    if let Some(files) = process::rlimit_by_name("NOFILE") {
        // The soft limit is often 1024, for the sake of programs that use select.
        step("limits", process::set_rlimit(files, FILES, FILES).map(drop))?;
    }
    let none = Set::from_bits(0);
    if linux::capability::bounding() != none {
        // Without the right to do so the set stays: with no_new_privs it is of no use.
        let _not_permitted = linux::capability::limit_bounding(none);
    }
    if let Some(user) = user {
        step("the agent's user", process::become_user(user, user, &[]))?;
    }
    step("capabilities", linux::capability::set_effective(none))?;
    step("new privileges", process::set_no_new_privs())?;
    // Private keys are in this memory: others of the same user must not look into it.
    step("core dumps", process::set_dumpable(false))?;
    let filter = linux::seccomp::compile(&profile(), none)?;
    step("system calls", linux::seccomp::install(&filter))
}

/// Calls that are not named fail with EPERM: a library that asks for something new goes on without.
fn profile() -> Profile {
    let allow = |names: &[&str], args: Option<Vec<Arg>>| Rule {
        names: names.iter().map(ToString::to_string).collect(),
        action: "SCMP_ACT_ALLOW".into(),
        args,
        ..Rule::default()
    };
    let equal =
        |index, value: i32| Arg { index, value: value as u64, value_two: 0, op: Compare::Equal };
    let without = |index, bits: i32| Arg {
        index,
        value: bits as u64,
        value_two: 0,
        op: Compare::MaskedEqual,
    };
    Profile {
        default_action: "SCMP_ACT_ERRNO".into(),
        syscalls: vec![
            allow(CALLS, None),
            // Upstream servers and backends are on the network; nothing else is to be reached.
            allow(&["socket"], Some(vec![equal(0, libc::AF_INET)])),
            allow(&["socket"], Some(vec![equal(0, libc::AF_INET6)])),
            allow(&["ioctl"], Some(vec![equal(1, libc::FIONBIO as i32)])),
            // Files are read.
            allow(
                &["openat"],
                Some(vec![without(2, libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT)]),
            ),
            // No memory becomes code.
            allow(&["mmap", "mprotect"], Some(vec![without(2, libc::PROT_EXEC)])),
        ],
        ..Profile::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        // The filter is for the thread and cannot be taken off: a thread of its own.
        let confined = std::thread::spawn(|| {
            process::set_no_new_privs().unwrap();
            let filter = linux::seccomp::compile(&profile(), Set::from_bits(0)).unwrap();
            linux::seccomp::install(&filter).unwrap();
            let refused = |result: io::Result<()>| {
                result.err().and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
            };
            let listener = std::net::TcpListener::bind("127.0.0.1:0");
            [
                std::fs::read_to_string("/proc/self/status").is_ok(),
                std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
                std::os::unix::net::UnixStream::pair().is_ok(),
                refused(std::fs::write("/tmp/edge-was-here", "").map(drop)),
                refused(std::fs::create_dir("/tmp/edge-was-here")),
                refused(std::os::unix::net::UnixDatagram::unbound().map(drop)),
                refused(std::process::Command::new("/bin/true").spawn().map(drop)),
                // New servers come from the agent.
                refused(listener.map(drop)),
                refused(process::setsid()),
            ]
        });
        assert_eq!(confined.join().unwrap(), [true; 9]);
    }
}
