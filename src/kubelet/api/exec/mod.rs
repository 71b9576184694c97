//! Commands in containers, and connections to what runs in them.

mod over_spdy;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use runtime::{ExecSession, ExecSpec, Sandbox, Status, StreamReader, StreamWriter};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tracing::debug;

use super::{
    server::{Answer, Query, Server, Target, failure, text},
    spdy,
    websocket::{self, Received},
};
use crate::podspec::PodExt;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// Bytes passed on at a time.
const CHUNK: usize = 32 << 10;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    fn of(query: &Query) -> Result<Self, &'static str> {
        let tty = query.flag("tty");
        let streams = Self {
            stdin: query.flag("input") || query.flag("stdin"),
            stdout: query.flag("output") || query.flag("stdout"),
            // A terminal has one stream for all output.
            stderr: (query.flag("error") || query.flag("stderr")) && !tty,
            tty,
        };
        if streams.stdin || streams.stdout || streams.stderr {
            Ok(streams)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr")
        }
    }
}

/// What is to be connected.
enum Job {
    Exec(Vec<String>),
    Attach,
}

/// A running container and what to do with it.
struct Command {
    sandbox: Sandbox,
    id: String,
    job: Job,
    streams: Streams,
}

pub(super) async fn exec(
    server: &Server,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let command = query.all("command");
    if command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 command");
    }
    start(server, target, query, request, Job::Exec(command))
}

pub(super) async fn attach(
    server: &Server,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    start(server, target, query, request, Job::Attach)
}

