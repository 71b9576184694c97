//! The shim: one small process per pod that owns the pod's containers, their streams and logs and
//! exit statuses, and outlives the agent.
//!
//! It is single-threaded, without an async runtime, and keeps next to nothing in memory: one runs
//! for every pod. Everything that takes memory or time, making a container above all, happens in
//! the container's own first process, before that runs its program.

mod container;
pub(crate) mod launch;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod protocol;
mod rootfs;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use linux::fd::{self, PollFd};
use linux::namespace;
use linux::process::{self as proc, Fork, Pid};
use linux::signal::{self, Signal};

use container::{Container, Exec, Stdio};
use launch::Streams;
use protocol::{Reply, Request, Start};

/// Read buffer of container output. As large as a log entry; pages of it that were never used
/// take no memory.
const SCRATCH: usize = log::MAX_ENTRY;

/// How long a client may take to send its request.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// After this long without anything to do a shim gives up the memory that the last task took.
const QUIET_MS: i32 = 1000;

/// Runs a shim: `knarr shim <pod uid>`, with the listening socket as standard input. Called before
/// the program has made any thread. Does not come back.
pub fn main(_args: impl Iterator<Item = OsString>) -> ! {
    let code = match Shim::new().and_then(Shim::run) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim: {error}");
            1
        }
    };
    proc::exit_now(code)
}

struct Shim {
    listener: UnixListener,
    signals: OwnedFd,
    own_pids: OwnedFd,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    subscribers: Vec<UnixStream>,
    /// Process 1 of the pod's shared process namespace.
    init: Option<Pid>,
    scratch: Vec<u8>,
    entries: Vec<u8>,
}

