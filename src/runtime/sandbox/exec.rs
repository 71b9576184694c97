//! Running processes in a container, and attaching to its own.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use linux::cgroup::Version;
use linux::{fd, namespace, process};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::create;
use super::start::{go, outcome};
use super::state::{Inner, Record};
use crate::error::{Context, Error, Result, StartError};
use crate::exec::{ExecOutput, ExecSession, SessionEnd, StreamReader, StreamWriter};
use crate::security;
use crate::shim::launch::Join;
use crate::shim::protocol::{self, Reply, Request, Status};
use crate::spec::ExecSpec;
use crate::sync::blocking;

/// Most that is kept of what a command prints.
const OUTPUT_LIMIT: usize = 16 << 20;

/// A process that runs, and our ends of its streams.
struct Running {
    connection: UnixStream,
    process: OwnedFd,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

pub(super) async fn exec(inner: &Arc<Inner>, id: &str, spec: ExecSpec) -> Result<ExecSession> {
    let record = inner.require_running(id)?;
    let this = inner.clone();
    let running = blocking(move || run(&this, &record, &spec)).await?;
    let failed = |e| inner.shim.error(e);
    let (tell, code) = watch::channel(None);
    running.connection.set_nonblocking(true).map_err(failed)?;
    let connection = tokio::net::UnixStream::from_std(running.connection).map_err(failed)?;
    tokio::spawn(async move {
        if let Some(end) = end_of(connection).await {
            tell.send_replace(Some(end));
        }
    });
    Ok(ExecSession {
        stdin: running.stdin.map(StreamWriter::new).transpose().map_err(failed)?,
        stdout: running.stdout.map(StreamReader::new).transpose().map_err(failed)?,
        stderr: running.stderr.map(StreamReader::new).transpose().map_err(failed)?,
        terminal: running.terminal,
        end: SessionEnd::Process { code, process: running.process },
    })
}

/// The exit code that the shim tells at the end.
async fn end_of(mut connection: tokio::net::UnixStream) -> Option<i32> {
    let mut buffer = Vec::with_capacity(64);
    loop {
        if let Ok(Some((Reply::Ended { code, .. }, _))) = protocol::take(&buffer) {
            return Some(code);
        }
        if connection.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Makes the process. Blocking.
fn run(inner: &Inner, record: &Record, spec: &ExecSpec) -> Result<Running> {
    let id = &record.spec.id;
    let capabilities = linux::capability::Set::from_bits(record.process.capabilities);
    let filter = security::filter(&record.spec, capabilities).map_err(into_exec)?;
    let mut process = record.process.clone();
    process.argv = spec.argv.clone();
    process.env.extend(spec.env.iter().cloned());
    process.filter = filter;
    process.tty_size = spec.tty_size;
    let mut namespaces = namespace::MOUNT;
    for (kind, _) in create::namespaces(&inner.spec) {
        namespaces |= kind;
    }
    if inner.shared.cgroups.version() == Version::V2 {
        namespaces |= namespace::CGROUP;
    }
    let join = Join { process, user: record.user.clone(), namespaces };
    let json = serde_json::to_vec(&join).map_err(|e| Error::Exec(e.to_string()))?;

    let pipe = || fd::pipe().context(|| "pipe".to_owned());
    let null = || -> Result<OwnedFd> {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        Ok(null.context(|| "/dev/null".to_owned())?.into())
    };
    let (ours, theirs) = UnixStream::pair().context(|| "socket pair".to_owned())?;
    let cgroup = inner.container_cgroup(id);
    let handle = inner.shared.cgroups.handle(&cgroup).at("open cgroup", cgroup.as_ref())?;
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    let mut given = Vec::new();
    if !spec.tty {
        let output = |wanted: bool, ours: &mut Option<OwnedFd>| -> Result<OwnedFd> {
            if !wanted {
                return null();
            }
            let (read, write) = pipe()?;
            *ours = Some(read);
            Ok(write)
        };
        let input = if spec.stdin {
            let (read, write) = pipe()?;
            stdin = Some(write);
            read
        } else {
            null()?
        };
        given = vec![input, output(spec.stdout, &mut stdout)?, output(spec.stderr, &mut stderr)?];
    }
    let request = Request::Exec { id: id.clone(), tty: spec.tty, cgroup: handle.is_some() };
    let connection = {
        let fds = std::iter::once(theirs.as_fd())
            .chain(handle.as_ref().map(|fd| fd.as_fd()))
            .chain(given.iter().map(|fd| fd.as_fd()));
        inner.shim.send(&request, &fds.collect::<Vec<_>>())?
    };
    // Their ends are the process's alone now.
    drop((theirs, given));
    let sent = protocol::send_bytes(&connection, &json);
    let pid = match inner.shim.answer(&connection)?.0 {
        Reply::Process { pid, .. } => pid,
        other => return Err(inner.shim.error(format!("unexpected answer {other:?}"))),
    };
    sent.map_err(|e| inner.shim.error(e))?;
    // It waits for us, so the id is still its own.
    let process = process::pidfd_open(pid).context(|| "exec process".to_owned())?;
    go(inner, &cgroup, pid, &connection)?;
    let mut terminal = None;
    if spec.tty {
        match protocol::receive::<Status>(&ours) {
            Ok(Some((Status::Terminal, fds))) => terminal = fds.into_iter().next(),
            // Said again below, unless it is a warning.
            Ok(Some((status, _))) => early(status)?,
            Ok(None) => return Err(Error::Exec("process ended before it ran".to_owned())),
            Err(e) => return Err(inner.shim.error(e)),
        }
    }
    outcome(&ours).map_err(into_exec)?;
    if let Some(master) = &terminal {
        let copy = || fd::duplicate_above(master, 3).context(|| "terminal".to_owned());
        stdin = spec.stdin.then(copy).transpose()?;
        stdout = spec.stdout.then(copy).transpose()?;
    }
    Ok(Running { connection, process, terminal, stdin, stdout, stderr })
}

/// A failure that comes instead of the terminal.
fn early(status: Status) -> Result<()> {
    match status {
        Status::CreateFailed(message) | Status::RunFailed(message) => {
            Err(into_exec(StartError::Run(message)))
        }
        _ => Ok(()),
    }
}

fn into_exec(error: StartError) -> Error {
    match error {
        StartError::Runtime(error) => error,
        StartError::Run(message) if message.starts_with("unable to") => {
            Error::Exec(format!("exec failed: {message}"))
        }
        other => Error::Exec(format!("exec failed: unable to start container process: {other}")),
    }
}

pub(super) async fn exec_sync(
    inner: &Arc<Inner>,
    id: &str,
    argv: Vec<String>,
    timeout: Duration,
) -> Result<ExecOutput> {
    let spec = ExecSpec { argv: argv.clone(), stdout: true, stderr: true, ..Default::default() };
    let mut session = exec(inner, id, spec).await?;
    let mut output = ExecOutput::default();
    let (mut stdout, mut stderr) = (session.stdout.take(), session.stderr.take());
    let run = async {
        let code = session.wait();
        let out = collect(&mut stdout, &mut output.stdout);
        let err = collect(&mut stderr, &mut output.stderr);
        tokio::pin!(code, out, err);
        let (mut out_done, mut err_done) = (false, false);
        // What its children still hold open does not count once the command itself has ended.
        loop {
            tokio::select! {
                code = &mut code => return code,
                () = &mut out, if !out_done => out_done = true,
                () = &mut err, if !err_done => err_done = true,
            }
        }
    };
    let ended =
        if timeout.is_zero() { Ok(run.await) } else { tokio::time::timeout(timeout, run).await };
    match ended {
        Ok(code) => {
            output.code = code?;
            for (stream, kept) in [(stdout, &mut output.stdout), (stderr, &mut output.stderr)] {
                if let Some(stream) = stream {
                    stream.drain(kept, OUTPUT_LIMIT);
                }
            }
            Ok(output)
        }
        Err(_) => {
            session.kill();
            Err(Error::Timeout { command: argv })
        }
    }
}

/// Reads to the end, keeps what fits, and throws the rest away so that the writer goes on.
async fn collect(stream: &mut Option<StreamReader>, kept: &mut Vec<u8>) {
    let Some(stream) = stream else { return };
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        kept.extend(&buffer[..n.min(OUTPUT_LIMIT - kept.len())]);
    }
}

pub(super) async fn attach(inner: &Arc<Inner>, id: &str, stdin: bool) -> Result<ExecSession> {
    let record = inner.require_running(id)?;
    let wants_stdin = stdin && record.spec.stdin;
    let tty = record.spec.tty;
    let (this, container) = (inner.clone(), id.to_owned());
    let (given, stdout, stderr) = blocking(move || {
        let pipe = || fd::pipe().context(|| "pipe".to_owned());
        let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
        let request = Request::Attach { id: container, stdin: wants_stdin };
        let fds = [out_write.as_fd(), err_write.as_fd()];
        let connection = this.shim.send(&request, &fds)?;
        let (_, given) = this.shim.answer(&connection)?;
        Ok::<_, Error>((given.into_iter().next(), out_read, err_read))
    })
    .await?;
    let failed = |e| inner.shim.error(e);
    let (terminal, stdin) = if tty {
        let copy = given.as_ref().filter(|_| wants_stdin);
        let copy = copy.map(|fd| fd::duplicate_above(fd, 3)).transpose().map_err(failed)?;
        (given, copy)
    } else {
        (None, given)
    };
    Ok(ExecSession {
        stdin: stdin.map(StreamWriter::new).transpose().map_err(failed)?,
        stdout: Some(StreamReader::new(stdout).map_err(failed)?),
        stderr: if tty { None } else { Some(StreamReader::new(stderr).map_err(failed)?) },
        terminal,
        end: SessionEnd::Container { sandbox: inner.clone(), id: id.to_owned() },
    })
}
