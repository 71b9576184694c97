//! A netlink socket: requests with extended acknowledgements, and dumps.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use netlink_sys::SocketAddr;

use crate::error::{Error, Result};
use crate::message::{
    Attributes, HEADER_LEN, Header, Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, messages,
};

/// Larger than any datagram that the kernel makes (32 KiB for dumps).
const RECEIVE_CAPACITY: usize = 64 * 1024;
/// The kernel answers within the sending system call; this only bounds the damage of a bug.
const RECEIVE_TIMEOUT_SECONDS: libc::time_t = 30;
/// What the kernel wants of the send buffer beyond the datagram itself.
const SEND_OVERHEAD: usize = 4096;
/// How often an interrupted dump is started again.
const DUMP_ATTEMPTS: u32 = 10;

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// One request of several that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The sequence number of the refused message.
    pub(crate) sequence: u32,
    /// The error number, positive.
    pub(crate) errno: i32,
    /// The kernel's words on it.
    pub(crate) text: Option<String>,
    /// Where in the message the refused attribute begins.
    pub(crate) offset: Option<u32>,
}

/// A connected netlink socket of one family.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    send_limit: usize,
    received: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self> {
        let mut inner = netlink_sys::Socket::new(protocol).map_err(Error::socket("open"))?;
        inner.bind_auto().map_err(Error::socket("bind"))?;
        inner.connect(&SocketAddr::new(0, 0)).map_err(Error::socket("connect"))?;
        inner.set_ext_ack(true).map_err(Error::socket("set extended acknowledgements"))?;
        // Do not send the whole request back with an error.
        inner.set_cap_ack(true).map_err(Error::socket("cap acknowledgements"))?;
        let timeout = libc::timeval { tv_sec: RECEIVE_TIMEOUT_SECONDS, tv_usec: 0 };
        set_option(&inner, libc::SO_RCVTIMEO, &timeout).map_err(Error::socket("set timeout"))?;
        Ok(Self { inner, sequence: 0, send_limit: 0, received: Vec::new() })
    }

    /// Makes room for `bytes` of answers that are not read in between.
    pub(crate) fn reserve_receive(&self, bytes: libc::c_int) {
        // Without CAP_NET_ADMIN over the initial user namespace the default has to do.
        let _ = set_option(&self.inner, libc::SO_RCVBUFFORCE, &bytes)
            .or_else(|_| set_option(&self.inner, libc::SO_RCVBUF, &bytes));
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub(crate) fn sequences(&mut self, count: u32) -> u32 {
        // Zero is what the kernel numbers its own notifications with.
        let first = self.sequence.checked_add(1).filter(|n| n.checked_add(count).is_some());
        let first = first.unwrap_or(1);
        self.sequence = first + count - 1;
        first
    }

    /// Sends one datagram. When this returns the kernel has carried it out and queued its answers.
    pub(crate) fn send(&mut self, datagram: &[u8]) -> Result<()> {
        let wanted = datagram.len() + SEND_OVERHEAD;
        if wanted > self.send_limit {
            let size =
                libc::c_int::try_from(wanted.next_power_of_two()).unwrap_or(libc::c_int::MAX);
            set_option(&self.inner, libc::SO_SNDBUFFORCE, &size)
                .or_else(|_| set_option(&self.inner, libc::SO_SNDBUF, &size))
                .map_err(Error::socket("grow send buffer"))?;
            self.send_limit = size as usize;
        }
        retry(|| self.inner.send(datagram, 0)).map_err(Error::socket("send"))?;
        Ok(())
    }

    /// The next datagram, or `None` if `wait` is false and there is none.
    fn receive(&mut self, wait: bool) -> Result<Option<&[u8]>> {
        self.received.clear();
        self.received.reserve_exact(RECEIVE_CAPACITY);
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        match retry(|| self.inner.recv(&mut self.received, flags)) {
            Ok(_) => Ok(Some(&self.received)),
            Err(e) if !wait && e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(Error::Socket { action: "receive", source }),
        }
    }

    /// Waits for the acknowledgements of `count` messages numbered from `first`, each of which
    /// asked for one, and hands the refusals among them to `each`, in order.
    pub(crate) fn acknowledgements(
        &mut self,
        first: u32,
        count: u32,
        mut each: impl FnMut(Refusal),
    ) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let datagram = self.receive(true)?.unwrap_or_default();
            for (header, payload) in messages(datagram) {
                let ours = (first..first + count).contains(&header.sequence);
                if ours && header.kind == NLMSG_ERROR {
                    left = left.saturating_sub(1);
                    refusal(header, payload).into_iter().for_each(&mut each);
                }
            }
        }
        Ok(())
    }

    /// All refusals that are queued now, without waiting; `each` sees them in order.
    pub(crate) fn refusals(&mut self, mut each: impl FnMut(Refusal)) -> Result<()> {
        let (mut overflow, mut seen) = (Ok(()), false);
        loop {
            match self.receive(false) {
                Ok(Some(datagram)) => {
                    for refusal in messages(datagram).filter_map(|(h, p)| refusal(h, p)) {
                        seen = true;
                        each(refusal);
                    }
                }
                // There were more than the buffer holds. Those before are still to be read.
                Err(e) if e.errno() == Some(libc::ENOBUFS) => overflow = Err(e),
                Ok(None) => return if seen { Ok(()) } else { overflow },
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends one request and hands the payload of its single answer to `read`.
    /// `build` writes one message under the sequence number it is given.
    pub(crate) fn get<T>(
        &mut self,
        what: &'static str,
        build: impl Fn(&mut Message, u32),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let sequence = self.sequences(1);
        let mut message = Message::default();
        build(&mut message, sequence);
        self.send(message.bytes())?;
        loop {
            let datagram = self.receive(true)?.unwrap_or_default();
            let answer = messages(datagram).find(|(h, _)| h.sequence == sequence);
            let Some((header, payload)) = answer else { continue };
            if header.kind != NLMSG_ERROR {
                return read(payload).ok_or(Error::Malformed(what));
            }
            return Err(match refusal(header, payload) {
                Some(r) => Error::refused(what, r.errno, r.text),
                None => Error::Malformed(what),
            });
        }
    }

    /// Sends a dump request and hands the payload of each answer to `read`, collecting what it
    /// makes of them. A list that changed while it was read is read again.
    pub(crate) fn dump<T>(
        &mut self,
        what: &'static str,
        build: impl Fn(&mut Message, u32),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.sequences(1);
            let mut message = Message::default();
            build(&mut message, sequence);
            self.send(message.bytes())?;
            if let Some(list) = self.dump_once(what, sequence, &read)? {
                return Ok(list);
            }
        }
        Err(Error::Interrupted(what))
    }

    /// One dump; `None` if it was interrupted.
    fn dump_once<T>(
        &mut self,
        what: &'static str,
        sequence: u32,
        read: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let (mut list, mut interrupted) = (Vec::new(), false);
        loop {
            let datagram = self.receive(true)?.unwrap_or_default();
            for (header, payload) in messages(datagram).filter(|(h, _)| h.sequence == sequence) {
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match refusal(header, payload) {
                            Some(r) if r.errno == libc::EINTR || r.errno == libc::EAGAIN => {
                                Ok(None)
                            }
                            Some(r) => Err(Error::refused(what, r.errno, r.text)),
                            None => Ok((!interrupted).then_some(list)),
                        };
                    }
                    _ => list.extend(read(payload)),
                }
            }
        }
    }
}

