//! Signals by name and number, masks and signalfd.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::sys::cvt;

/// A signal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(pub i32);

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The kernel's first and last real-time signals; glibc hides two of them, containers may not.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// SIGKILL.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// SIGCHLD.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// SIGPIPE.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);

    /// A signal from `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMAX-1`, in any case.
    pub fn parse(text: &str) -> Option<Signal> {
        let text = text.trim().to_ascii_uppercase();
        if let Ok(n) = text.parse::<i32>() {
            return (1..=RT_MAX).contains(&n).then_some(Signal(n));
        }
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        if let Some((_, n)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Signal(*n));
        }
        let n = if let Some(offset) = name.strip_prefix("RTMIN") {
            RT_MIN + if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? }
        } else {
            let offset = name.strip_prefix("RTMAX")?;
            RT_MAX
                - if offset.is_empty() {
                    0
                } else {
                    offset.strip_prefix('-')?.parse::<i32>().ok()?
                }
        };
        (RT_MIN..=RT_MAX).contains(&n).then_some(Signal(n))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, n)| *n == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 >= RT_MIN => write!(f, "SIGRTMIN+{}", self.0 - RT_MIN),
            None => write!(f, "{}", self.0),
        }
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, initialised by sigemptyset.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal.0);
        }
        set
    }
}

/// Blocks signals and makes a descriptor (non-blocking, close-on-exec) that is readable when one
/// of them is pending.
pub fn signalfd(signals: &[Signal]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: the set outlives the calls; the descriptor is new and owned here alone.
    unsafe {
        cvt(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        let fd = cvt(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Takes one pending signal off a signalfd.
pub fn take(fd: impl AsFd) -> Option<Signal> {
    let size = std::mem::size_of::<libc::signalfd_siginfo>();
    // SAFETY: signalfd_siginfo is plain data and is written as a whole.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let n = libc::read(fd.as_fd().as_raw_fd(), (&raw mut info).cast(), size);
        (n == size as isize).then_some(Signal(info.ssi_signo as i32))
    }
}

/// Ignores a signal.
pub fn ignore(signal: Signal) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal.0, libc::SIG_IGN) };
}

/// Puts every signal's disposition and the mask back to what a new program expects.
pub fn reset_all() -> io::Result<()> {
    for n in 1..=RT_MAX {
        // SAFETY: no handler is installed; SIGKILL, SIGSTOP and glibc's own refuse, harmlessly.
        unsafe { libc::signal(n, libc::SIG_DFL) };
    }
    let none = set_of(&[]);
    // SAFETY: the set outlives the call.
    cvt(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, want) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("0", None),
            ("65", None),
            ("SIGFOO", None),
            ("", None),
        ] {
            assert_eq!(Signal::parse(text).map(|s| s.0), want, "{text}");
        }
        assert_eq!(Signal(37).to_string(), "SIGRTMIN+3");
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
    }
}
