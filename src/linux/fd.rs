//! File descriptors: pipes, poll, duplication, and passing them over unix sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::{cvt, retry};

/// A pipe: the reading and the writing end, both close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors into the array, which are then owned here alone.
    unsafe {
        cvt(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Reads once; 0 is the end of file.
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    })
}

/// Reads once from a pipe or from a terminal's master, and answers 0 at the end: the end of a terminal
/// whose other side nobody has open any more, which the kernel calls EIO, is an end as well.
///
/// The kernel may say so while its buffer still holds what was written in the last moment: it looks
/// for data first and for the other side afterwards. A second look finds it.
pub fn read_stream(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let end = |e: &io::Error| e.raw_os_error() == Some(libc::EIO);
    match read(&fd, buf) {
        Err(e) if end(&e) => match read(&fd, buf) {
            Err(e) if end(&e) => Ok(0),
            second => second,
        },
        first => first,
    }
}

/// Writes once.
pub fn write(fd: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { libc::write(fd, buf.as_ptr().cast(), buf.len()) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    })
}

/// Writes everything.
pub fn write_all(fd: impl AsFd, mut buf: &[u8]) -> io::Result<()> {
    while !buf.is_empty() {
        let n = write(fd.as_fd(), buf)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buf = &buf[n..];
    }
    Ok(())
}

/// Switches blocking off or on. It is the open file that changes, so every duplicate changes too.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: fcntl on a descriptor that is open.
    unsafe {
        let flags = cvt(libc::fcntl(fd, libc::F_GETFL))?;
        let wanted = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
        if wanted != flags {
            cvt(libc::fcntl(fd, libc::F_SETFL, wanted))?;
        }
    }
    Ok(())
}

/// A close-on-exec duplicate whose number is at least `min`.
pub fn duplicate_above(fd: impl AsFd, min: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, owned here alone.
    unsafe {
        let new = cvt(libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, min))?;
        Ok(OwnedFd::from_raw_fd(new))
    }
}

/// Makes `fd` the process's stdin (0), stdout (1) or stderr (2), open across exec.
pub fn set_stdio(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    assert!((0..=2).contains(&number), "only standard streams are replaced");
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: replaces a standard stream only, which nothing here owns.
    unsafe {
        if fd == number {
            cvt(libc::fcntl(fd, libc::F_SETFD, 0))?;
        } else {
            cvt(libc::dup2(fd, number))?;
        }
    }
    Ok(())
}

/// Marks every descriptor from `first` on as close-on-exec, so that none leaks into a container.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only a flag of the descriptors changes.
    let ret =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    crate::sys::cvt_long(ret).map(drop)
}

/// Closes every descriptor from `first` on. Only for a program's first steps, while it owns none.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: what is closed is nobody's: it was inherited, and nothing here has opened it.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    crate::sys::cvt_long(ret).map(drop)
}

/// The descriptor of a standard stream.
pub fn standard_stream(number: RawFd) -> BorrowedFd<'static> {
    assert!((0..=2).contains(&number), "a standard stream");
    // SAFETY: the standard streams are open for the whole life of the process.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes over a standard stream that the parent process passed on purpose, leaving `/dev/null`
/// in its place.
pub fn take_standard_stream(number: RawFd) -> io::Result<OwnedFd> {
    let taken = duplicate_above(standard_stream(number), 3)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    set_stdio(&null, number)?;
    Ok(taken)
}

/// One entry of [`poll`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct PollFd(libc::pollfd);

impl PollFd {
    /// Waits for input (and hang-up).
    pub fn readable(fd: impl AsFd) -> PollFd {
        PollFd(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 })
    }

    /// Waits for room to write (and hang-up).
    pub fn writable(fd: impl AsFd) -> PollFd {
        PollFd(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 })
    }

    /// Waits for hang-up only.
    pub fn hang_up(fd: impl AsFd) -> PollFd {
        PollFd(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 })
    }

    /// An entry that never becomes ready.
    pub fn never() -> PollFd {
        PollFd(libc::pollfd { fd: -1, events: 0, revents: 0 })
    }

    /// Whether anything happened.
    pub fn ready(&self) -> bool {
        self.0.revents != 0
    }
}