impl Shim {
    fn new() -> io::Result<Shim> {
        // Whatever the agent forgot to close would be held open for as long as the pod lives.
        fd::close_from(3)?;
        proc::setsid()?;
        proc::set_child_subreaper()?;
        // Nobody in a container may look into this process or its children before they run their
        // programs: through them the host could be reached.
        proc::set_dumpable(false)?;
        proc::set_name(c"knarr-shim")?;
        proc::umask(0o022);
        let listener = UnixListener::from(fd::take_standard_stream(0)?);
        fd::set_stdio(fd::standard_stream(0), 1)?;
        std::env::set_current_dir("/")?;
        signal::ignore(Signal::PIPE);
        Ok(Shim {
            listener,
            signals: signal::signalfd(&[Signal::CHLD, Signal::TERM])?,
            own_pids: namespace::own(namespace::PID)?.into(),
            containers: Vec::new(),
            execs: Vec::new(),
            subscribers: Vec::new(),
            init: None,
            scratch: vec![0; SCRATCH],
            entries: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut polled = Vec::new();
        // Whether more of the program is in memory than a shim that waits needs.
        let mut grown = true;
        loop {
            // signals, listener, three for each container, one for each subscriber
            polled.clear();
            polled.push(PollFd::readable(&self.signals));
            polled.push(PollFd::readable(&self.listener));
            for container in &self.containers {
                polled.push(container.terminal_interest());
                polled.extend(container.streams.iter().map(|s| s.interest()));
            }
            polled.extend(self.subscribers.iter().map(PollFd::hang_up));
            if fd::poll(&mut polled, grown.then_some(QUIET_MS))? == 0 {
                if std::mem::take(&mut grown) {
                    // Where that cannot be done, nothing is lost but memory.
                    let _ = linux::memory::release_program();
                }
                continue;
            }
            grown |= polled[..2].iter().any(PollFd::ready);

            let mut ready = polled[2..].iter().map(PollFd::ready);
            let mut next = || ready.next().unwrap_or(false);
            for container in &mut self.containers {
                if next() {
                    container.take_terminal();
                }
                for stream in 0..container.streams.len() {
                    if next() {
                        container.pump(stream, &mut self.scratch, &mut self.entries);
                    }
                }
            }
            self.subscribers.retain(|_| !next());
            if polled[0].ready() {
                while let Some(signal) = signal::take(&self.signals) {
                    if signal == Signal::TERM {
                        return self.shut_down();
                    }
                }
                self.reap();
            }
            if polled[1].ready()
                && let Ok((client, _)) = self.listener.accept()
                && self.serve(client)
            {
                return self.shut_down();
            }
            // What a burst of output took is given back.
            if self.entries.capacity() > SCRATCH * 2 {
                self.entries = Vec::new();
            }
        }
    }

    /// Takes note of every child that has ended.
    fn reap(&mut self) {
        while let Some((pid, exit)) = proc::reap() {
            if let Some(container) =
                self.containers.iter_mut().find(|c| c.pid == pid && c.end.is_none())
            {
                container.ended(exit, &mut self.scratch, &mut self.entries);
                let told = container.told();
                self.subscribers.retain(|s| protocol::send(s, &told, &[]).is_ok());
                self.containers.retain(|c| !c.forgotten || c.end.is_none());
            } else if let Some(i) = self.execs.iter().position(|e| e.pid == pid) {
                self.execs.swap_remove(i).ended(exit);
            } else if self.init == Some(pid) {
                self.init = None;
            }
        }
    }

    /// Answers one request; true when it was the last one.
    fn serve(&mut self, client: UnixStream) -> bool {
        let _ = client.set_read_timeout(Some(CLIENT_PATIENCE));
        let _ = client.set_write_timeout(Some(CLIENT_PATIENCE));
        let Ok(Some((request, fds))) = protocol::receive::<Request>(&client) else { return false };
        let done = match request {
            Request::Subscribe => {
                let told = self.containers.iter().map(Container::told);
                let mut all = told.chain([Reply::AllTold]);
                if all.all(|reply| protocol::send(&client, &reply, &[]).is_ok()) {
                    self.subscribers.push(client);
                }
                return false;
            }
            Request::Start(start) => self.start(start, &client, fds),
            Request::Exec { id, tty, cgroup } => match self.exec(&id, tty, cgroup, &client, fds) {
                Ok(pid) => {
                    let reply = Reply::Process { pid, at: proc::now() };
                    let _ = protocol::send(&client, &reply, &[]);
                    self.execs.push(Exec { pid, client });
                    return false;
                }
                Err(error) => Err(error),
            },
            Request::Attach { id, stdin } => {
                self.find(&id).and_then(|c| c.attach(fds, stdin)).and_then(|given| {
                    let given: Vec<_> = given.iter().map(|fd| fd.as_fd()).collect();
                    protocol::send(&client, &Reply::Done, &given)
                })
            }
            Request::Signal { id, signal } => {
                self.find(&id).and_then(|c| c.signal(signal)).and_then(|()| done(&client))
            }
            Request::ReopenLog { id } => {
                self.find(&id).and_then(Container::reopen_log).and_then(|()| done(&client))
            }
            Request::Forget { id } => {
                self.forget(&id);
                done(&client)
            }
            Request::Shutdown => {
                // Kept open: its end tells the client that all of this is over.
                let _ = done(&client);
                self.subscribers.push(client);
                return true;
            }
        };
        if let Err(error) = done {
            let _ = protocol::send(&client, &Reply::Failed(error.to_string()), &[]);
        }
        false
    }

    fn find(&mut self, id: &str) -> io::Result<&mut Container> {
        let found = self.containers.iter_mut().find(|c| c.start.id == id);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no container {id:?}")))
    }

    /// Drops a container; one that has not ended yet, when it has.
    fn forget(&mut self, id: &str) {
        if let Ok(container) = self.find(id) {
            container.forgotten = true;
        }
        self.containers.retain(|c| !c.forgotten || c.end.is_none());
    }

    /// Makes the first process of a container. It waits for its instructions on the client's
    /// connection.
    fn start(&mut self, start: Start, client: &UnixStream, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let status = UnixStream::from(fds.next().ok_or(io::ErrorKind::InvalidInput)?);
        let cgroup = fds.next();
        let mut namespaces = namespace::MOUNT;
        let shared = if !start.pids_of.is_empty() {
            let target = self.find(&start.pids_of)?;
            if target.end.is_some() {
                let message = format!("container {:?} is not running", start.pids_of);
                return Err(io::Error::other(message));
            }
            Some(proc::pidfd_open(target.pid)?)
        } else if start.shared_pids {
            Some(self.shared_pids()?)
        } else {
            None
        };
        if start.own_pids {
            namespaces |= namespace::PID;
        }
        let (mut container, stdio) = Container::prepare(start)?;
        let forked = self.clone_process(shared.as_ref(), namespaces, cgroup.as_ref())?;
        let Fork::Parent(pid) = forked else {
            let streams = match stdio {
                Stdio::Pipes(pipes) => Streams::Pipes(pipes),
                Stdio::Terminal(socket) => Streams::Terminal(socket),
            };
            launch::first_process(client, status, streams)
        };
        container.pid = pid;
        container.started = proc::now();
        let reply = Reply::Process { pid, at: container.started };
        self.containers.push(container);
        protocol::send(client, &reply, &[])
    }

    /// Makes one more process in a container. It waits as above.
    fn exec(
        &mut self,
        id: &str,
        tty: bool,
        cgroup: bool,
        client: &UnixStream,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Pid> {
        let mut fds = fds.into_iter();
        let status = UnixStream::from(fds.next().ok_or(io::ErrorKind::InvalidInput)?);
        let cgroup = if cgroup { fds.next() } else { None };
        let container = self.find(id)?;
        if container.end.is_some() {
            return Err(io::Error::other(format!("container {id:?} is not running")));
        }
        let target = proc::pidfd_open(container.pid)?;
        let Start { own_pids, shared_pids, pids_of, .. } = &container.start;
        let joins_pids = *own_pids || *shared_pids || !pids_of.is_empty();
        let forked = self.clone_process(joins_pids.then_some(&target), 0, cgroup.as_ref())?;
        let Fork::Parent(pid) = forked else {
            let streams = if tty {
                status.try_clone().map(Streams::Terminal)
            } else {
                let pipes: Result<[OwnedFd; 3], _> = fds.collect::<Vec<_>>().try_into();
                pipes.map(Streams::Pipes).map_err(|_| io::ErrorKind::InvalidInput.into())
            };
            launch::later_process(client, status, streams, target)
        };
        Ok(pid)
    }

    /// Clones, with the child in the process namespace that a descriptor names.
    fn clone_process(
        &self,
        pids: Option<&OwnedFd>,
        namespaces: i32,
        cgroup: Option<&OwnedFd>,
    ) -> io::Result<Fork> {
        if let Some(pids) = pids {
            namespace::enter(pids, namespace::PID)?;
        }
        let forked = proc::clone_into(namespaces, cgroup.map(|fd| fd.as_fd()));
        if pids.is_some() && !matches!(forked, Ok(Fork::Child)) {
            namespace::enter(&self.own_pids, namespace::PID)?;
        }
        forked
    }

    /// The process namespace that the pod's containers share, whose first process is ours.
    fn shared_pids(&mut self) -> io::Result<OwnedFd> {
        let pid = match self.init {
            Some(pid) => pid,
            None => match proc::clone_into(namespace::PID | namespace::MOUNT, None)? {
                Fork::Parent(pid) => *self.init.insert(pid),
                Fork::Child => crate::init::become_init(),
            },
        };
        Ok(std::fs::File::open(format!("/proc/{pid}/ns/pid"))?.into())
    }

    /// Kills every process that is still there, and ends.
    fn shut_down(mut self) -> io::Result<()> {
        for container in &self.containers {
            let _ = container.signal(Signal::KILL.0);
        }
        for pid in self.execs.iter().map(|e| e.pid).chain(self.init) {
            let _ = proc::kill(pid, Signal::KILL);
        }
        while self.containers.iter().any(|c| c.end.is_none()) {
            fd::poll(&mut [PollFd::readable(&self.signals)], None)?;
            while signal::take(&self.signals).is_some() {}
            self.reap();
        }
        Ok(())
    }
}

fn done(client: &UnixStream) -> io::Result<()> {
    protocol::send(client, &Reply::Done, &[])
}
