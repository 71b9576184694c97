//! Process 1 of a process namespace that the containers of a pod share. It keeps the namespace
//! alive and reaps orphans, and has nothing: no privileges, an empty root.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;

use linux::capability::{self, Set};
use linux::fd::{self, PollFd};
use linux::mount::{self, FsContext, Propagation};
use linux::process;
use linux::signal::{self, Signal};

/// The user and group of the process, as of a pause container.
const NOBODY: u32 = 65_535;

/// Runs the init: `knarr init`. Called before the program has made any thread. Does not come back.
pub fn main(_args: impl Iterator<Item = OsString>) -> ! {
    process::exit_now(match reap_for_ever() {
        Ok(()) => 0,
        Err(_) => 1,
    })
}

fn reap_for_ever() -> io::Result<()> {
    // The namespace goes with its shim.
    process::die_with_parent()?;
    process::set_name(c"knarr-init")?;
    let signals = signal::signalfd(&[Signal::CHLD])?;
    loop {
        fd::poll(&mut [PollFd::readable(&signals)], None)?;
        while signal::take(&signals).is_some() {}
        while process::reap().is_some() {}
    }
}

/// In a process just cloned into new process and mount namespaces: gives everything up and runs
/// [`main`].
pub(crate) fn become_init() -> ! {
    let run = || -> io::Result<io::Error> {
        signal::reset_all()?;
        let program: OwnedFd = std::fs::File::open("/proc/self/exe")?.into();
        mount::set_propagation("/", Propagation::Private, true)?;
        let root = FsContext::open("tmpfs")?.mount(mount::RDONLY | mount::NOSUID | mount::NODEV)?;
        // Any folder will do: it is left behind at once.
        mount::attach(&root, std::fs::File::open("/proc")?)?;
        mount::pivot_root(&root)?;
        fd::close_on_exec_from(3)?;
        capability::limit_bounding(Set::NONE)?;
        process::become_user(NOBODY, NOBODY, &[])?;
        process::set_no_new_privs()?;
        Ok(process::exec_fd(&program, &["knarr", "init"], &[]))
    };
    let _ = run();
    process::exit_now(1)
}
