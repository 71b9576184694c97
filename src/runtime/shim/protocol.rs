//! What agent and shim say to each other over the shim's socket.
//!
//! A connection carries one request. Frames are a length (u32) and a body, little endian; the
//! shim, which must stay small, understands nothing else. What concerns only the new process of a
//! container (JSON) follows on the same connection and is read by that process, not by the shim.
//! Descriptors travel with the request's frame.

use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use linux::fd;

use crate::spec::LogLimits;

/// Longest body that is read.
const MAX_FRAME: usize = 64 << 10;

/// A byte string under construction or being taken apart.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(mut self, value: u8) -> Body {
        self.0.push(value);
        self
    }
    fn number(mut self, value: u64) -> Body {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn text(self, value: &str) -> Body {
        let mut body = self.number(value.len() as u64);
        body.0.extend(value.as_bytes());
        body
    }
}

struct Parser<'a>(&'a [u8]);

impl Parser<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn number(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }
    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// Something that can be sent as a frame.
pub(crate) trait Message: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A moment: seconds since 1970, nanoseconds.
pub(crate) type Moment = (i64, u32);

/// What the shim has to know of a container to own it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) id: String,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// A process namespace of its own, whose end is the end of all its processes.
    pub(crate) own_pids: bool,
    /// The process namespace that the pod shares.
    pub(crate) shared_pids: bool,
    /// The container whose process namespace it enters, empty for none.
    pub(crate) pids_of: String,
    /// Empty: the output is discarded.
    pub(crate) log_path: String,
    pub(crate) log_limits: LogLimits,
    /// Counts OOM kills.
    pub(crate) oom_file: String,
    /// Lists the container's processes.
    pub(crate) procs_file: String,
    /// Where the exit status is written.
    pub(crate) exit_file: String,
}

/// What the agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Tell all containers, then every end of one.
    Subscribe,
    /// Descriptors: status socket, [cgroup].
    Start(Start),
    /// Descriptors: status socket, [cgroup], and without `tty` stdin, stdout, stderr.
    Exec { id: String, tty: bool, cgroup: bool },
    /// Descriptors: stdout, stderr.
    Attach { id: String, stdin: bool },
    /// Signal the first process.
    Signal { id: String, signal: i32 },
    /// Open the log file anew.
    ReopenLog { id: String },
    /// Forget a container that has ended.
    Forget { id: String },
    /// Kill everything and end.
    Shutdown,
}

impl Message for Request {
    fn encode(&self) -> Vec<u8> {
        let body = Body::default();
        match self {
            Request::Subscribe => body.byte(0),
            Request::Start(s) => [s.tty, s.stdin, s.stdin_once, s.own_pids, s.shared_pids]
                .iter()
                .fold(body.byte(1).text(&s.id), |body, flag| body.byte((*flag).into()))
                .text(&s.log_path)
                .number(s.log_limits.max_size)
                .number(s.log_limits.max_files.into())
                .text(&s.oom_file)
                .text(&s.procs_file)
                .text(&s.exit_file)
                .text(&s.pids_of),
            Request::Exec { id, tty, cgroup } => {
                body.byte(2).text(id).byte((*tty).into()).byte((*cgroup).into())
            }
            Request::Attach { id, stdin } => body.byte(3).text(id).byte((*stdin).into()),
            Request::Signal { id, signal } => body.byte(4).text(id).number(*signal as u64),
            Request::ReopenLog { id } => body.byte(5).text(id),
            Request::Forget { id } => body.byte(6).text(id),
            Request::Shutdown => body.byte(7),
        }
        .0
    }

    fn decode(bytes: &[u8]) -> Option<Request> {
        let mut p = Parser(bytes);
        Some(match p.byte()? {
            0 => Request::Subscribe,
            1 => Request::Start(Start {
                id: p.text()?,
                tty: p.byte()? != 0,
                stdin: p.byte()? != 0,
                stdin_once: p.byte()? != 0,
                own_pids: p.byte()? != 0,
                shared_pids: p.byte()? != 0,
                log_path: p.text()?,
                log_limits: LogLimits {
                    max_size: p.number()?,
                    max_files: p.number()?.try_into().ok()?,
                },
                oom_file: p.text()?,
                procs_file: p.text()?,
                exit_file: p.text()?,
                pids_of: p.text()?,
            }),
            2 => Request::Exec { id: p.text()?, tty: p.byte()? != 0, cgroup: p.byte()? != 0 },
            3 => Request::Attach { id: p.text()?, stdin: p.byte()? != 0 },
            4 => Request::Signal { id: p.text()?, signal: p.number()? as i32 },
            5 => Request::ReopenLog { id: p.text()? },
            6 => Request::Forget { id: p.text()? },
            7 => Request::Shutdown,
            _ => return None,
        })
    }
}