/// What an error or done message says, if it is not a success.
fn refusal(header: Header, payload: &[u8]) -> Option<Refusal> {
    if header.kind != NLMSG_ERROR && header.kind != NLMSG_DONE {
        return None;
    }
    let code = payload.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes)?;
    if code >= 0 {
        return None;
    }
    // An error carries the header of the refused request, and the rest of it unless capped.
    let skip = match header.kind {
        NLMSG_ERROR if header.flags & NLM_F_CAPPED == 0 => {
            4 + crate::message::u32_at(payload, 4).unwrap_or(0).next_multiple_of(4) as usize
        }
        NLMSG_ERROR => 4 + HEADER_LEN,
        _ => 4,
    };
    let extended = match header.flags & NLM_F_ACK_TLVS {
        0 => Attributes(&[]),
        _ => Attributes(payload.get(skip..).unwrap_or_default()),
    };
    Some(Refusal {
        sequence: header.sequence,
        errno: -code,
        text: extended.get(NLMSGERR_ATTR_MSG).and_then(|a| a.str()).map(str::to_owned),
        offset: extended.get(NLMSGERR_ATTR_OFFS).and_then(|a| a.u32()),
    })
}

/// Repeats a system call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn set_option<T>(socket: &netlink_sys::Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the pointer and length describe `value`, which the
    // kernel only reads. All callers pass the plain C type that the option takes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_carry_the_extended_acknowledgement() {
        let mut m = Message::default();
        m.raw(&(-libc::EEXIST).to_ne_bytes());
        m.raw(&[0; HEADER_LEN]);
        m.put_str(NLMSGERR_ATTR_MSG, "it is there");
        m.put_u32(NLMSGERR_ATTR_OFFS, 44);
        let header =
            Header { kind: NLMSG_ERROR, flags: NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence: 3 };
        let r = refusal(header, m.bytes()).unwrap();
        assert_eq!((r.sequence, r.errno, r.offset), (3, libc::EEXIST, Some(44)));
        assert_eq!(r.text.as_deref(), Some("it is there"));
    }

    #[test]
    fn an_acknowledgement_is_no_refusal() {
        let header = Header { kind: NLMSG_ERROR, flags: NLM_F_CAPPED, sequence: 3 };
        assert!(refusal(header, &[0; 20]).is_none());
    }
}
