//! Commands over SPDY: a stream for each of stdin, stdout, stderr, errors and sizes of the terminal.
//! This is what clients from before WebSockets speak.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{CHUNK, Command, Job, last_words, resize};
use crate::api::spdy::{Session, Stream};

/// Protocols that are spoken, the newest first.
pub(super) const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

/// The streams of a command.
#[derive(Default)]
struct Opened {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

/// Runs a command for the client of a connection.
pub(super) async fn run(
    command: Command,
    connection: impl AsyncRead + AsyncWrite + Send + 'static,
    protocol: &'static str,
) {
    let mut session = Session::start(connection);
    let opening = tokio::time::timeout(OPENING, open(&command, &mut session, protocol));
    let Ok(Some(opened)) = opening.await else {
        return debug!("the client did not open all streams of its command");
    };
    let Opened { stdin, stdout, stderr, error, resize } = opened;
    let ended = connect(&command, &mut session, [stdout, stderr], stdin, resize).await;
    if let (Some(mut error), Some(ended)) = (error, ended) {
        let words = last_words(&command.status(ended), protocol == PROTOCOLS[0]);
        if error.writer.write(words.as_bytes()).await.is_ok() {
            error.writer.finish().await;
        }
    }
    session.close().await;
}

/// Waits for the streams that the client asked for.
async fn open(command: &Command, session: &mut Session, protocol: &str) -> Option<Opened> {
    let wanted = command.streams;
    let resizes = wanted.tty && (protocol == PROTOCOLS[0] || protocol == PROTOCOLS[1]);
    let mut opened = Opened::default();
    loop {
        let complete = opened.error.is_some()
            && (!wanted.stdin || opened.stdin.is_some())
            && (!wanted.stdout || opened.stdout.is_some())
            && (!wanted.stderr || opened.stderr.is_some())
            && (!resizes || opened.resize.is_some());
        if complete {
            return Some(opened);
        }
        let stream = session.next().await?;
        let place = match stream.header("streamtype") {
            Some("stdin") => &mut opened.stdin,
            Some("stdout") => &mut opened.stdout,
            Some("stderr") => &mut opened.stderr,
            Some("error") => &mut opened.error,
            Some("resize") => &mut opened.resize,
            other => {
                debug!(kind = other, "unexpected stream");
                return None;
            }
        };
        *place = Some(stream);
    }
}

/// Connects a command to its streams until it has ended and all output is sent. Answers nothing if
/// the client went away before.
async fn connect(
    command: &Command,
    session: &mut Session,
    [stdout, stderr]: [Option<Stream>; 2],
    stdin: Option<Stream>,
    sizes: Option<Stream>,
) -> Option<Result<i32, String>> {
    let mut process = match command.begin().await {
        Ok(process) => process,
        Err(why) => return Some(Err(why)),
    };
    let mut to_process = process.stdin.take();
    let input = async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(data) = stdin.reader.next().await {
            // It may have closed its end.
            if let Some(process) = &mut to_process
                && process.write_all(&data).await.is_err()
            {
                to_process = None;
            }
        }
    };
    let out = AbortOnDropHandle::new(tokio::spawn(copy(process.stdout.take(), stdout)));
    let err = AbortOnDropHandle::new(tokio::spawn(copy(process.stderr.take(), stderr)));
    let resizing = async {
        let Some(mut sizes) = sizes else { return };
        while let Some(size) = sizes.reader.next().await {
            resize(&process, &size);
        }
    };
    let ended = async {
        let code = process.wait().await.map_err(|error| error.to_string());
        // Others may have the terminal of an attached container open for longer.
        if !(matches!(command.job, Job::Attach) && command.streams.tty) {
            let _ = tokio::join!(out, err);
        }
        code
    };
    let gone = async { while session.next().await.is_some() {} };
    let serving = async {
        tokio::join!(input, resizing);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        code = ended => Some(code),
        () = gone => None,
        () = serving => None,
    }
}

/// Sends all output to the client.
async fn copy(from: Option<runtime::StreamReader>, to: Option<Stream>) {
    let Some(mut to) = to else { return };
    if let Some(mut from) = from {
        let mut buffer = vec![0; CHUNK];
        // A terminal whose last process has ended reads as an error.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if to.writer.write(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
    to.writer.finish().await;
}