/// Waits until an entry is ready or the time (milliseconds) is over; `None` waits for ever.
pub fn poll(fds: &mut [PollFd], timeout_ms: Option<i32>) -> io::Result<usize> {
    let timeout = timeout_ms.unwrap_or(-1);
    // SAFETY: PollFd has the layout of pollfd; the slice is valid for its length.
    let n = unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout) };
    match cvt(n) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other.map(|n| n as usize),
    }
}

/// The process at the other end of a unix socket.
pub fn peer_pid(socket: impl AsFd) -> io::Result<i32> {
    // SAFETY: ucred is plain data, written by the kernel, whose size is passed.
    unsafe {
        let mut peer: libc::ucred = std::mem::zeroed();
        let mut len = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
        cvt(libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        ))?;
        Ok(peer.pid)
    }
}

/// Most descriptors that one message may carry here.
const MAX_FDS: usize = 8;
const CONTROL_LEN: usize = 64;

#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Sends bytes and descriptors in one message. Answers how many bytes went.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || bytes.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([0; CONTROL_LEN]);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    // SAFETY: msghdr is plain data; iov and control outlive the call, and the control buffer holds
    // MAX_FDS descriptors with their header.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        if !fds.is_empty() {
            let size = std::mem::size_of_val(fds) as u32;
            msg.msg_control = control.0.as_mut_ptr().cast();
            msg.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
        retry(|| {
            let n = libc::sendmsg(socket.as_fd().as_raw_fd(), &msg, libc::MSG_NOSIGNAL);
            if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
        })
    }
}

/// Receives bytes with the descriptors that came along, close-on-exec. 0 bytes is the end.
pub fn recv_with_fds(socket: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut fds = Vec::new();
    // SAFETY: as in send_with_fds; the descriptors in the control message are new and owned here.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        msg.msg_iov = &mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = CONTROL_LEN;
        let n = retry(|| {
            let n = libc::recvmsg(socket.as_fd().as_raw_fd(), &mut msg, libc::MSG_CMSG_CLOEXEC);
            if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
        })?;
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..bytes / std::mem::size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
        if msg.msg_flags & libc::MSG_CTRUNC != 0 {
            return Err(io::Error::other("too many descriptors in one message"));
        }
        Ok((n, fds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_their_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (r1, w1) = pipe().unwrap();
        let (r2, w2) = pipe().unwrap();
        send_with_fds(&a, b"two", &[w1.as_fd(), w2.as_fd()]).unwrap();
        drop((w1, w2));
        let mut buf = [0; 16];
        let (n, fds) = recv_with_fds(&b, &mut buf).unwrap();
        assert_eq!((&buf[..n], fds.len()), (&b"two"[..], 2));
        write_all(&fds[0], b"1").unwrap();
        write_all(&fds[1], b"2").unwrap();
        drop(fds);
        assert_eq!(read(&r1, &mut buf).unwrap(), 1);
        assert_eq!(buf[0], b'1');
        assert_eq!(read(&r2, &mut buf).unwrap(), 1);
        assert_eq!(buf[0], b'2');
        assert_eq!(read(&r2, &mut buf).unwrap(), 0, "the writers are closed");
    }

    #[test]
    fn poll_sees_input_and_hang_up() {
        let (r, w) = pipe().unwrap();
        let mut entries = [PollFd::readable(&r), PollFd::never()];
        assert_eq!(poll(&mut entries, Some(0)).unwrap(), 0);
        drop(w);
        assert_eq!(poll(&mut entries, None).unwrap(), 1);
        assert!(entries[0].ready() && !entries[1].ready());
    }
}
