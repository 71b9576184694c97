//! Terminals: the master and slave of a devpts, sizes, and becoming one's session's terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::fs::Root;
use crate::sys::cvt;

/// Opens a new terminal of the devpts mounted at `dev/pts` below a root. Answers the master and
/// the slave's number.
pub fn open(root: &Root) -> io::Result<(OwnedFd, u32)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = root.open_file("dev/pts/ptmx", flags, 0)?;
    let mut number: libc::c_uint = 0;
    let unlock: libc::c_int = 0;
    // SAFETY: both ioctls read or write one integer, a local.
    unsafe {
        cvt(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock))?;
        cvt(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number))?;
    }
    Ok((master, number))
}

/// Opens the slave of a terminal below a root.
pub fn open_slave(root: &Root, number: u32) -> io::Result<OwnedFd> {
    root.open_file(format!("dev/pts/{number}"), libc::O_RDWR | libc::O_NOCTTY, 0)
}

/// Makes a terminal the controlling one of this session.
pub fn make_controlling(slave: impl AsFd) -> io::Result<()> {
    // SAFETY: the argument is a number.
    cvt(unsafe { libc::ioctl(slave.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Sets the size of a terminal, by its master or slave.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size outlives the call.
    cvt(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}