fn start(
    server: &Server,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
    job: Job,
) -> Answer {
    let mut streams = match Streams::of(query) {
        Ok(streams) => streams,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let name = &target.container;
    let sandbox = server.shared.runtime.sandbox(target.pod.uid());
    let running = sandbox.as_ref().and_then(|sandbox| {
        let mut all = sandbox.containers();
        all.retain(|c| c.name == *name && c.status == Status::Running);
        all.pop()
    });
    let (Some(sandbox), Some(running)) = (sandbox, running) else {
        return failure(404, "NotFound", &format!("container not found ({name:?})"));
    };
    if matches!(job, Job::Attach)
        && let Some((_, container)) = target.pod.find_container(name)
    {
        // Whether the process has a terminal was decided at its start.
        streams.tty = container.tty == Some(true);
        streams.stderr &= !streams.tty;
    }
    let command = Command { sandbox, id: running.id, job, streams };
    let headers = request.headers().clone();
    if websocket::wanted(&headers) {
        let Some(protocol) = websocket::negotiate(&headers) else {
            let offered = websocket::offered(&headers).join(", ");
            let message = format!("unable to upgrade: no protocol known of {offered:?}");
            return text(StatusCode::FORBIDDEN, message);
        };
        server.tasks.spawn(async move {
            if let Some(socket) = websocket::open(request).await {
                over_websocket(command, socket, protocol).await;
            }
        });
        return websocket::accept(&headers, protocol.name);
    }
    if spdy::wanted(&headers) {
        let Some(protocol) = spdy::negotiate(&headers, &over_spdy::PROTOCOLS) else {
            return spdy::refuse(&over_spdy::PROTOCOLS);
        };
        server.tasks.spawn(async move {
            match hyper::upgrade::on(request).await {
                Ok(upgraded) => over_spdy::run(command, TokioIo::new(upgraded), protocol).await,
                Err(error) => debug!(%error, "connection not upgraded"),
            }
        });
        return spdy::accept(protocol);
    }
    text(StatusCode::BAD_REQUEST, "Upgrade request required")
}

impl Command {
    /// Begins. The error is the message of the client's Status.
    async fn begin(&self) -> Result<ExecSession, String> {
        let begun = match &self.job {
            Job::Exec(argv) => {
                let spec = ExecSpec {
                    argv: argv.clone(),
                    env: Vec::new(),
                    tty: self.streams.tty,
                    tty_size: None,
                    stdin: self.streams.stdin,
                    stdout: self.streams.stdout,
                    stderr: self.streams.stderr,
                };
                self.sandbox.exec(&self.id, spec).await
            }
            Job::Attach => self.sandbox.attach(&self.id, self.streams.stdin).await,
        };
        begun.map_err(|error| match self.job {
            Job::Exec(_) => format!("error executing command in container: {error}"),
            Job::Attach => format!("error attaching to container: {error}"),
        })
    }

    /// The Status that ends the session of this command.
    fn status(&self, ended: Result<i32, String>) -> Value {
        match (&self.job, ended) {
            (_, Err(message)) => internal_error(&message),
            (Job::Exec(argv), Ok(code)) if code != 0 => json!({
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": format!(
                    "command terminated with non-zero exit code: error executing command [{}], \
                     exit code {code}",
                    argv.join(" ")
                ),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            _ => json!({"metadata": {}, "status": "Success"}),
        }
    }
}

fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": format!("Internal error occurred: {message}"),
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

/// The terminal size that a client sends.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Sets the terminal's size from a message of the resize channel.
fn resize(session: &ExecSession, message: &[u8]) {
    for size in serde_json::Deserializer::from_slice(message).into_iter::<Size>().flatten() {
        if let Err(error) = session.resize(size.width, size.height) {
            debug!(%error, "terminal not resized");
        }
    }
}

/// Passes on what a stream holds as messages of a channel, to its end.
async fn pump(stream: Option<StreamReader>, channel: u8, out: mpsc::Sender<(u8, Vec<u8>)>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => {
                if out.send((channel, buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
            // A terminal whose last process has ended reads as an error.
            Err(_) => return,
        }
    }
}

/// Writes what comes to a process, to its end or until the process closes its own.
async fn feed(stdin: Option<StreamWriter>, mut input: mpsc::Receiver<Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(data) = input.recv().await {
        if stdin.write_all(&data).await.is_err() {
            return;
        }
    }
}

/// The next message, once there is room for what it may hold: a process that does not read makes
/// the client wait, but not what it writes itself.
async fn next(
    reader: &mut websocket::Reader,
    input: Option<&mpsc::Sender<Bytes>>,
) -> Option<Received> {
    if let Some(input) = input {
        // Without a receiver what comes is thrown away.
        drop(input.reserve().await);
    }
    reader.next().await
}

async fn over_websocket(
    command: Command,
    socket: websocket::Socket,
    protocol: websocket::Protocol,
) {
    let (mut reader, mut writer) = websocket::split(socket, protocol);
    let first = match command.streams {
        Streams { stdout: true, .. } => STDOUT,
        Streams { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    // An empty message tells the client that the connection stands.
    if writer.send(first, &[]).await.is_err() {
        return;
    }
    let mut session = match command.begin().await {
        Ok(session) => session,
        Err(why) => return finish(&command, Err(why), protocol, writer).await,
    };
    let (out, mut messages) = mpsc::channel(4);
    let outputs = tokio::spawn(pump(session.stdout.take(), STDOUT, out.clone()));
    let errors = tokio::spawn(pump(session.stderr.take(), STDERR, out));
    let (sender, receiver) = mpsc::channel(1);
    let inputs = tokio::spawn(feed(session.stdin.take(), receiver));
    let mut input = Some(sender);
    let mut ended = None;
    let mut open = true;
    while open || ended.is_none() {
        tokio::select! {
            // All output comes before the end is told.
            message = messages.recv(), if open => match message {
                Some((channel, data)) => if writer.send(channel, &data).await.is_err() { break },
                None => open = false,
            },
            code = session.wait(), if ended.is_none() => {
                ended = Some(code.map_err(|error| error.to_string()));
                if matches!(command.job, Job::Attach) && command.streams.tty {
                    open = false;
                }
            }
            received = next(&mut reader, input.as_ref()) => match received {
                Some(Received::Data(STDIN, data)) => if let Some(input) = &input {
                    // There is room: nobody else sends.
                    let _ = input.try_send(data);
                },
                Some(Received::Data(RESIZE, data)) => resize(&session, &data),
                Some(Received::Closed(STDIN)) => input = None,
                Some(_) => {}
                // The client is gone; the process is told by the end of its streams.
                None => break,
            },
        }
    }
    for task in [outputs, errors, inputs] {
        task.abort();
    }
    match ended {
        Some(ended) => finish(&command, ended, protocol, writer).await,
        None => writer.close().await,
    }
}

async fn finish(
    command: &Command,
    ended: Result<i32, String>,
    protocol: websocket::Protocol,
    mut writer: websocket::Writer,
) {
    let message = last_words(&command.status(ended), protocol.tells_status());
    if !message.is_empty() && writer.send(ERROR, message.as_bytes()).await.is_err() {
        return;
    }
    writer.close().await;
}

/// What a client is told at the end; the oldest are told of failures only, in words.
fn last_words(status: &Value, as_status: bool) -> String {
    match as_status {
        true => status.to_string(),
        false => status.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_request() {
        let of = |text: &str| Streams::of(&Query::parse(text));
        assert_eq!(
            of("input=1&output=1&error=1&tty=0&command=sh"),
            Ok(Streams { stdin: true, stdout: true, stderr: true, tty: false })
        );
        assert_eq!(
            of("output=true&error=true&tty=true"),
            Ok(Streams { stdin: false, stdout: true, stderr: false, tty: true })
        );
        assert!(of("command=sh").is_err());
    }
}