/// How a container ended, as the shim saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) signal: i32,
    pub(crate) oom: bool,
    pub(crate) at: Moment,
}

impl End {
    /// The text of an exit file.
    pub(crate) fn to_line(self) -> String {
        let End { code, signal, oom, at } = self;
        format!("{code} {signal} {} {} {}\n", u8::from(oom), at.0, at.1)
    }

    /// Reads the text of an exit file.
    pub(crate) fn from_line(line: &str) -> Option<End> {
        let mut fields = line.split_whitespace();
        let mut next = || fields.next();
        Some(End {
            code: next()?.parse().ok()?,
            signal: next()?.parse().ok()?,
            oom: next()? == "1",
            at: (next()?.parse().ok()?, next()?.parse().ok()?),
        })
    }
}

/// What the shim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Not done.
    Failed(String),
    /// A process was made and waits for its instructions.
    Process { pid: i32, at: Moment },
    /// A container, as it is or as it just became.
    Container { id: String, pid: i32, started: Moment, end: Option<End> },
    /// All containers that there are were told.
    AllTold,
    /// A process of an exec has ended.
    Ended { code: i32, signal: i32 },
}

impl Message for Reply {
    fn encode(&self) -> Vec<u8> {
        let body = Body::default();
        let moment = |body: Body, m: &Moment| body.number(m.0 as u64).number(m.1.into());
        match self {
            Reply::Done => body.byte(0),
            Reply::Failed(message) => body.byte(1).text(message),
            Reply::Process { pid, at } => moment(body.byte(2).number(*pid as u64), at),
            Reply::Container { id, pid, started, end } => {
                let body = moment(body.byte(3).text(id).number(*pid as u64), started);
                match end {
                    None => body.byte(0),
                    Some(end) => moment(
                        body.byte(1)
                            .number(end.code as u64)
                            .number(end.signal as u64)
                            .byte(end.oom.into()),
                        &end.at,
                    ),
                }
            }
            Reply::AllTold => body.byte(4),
            Reply::Ended { code, signal } => {
                body.byte(5).number(*code as u64).number(*signal as u64)
            }
        }
        .0
    }

    fn decode(bytes: &[u8]) -> Option<Reply> {
        let mut p = Parser(bytes);
        let moment = |p: &mut Parser<'_>| Some((p.number()? as i64, p.number()? as u32));
        Some(match p.byte()? {
            0 => Reply::Done,
            1 => Reply::Failed(p.text()?),
            2 => Reply::Process { pid: p.number()? as i32, at: moment(&mut p)? },
            3 => Reply::Container {
                id: p.text()?,
                pid: p.number()? as i32,
                started: moment(&mut p)?,
                end: match p.byte()? {
                    0 => None,
                    _ => Some(End {
                        code: p.number()? as i32,
                        signal: p.number()? as i32,
                        oom: p.byte()? != 0,
                        at: moment(&mut p)?,
                    }),
                },
            },
            4 => Reply::AllTold,
            5 => Reply::Ended { code: p.number()? as i32, signal: p.number()? as i32 },
            _ => return None,
        })
    }
}

/// What the new process of a container says over its status socket. The end of the socket without
/// a failure is success: the exec closed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// About to run the program: the identity as JSON.
    Ready(String),
    /// Cannot be made: mounts, users, settings.
    CreateFailed(String),
    /// The program cannot be run.
    RunFailed(String),
    /// Something was not permitted and left out.
    Warning(String),
    /// Carries the master of the process's terminal.
    Terminal,
}

impl Message for Status {
    fn encode(&self) -> Vec<u8> {
        let body = Body::default();
        match self {
            Status::Ready(json) => body.byte(0).text(json),
            Status::CreateFailed(message) => body.byte(1).text(message),
            Status::RunFailed(message) => body.byte(2).text(message),
            Status::Warning(message) => body.byte(3).text(message),
            Status::Terminal => body.byte(4),
        }
        .0
    }

