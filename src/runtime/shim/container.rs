//! A container as its shim sees it: a process, its streams and their way into the log and to
//! attached clients, its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use linux::fd::{self, PollFd};
use linux::process::{self, Exit, Pid};
use linux::signal::Signal;

use super::log::{Entries, Log};
use super::protocol::{self, End, Moment, Reply, Start, Status};

/// A client that gets a copy of a stream.
#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    /// What it was too slow to take. While there is any, the stream is not read: the container
    /// waits for its reader as it would for a pipe's.
    pending: Vec<u8>,
}

impl Sink {
    /// Writes as much as goes; false when the client is gone.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match fd::write(&self.fd, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.pending = Vec::new();
        true
    }
}

/// Standard output or error, or a terminal, as far as it concerns the log.
#[derive(Debug)]
pub(crate) struct Stream {
    source: Option<OwnedFd>,
    entries: Entries,
    sinks: Vec<Sink>,
}

impl Stream {
    fn new(name: &'static str, source: Option<OwnedFd>) -> Stream {
        Stream { source, entries: Entries::new(name), sinks: Vec::new() }
    }

    fn blocked(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.pending.is_empty())
    }

    /// What to wait for: a slow client, or else input.
    pub(crate) fn interest(&self) -> PollFd {
        if let Some(sink) = self.sinks.iter().find(|sink| !sink.pending.is_empty()) {
            PollFd::writable(&sink.fd)
        } else {
            self.source.as_ref().map_or(PollFd::never(), PollFd::readable)
        }
    }

    /// Moves what can be moved. `scratch` is the read buffer, `out` the entries' buffer.
    fn pump(&mut self, log: &mut Log, scratch: &mut [u8], out: &mut Vec<u8>) {
        self.sinks.retain_mut(Sink::flush);
        while !self.blocked() {
            let Some(source) = &self.source else { return };
            match fd::read_stream(source, scratch) {
                Ok(0) => return self.close(log, out),
                Ok(n) => {
                    let bytes = &scratch[..n];
                    self.entries.push(bytes, out);
                    log.write(out);
                    out.clear();
                    self.sinks.retain_mut(|sink| {
                        sink.pending.extend(bytes);
                        sink.flush()
                    });
                    if n < scratch.len() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(log, out),
            }
        }
    }

    fn close(&mut self, log: &mut Log, out: &mut Vec<u8>) {
        self.source = None;
        self.entries.finish(out);
        log.write(out);
        out.clear();
        self.sinks.retain_mut(|sink| sink.flush() && !sink.pending.is_empty());
    }
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) start: Start,
    pub(crate) pid: Pid,
    pub(crate) started: Moment,
    pub(crate) end: Option<End>,
    /// Nobody wants to know about it any more.
    pub(crate) forgotten: bool,
    pub(crate) streams: [Stream; 2],
    log: Log,
    /// The writing end of stdin, where clients may attach to it.
    stdin: Option<OwnedFd>,
    /// The master of the container's terminal.
    terminal: Option<OwnedFd>,
    /// Where the new process will send the master.
    terminal_from: Option<UnixStream>,
}

/// The ends of a container's streams that its process gets.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// stdin, stdout, stderr.
    Pipes([OwnedFd; 3]),
    /// The socket over which the process sends the terminal's master.
    Terminal(UnixStream),
}

impl Container {
    /// Makes the streams of a container that is about to be started.
    pub(crate) fn prepare(start: Start) -> io::Result<(Container, Stdio)> {
        let log = Log::open(protocol::path_of(&start.log_path), start.log_limits)?;
        let mut container = Container {
            start,
            pid: 0,
            started: (0, 0),
            end: None,
            forgotten: false,
            streams: [Stream::new("stdout", None), Stream::new("stderr", None)],
            log,
            stdin: None,
            terminal: None,
            terminal_from: None,
        };
        if container.start.tty {
            let (ours, theirs) = UnixStream::pair()?;
            container.terminal_from = Some(ours);
            return Ok((container, Stdio::Terminal(theirs)));
        }
        let stdin: OwnedFd = if container.start.stdin {
            let (read, write) = fd::pipe()?;
            container.stdin = Some(write);
            read
        } else {
            std::fs::File::open("/dev/null")?.into()
        };
        let output = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = fd::pipe()?;
            fd::set_nonblocking(&read, true)?;
            Ok((read, write))
        };
        let (out_read, out_write) = output()?;
        let (err_read, err_write) = output()?;
        container.streams[0].source = Some(out_read);
        container.streams[1].source = Some(err_read);
        Ok((container, Stdio::Pipes([stdin, out_write, err_write])))
    }

    /// What to wait for besides the streams: the terminal, once.
    pub(crate) fn terminal_interest(&self) -> PollFd {
        self.terminal_from.as_ref().map_or(PollFd::never(), PollFd::readable)
    }

    /// Takes the terminal's master from the new process.
    pub(crate) fn take_terminal(&mut self) {
        let Some(socket) = self.terminal_from.take() else { return };
        let Ok(Some((Status::Terminal, fds))) = protocol::receive::<Status>(&socket) else {
            return;
        };
        let Some(master) = fds.into_iter().next() else { return };
        // A duplicate shares the non-blocking flag; whoever attaches has to live with that.
        let _ = fd::set_nonblocking(&master, true);
        self.streams[0].source = fd::duplicate_above(&master, 3).ok();
        self.terminal = Some(master);
    }

    /// Moves output into the log.
    pub(crate) fn pump(&mut self, stream: usize, scratch: &mut [u8], out: &mut Vec<u8>) {
        self.streams[stream].pump(&mut self.log, scratch, out);
    }

    /// Gives a client copies of the streams and, if asked for, what to write stdin to.
    pub(crate) fn attach(
        &mut self,
        sinks: Vec<OwnedFd>,
        stdin: bool,
    ) -> io::Result<Option<OwnedFd>> {
        for (stream, fd) in self.streams.iter_mut().zip(sinks) {
            if stream.source.is_some() {
                fd::set_nonblocking(&fd, true)?;
                stream.sinks.push(Sink { fd, pending: Vec::new() });
            }
        }
        if let Some(terminal) = &self.terminal {
            // Also without stdin: it is how the size is set.
            return fd::duplicate_above(terminal, 3).map(Some);
        }
        if !stdin {
            return Ok(None);
        }
        if self.start.stdin_once {
            return Ok(self.stdin.take());
        }
        self.stdin.as_ref().map(|fd| fd::duplicate_above(fd, 3)).transpose()
    }

    /// Opens the log anew.
    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        if self.start.log_path.is_empty() { Ok(()) } else { self.log.reopen() }
    }

    /// Signals the first process, which cannot be anybody else's as long as it is not reaped.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        process::kill(self.pid, Signal(signal))
    }

    /// The first process has ended and was reaped: everything it said goes into the log before
    /// anybody hears of the end.
    pub(crate) fn ended(&mut self, exit: Exit, scratch: &mut [u8], out: &mut Vec<u8>) {
        if !self.start.own_pids {
            kill_all(Path::new(&self.start.procs_file));
        }
        self.take_terminal_if_sent();
        for i in 0..self.streams.len() {
            self.pump(i, scratch, out);
            let Container { streams, log, .. } = self;
            streams[i].close(log, out);
        }
        self.stdin = None;
        self.terminal = None;
        let end = End {
            code: exit.code,
            signal: exit.signal,
            oom: linux::cgroup::oom_kills(Path::new(&self.start.oom_file)) > 0,
            at: process::now(),
        };
        self.end = Some(end);
        // Without the file only a restarted agent whose shim is gone as well would not know.
        let _ = write_atomically(Path::new(&self.start.exit_file), &end.to_line());
    }

    fn take_terminal_if_sent(&mut self) {
        let mut entry = [self.terminal_interest()];
        if fd::poll(&mut entry, Some(0)).is_ok_and(|n| n > 0) {
            self.take_terminal();
        }
    }

    /// As it is told to subscribers.
    pub(crate) fn told(&self) -> Reply {
        Reply::Container {
            id: self.start.id.clone(),
            pid: self.pid,
            started: self.started,
            end: self.end,
        }
    }
}

/// Kills what a container without a process namespace of its own left behind.
fn kill_all(procs_file: &Path) {
    for _ in 0..10 {
        let text = std::fs::read_to_string(procs_file).unwrap_or_default();
        let mut pids = text.lines().filter_map(|line| line.parse::<Pid>().ok()).peekable();
        if pids.peek().is_none() {
            return;
        }
        pids.for_each(|pid| drop(process::kill(pid, Signal::KILL)));
    }
}

fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

/// A process that was run in a container, and who waits for its end.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) pid: Pid,
    pub(crate) client: UnixStream,
}

impl Exec {
    /// Tells the end; nobody may be there to hear it.
    pub(crate) fn ended(self, exit: Exit) {
        let reply = Reply::Ended { code: exit.code, signal: exit.signal };
        let _ = protocol::send(&self.client, &reply, &[]);
    }
}

impl AsFd for Exec {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.client.as_fd()
    }
}