    fn decode(bytes: &[u8]) -> Option<Status> {
        let mut p = Parser(bytes);
        Some(match p.byte()? {
            0 => Status::Ready(p.text()?),
            1 => Status::CreateFailed(p.text()?),
            2 => Status::RunFailed(p.text()?),
            3 => Status::Warning(p.text()?),
            4 => Status::Terminal,
            _ => return None,
        })
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(body);
    frame
}

/// Sends a message, with descriptors.
pub(crate) fn send(
    mut stream: &UnixStream,
    message: &impl Message,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = framed(&message.encode());
    let sent = fd::send_with_fds(stream, &frame, fds)?;
    stream.write_all(&frame[sent..])
}

/// Sends bytes as a frame, e.g. the JSON for a new process.
pub(crate) fn send_bytes(mut stream: &UnixStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(body))
}

/// Receives a message with the descriptors that came along; `None` at the end of the stream.
pub(crate) fn receive<M: Message>(
    mut stream: &UnixStream,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut head = [0; 4];
    // The descriptors come with the first byte, and a plain read would lose them.
    let (mut n, fds) = fd::recv_with_fds(stream, &mut head)?;
    if n == 0 {
        return Ok(None);
    }
    if n < head.len() {
        stream.read_exact(&mut head[n..])?;
        n = head.len();
    }
    debug_assert_eq!(n, 4);
    let body = read_body(stream, head)?;
    let message = M::decode(&body).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((message, fds)))
}

fn read_body(mut stream: &UnixStream, head: [u8; 4]) -> io::Result<Vec<u8>> {
    let len = u32::from_le_bytes(head) as usize;
    if len > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Receives the bytes of one frame of any length; for the new process, whose memory goes away.
pub(crate) fn receive_bytes(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_le_bytes(head) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// A message of the frames in a buffer, with the bytes that it took; for readers that do not
/// block.
pub(crate) fn take<M: Message>(buffer: &[u8]) -> io::Result<Option<(M, usize)>> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match rest.get(..len) {
        None => Ok(None),
        Some(body) => {
            let message = M::decode(body).ok_or(io::ErrorKind::InvalidData)?;
            Ok(Some((message, 4 + len)))
        }
    }
}

/// A path as text; paths of the runtime's own are always UTF-8.
pub(crate) fn text_of(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path from text; `None` when empty.
pub(crate) fn path_of(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let start = Start {
            id: "c1".into(),
            tty: true,
            stdin_once: true,
            shared_pids: true,
            pids_of: "c0".into(),
            log_path: "/var/log/x".into(),
            exit_file: "/run/exit".into(),
            ..Default::default()
        };
        for request in [
            Request::Subscribe,
            Request::Start(start),
            Request::Exec { id: "c".into(), tty: true, cgroup: false },
            Request::Attach { id: "c".into(), stdin: true },
            Request::Signal { id: "c".into(), signal: 15 },
            Request::ReopenLog { id: "c".into() },
            Request::Forget { id: "c".into() },
            Request::Shutdown,
        ] {
            let bytes = request.encode();
            for cut in 1..bytes.len() {
                assert_ne!(Request::decode(&bytes[..cut]).as_ref(), Some(&request));
            }
            assert_eq!(Request::decode(&bytes), Some(request));
        }
        let end = End { code: 137, signal: 9, oom: true, at: (1_700_000_000, 999_999_999) };
        assert_eq!(End::from_line(&end.to_line()), Some(end));
        assert_eq!(End::from_line("1 2"), None);
        for reply in [
            Reply::Done,
            Reply::Failed("no".into()),
            Reply::Process { pid: 7, at: (-1, 5) },
            Reply::Container { id: "c".into(), pid: 1, started: (2, 3), end: None },
            Reply::Container { id: "c".into(), pid: 1, started: (2, 3), end: Some(end) },
            Reply::AllTold,
            Reply::Ended { code: 1, signal: 0 },
        ] {
            let frame = framed(&reply.encode());
            for cut in 0..frame.len() {
                assert!(take::<Reply>(&frame[..cut]).unwrap().is_none());
            }
            assert_eq!(take(&frame).unwrap(), Some((reply, frame.len())));
        }
        assert!(take::<Reply>(&u32::MAX.to_le_bytes()).is_err(), "longer than any frame");
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let (r, w) = fd::pipe().unwrap();
        use std::os::fd::AsFd;
        send(&a, &Status::Terminal, &[w.as_fd()]).unwrap();
        send_bytes(&a, b"{}").unwrap();
        drop((a, w));
        let (status, fds) = receive::<Status>(&b).unwrap().unwrap();
        assert_eq!((status, fds.len()), (Status::Terminal, 1));
        fd::write_all(&fds[0], b"x").unwrap();
        assert_eq!(fd::read(&r, &mut [0]).unwrap(), 1);
        assert_eq!(receive_bytes(&b).unwrap(), b"{}");
        assert!(receive::<Status>(&b).unwrap().is_none());
    }
}
