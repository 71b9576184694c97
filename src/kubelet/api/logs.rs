//! Container logs: read from their files in the CRI format, across rotations, and followed by
//! inotify.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use runtime::Sandbox;
// Any handle that is waited for and read can be taken for the end of a pipe.
use tokio::{net::unix::pipe::Receiver, sync::mpsc};

use super::server::Query;
use crate::{
    pods::{log_files, view::RUNTIME_NAME},
    podspec::PodExt,
    shared::Shared,
};

/// Bytes read at a time, and sent at a time at most.
const CHUNK: usize = 32 << 10;

/// What a client wants of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) previous: bool,
    pub(super) follow: bool,
    timestamps: bool,
    tail: Option<usize>,
    limit: Option<usize>,
    since: Option<Timestamp>,
    /// `stdout` or `stderr` alone.
    only: Option<&'static str>,
}

impl Options {
    pub(super) fn parse(query: &Query) -> Result<Self, StatusCode> {
        let invalid = StatusCode::UNPROCESSABLE_ENTITY;
        let number = |name: &str| -> Result<Option<i64>, StatusCode> {
            match query.get(name).filter(|text| !text.is_empty()) {
                None => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|_| StatusCode::BAD_REQUEST),
            }
        };
        let tail = match query.get("tail") {
            Some("all") => None,
            Some(_) => number("tail")?,
            None => number("tailLines")?,
        };
        let unsigned = |value: Option<i64>| {
            value.map(|value| usize::try_from(value).map_err(|_| invalid)).transpose()
        };
        let mut since = None;
        if let Some(seconds) = number("sinceSeconds")? {
            if seconds < 1 {
                return Err(invalid);
            }
            let ago = Duration::from_secs(seconds.unsigned_abs());
            since = Timestamp::now().checked_sub(ago).ok();
        }
        if let Some(text) = query.get("sinceTime").filter(|text| !text.is_empty()) {
            since = Some(text.parse().map_err(|_| StatusCode::BAD_REQUEST)?);
        }
        let limit = number("limitBytes")?;
        if limit.is_some_and(|limit| limit < 1) {
            return Err(invalid);
        }
        Ok(Self {
            previous: query.flag("previous"),
            follow: query.flag("follow"),
            timestamps: query.flag("timestamps"),
            tail: unsigned(tail)?,
            limit: unsigned(limit)?,
            since,
            only: match query.get("stream") {
                Some("Stdout") => Some("stdout"),
                Some("Stderr") => Some("stderr"),
                _ => None,
            },
        })
    }
}

/// Where a log is, and how to know that nothing more will be written.
pub(super) struct Source {
    path: PathBuf,
    running: Option<(Sandbox, String)>,
}

/// The log of a container as its status says; the error is what the client is told.
pub(super) fn source(
    shared: &Shared,
    pod: &Pod,
    container: &str,
    previous: bool,
) -> Result<Source, String> {
    let name = pod.name();
    let folder = log_files::pod_folder(&shared.config.log_dir, pod).join(container);
    let attempts = log_files::attempts(&folder);
    let sandbox = shared.runtime.sandbox(pod.uid());
    let mut instances: Vec<_> = sandbox
        .iter()
        .flat_map(Sandbox::containers)
        .filter(|instance| instance.name == container)
        .collect();
    instances.sort_by_key(|instance| std::cmp::Reverse(instance.attempt));
    let newest = instances.first();
    let file = |attempt: u32| folder.join(format!("{attempt}.log"));
    if previous {
        // The one before the newest; of a container that waits to be started again, the newest.
        let ended: Vec<u32> = match newest {
            Some(newest) => attempts.iter().copied().filter(|a| *a < newest.attempt).collect(),
            None => attempts.iter().rev().skip(1).rev().copied().collect(),
        };
        return match ended.last() {
            Some(attempt) => Ok(Source { path: file(*attempt), running: None }),
            None => Err(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            )),
        };
    }
    if let (Some(newest), Some(sandbox)) = (newest, sandbox) {
        let running = newest.status == runtime::Status::Running;
        let running = running.then(|| (sandbox.clone(), newest.id.clone()));
        return Ok(Source { path: file(newest.attempt), running });
    }
    if let Some(attempt) = attempts.last() {
        return Ok(Source { path: file(*attempt), running: None });
    }
    Err(why_none(pod, container))
}

/// Why a container has no log yet.
fn why_none(pod: &Pod, container: &str) -> String {
    let name = pod.name();
    let status = pod.status.as_ref().and_then(|status| {
        [
            &status.container_statuses,
            &status.init_container_statuses,
            &status.ephemeral_container_statuses,
        ]
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
    });
    let Some(status) = status else {
        return format!("container {container:?} in pod {name:?} is not available");
    };
    let state = status.state.clone().unwrap_or_default();
    let begin = format!("container {container:?} in pod {name:?} is");
    match state.waiting.and_then(|waiting| waiting.reason).as_deref() {
        Some("ErrImagePull") => format!("{begin} waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => {
            format!("{begin} waiting to start: trying and failing to pull image")
        }
        Some(reason) => format!("{begin} waiting to start: {reason}"),
        None if state.terminated.is_some() => format!("{begin} terminated"),
        None => {
            let id = status.container_id.clone().unwrap_or_else(|| format!("{RUNTIME_NAME}://"));
            format!("unable to retrieve container logs for {id}")
        }
    }
}

/// One entry of a log.
struct Entry<'a> {
    time: &'a str,
    stream: &'a str,
    /// With its line end, unless the line goes on in the next entry.
    content: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let rest = parts.next()?;
    let at = rest.iter().position(|byte| *byte == b' ')?;
    let (tag, mut content) = (&rest[..at], &rest[at + 1..]);
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    if tag == b"P" || tag.starts_with(b"P:") {
        content = content.strip_suffix(b"\n").unwrap_or(content);
    }
    Some(Entry { time, stream, content })
}

/// Turns lines of the file into what the client sees.
struct Filter {
    options: Options,
    left: usize,
    line_start: bool,
}

impl Filter {
    fn new(options: Options) -> Self {
        let left = options.limit.unwrap_or(usize::MAX);
        Self { options, left, line_start: true }
    }

    /// Appends what is shown of a line. Answers whether the client wants more.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(entry) = parse(line) else { return true };
        let wanted = self.options.only.is_none_or(|only| only == entry.stream);
        let recent = self
            .options
            .since
            .is_none_or(|since| entry.time.parse::<Timestamp>().is_ok_and(|time| time >= since));
        if !wanted || !recent {
            return true;
        }
        let start = out.len();
        if self.options.timestamps && self.line_start {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.content);
        self.line_start = entry.content.ends_with(b"\n") || entry.content.is_empty();
        if out.len() - start >= self.left {
            out.truncate(start + self.left);
            self.left = 0;
            return false;
        }
        self.left -= out.len() - start;
        true
    }
}

/// The files of a log, the oldest first: those that were rotated away and the present one.
fn files(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return vec![path.to_owned()];
    };
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|other| {
                other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
            })
        })
        .map(|entry| entry.path())
        .collect();
    rotated.sort();
    rotated.push(path.to_owned());
    rotated
}

/// Where the last `lines` lines of a file begin, and how many lines it has of them.
fn tail_start(file: &mut File, lines: usize) -> io::Result<(u64, usize)> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let mut found = 0;
    let mut end = length;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut buffer[..usize::try_from(end - start).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let position = start + at as u64;
            if *byte == b'\n' && position + 1 != length {
                found += 1;
                if found == lines {
                    return Ok((position + 1, lines));
                }
            }
        }
        end = start;
    }
    Ok((0, found + usize::from(length > 0)))
}

/// The last lines of one log file as the container wrote them.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (start, _) = tail_start(&mut file, lines)?;
    file.seek(SeekFrom::Start(start))?;
    let mut filter = Filter::new(Options::default());
    let mut out = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let mut line = line?;
        line.push(b'\n');
        filter.line(&line, &mut out);
    }
    Ok(out)
}

/// A place in a log file that is read on.
struct Cursor {
    file: File,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Cursor {
    /// Reads up to some chunks. Answers what is shown, whether more is wanted, and whether the end of
    /// the file was reached.
    fn read(&mut self, filter: &mut Filter) -> io::Result<(Vec<u8>, bool, bool)> {
        let mut out = Vec::new();
        let mut buffer = [0; CHUNK];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok((out, true, true));
            }
            self.rest.extend_from_slice(&buffer[..count]);
            let mut done = 0;
            while let Some(length) = self.rest[done..].iter().position(|byte| *byte == b'\n') {
                let more = filter.line(&self.rest[done..=done + length], &mut out);
                done += length + 1;
                if !more {
                    return Ok((out, false, false));
                }
            }
            self.rest.drain(..done);
            if out.len() >= CHUNK {
                return Ok((out, true, false));
            }
        }
    }
}

/// Sends a log to the client, to its end or for as long as the container runs.
pub(super) async fn stream(source: Source, options: Options, out: mpsc::Sender<Bytes>) {
    if let Err(error) = send(source, options, &out).await {
        // The answer has begun, so the text is all that can be said.
        let _ = out.send(Bytes::from(format!("{error}\n"))).await;
    }
}

/// Opens the files from which reading begins.
fn open(path: &Path, tail: Option<usize>) -> io::Result<Vec<File>> {
    let mut opened = Vec::new();
    let mut left = tail;
    for path in files(path).iter().rev() {
        if left == Some(0) && !opened.is_empty() {
            break;
        }
        let mut file = File::open(path)?;
        if let Some(lines) = left {
            let (start, found) = tail_start(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
            left = Some(lines - found);
        }
        opened.push(file);
    }
    opened.reverse();
    Ok(opened)
}

async fn send(source: Source, options: Options, out: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let follow = options.follow && source.running.is_some();
    // The watch begins before the first read, so that nothing is missed in between.
    let watch = match (follow, source.path.parent()) {
        (true, Some(folder)) => {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let flags = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_MOVED_TO;
            inotify.add_watch(folder, flags)?;
            Some(Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?)
        }
        _ => None,
    };
    let (path, tail) = (source.path.clone(), options.tail);
    let opened = blocking(move || open(&path, tail)).await?;
    let mut reader = Reader { cursor: None, filter: Filter::new(options) };
    for file in opened {
        reader.cursor = Some(Cursor { file, rest: Vec::new() });
        match drain(reader, out).await? {
            Some(back) => reader = back,
            None => return Ok(()),
        }
    }
    let (Some(watch), Some((sandbox, id))) = (watch, source.running) else { return Ok(()) };
    let ended = async move {
        // However the wait ends, there is nobody left who writes.
        let _ = sandbox.wait(&id).await;
    };
    tokio::pin!(ended);
    let mut over = false;
    let mut events = [0; 1024];
    loop {
        match drain(reader, out).await? {
            Some(back) => reader = back,
            None => return Ok(()),
        }
        let path = source.path.clone();
        let (back, fresh) = blocking(move || {
            let fresh = reader.follow_rotation(&path)?;
            Ok((reader, fresh))
        })
        .await?;
        reader = back;
        if fresh {
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            ready = watch.readable() => {
                ready?;
                // What happened does not matter: the file tells.
                while watch.try_read(&mut events).is_ok() {}
            }
            () = &mut ended => over = true,
            () = out.closed() => return Ok(()),
        }
    }
}

/// A log on its way to a client.
struct Reader {
    cursor: Option<Cursor>,
    filter: Filter,
}

impl Reader {
    /// Goes over to the present file if the one being read was moved away. Answers whether it did.
    fn follow_rotation(&mut self, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Some(cursor) = &self.cursor else { return Ok(false) };
        let present = match std::fs::metadata(path) {
            Ok(present) => present,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if present.ino() == cursor.file.metadata()?.ino() {
            return Ok(false);
        }
        self.cursor = Some(Cursor { file: File::open(path)?, rest: Vec::new() });
        Ok(true)
    }
}

/// Sends all that is there. Answers the reader if the client wants more.
async fn drain(mut reader: Reader, out: &mpsc::Sender<Bytes>) -> io::Result<Option<Reader>> {
    loop {
        let (back, (bytes, more, end)) = blocking(move || {
            let Reader { cursor, filter } = &mut reader;
            let read = match cursor {
                Some(cursor) => cursor.read(filter)?,
                None => (Vec::new(), true, true),
            };
            Ok((reader, read))
        })
        .await?;
        reader = back;
        if !bytes.is_empty() && out.send(Bytes::from(bytes)).await.is_err() {
            return Ok(None);
        }
        if !more {
            return Ok(None);
        }
        if end {
            return Ok(Some(reader));
        }
    }
}

async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-02T03:04:05.000000001Z stdout F one\n\
                       2026-01-02T03:04:06.000000001Z stderr F two\n\
                       2026-01-02T03:04:07.000000001Z stdout P thr\n\
                       2026-01-02T03:04:08.000000001Z stdout F ee\n";

    async fn shown(path: &Path, options: Options) -> String {
        let (sender, mut receiver) = mpsc::channel(64);
        let source = Source { path: path.to_owned(), running: None };
        stream(source, options, sender).await;
        let mut text = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            text.extend_from_slice(&bytes);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options_shape_what_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let all = Options::default();
        assert_eq!(shown(&path, all.clone()).await, "one\ntwo\nthree\n");
        let tail = |n| Options { tail: Some(n), ..Options::default() };
        assert_eq!(shown(&path, tail(1)).await, "ee\n");
        assert_eq!(shown(&path, tail(3)).await, "two\nthree\n");
        assert_eq!(shown(&path, tail(0)).await, "");
        assert_eq!(shown(&path, tail(99)).await, "one\ntwo\nthree\n");
        let limit = Options { limit: Some(5), ..Options::default() };
        assert_eq!(shown(&path, limit).await, "one\nt");
        let since = "2026-01-02T03:04:06Z".parse().ok();
        assert_eq!(shown(&path, Options { since, ..Options::default() }).await, "two\nthree\n");
        let only = Options { only: Some("stderr"), ..Options::default() };
        assert_eq!(shown(&path, only).await, "two\n");
        let timestamps = Options { timestamps: true, tail: Some(2), ..Options::default() };
        assert_eq!(shown(&path, timestamps).await, "2026-01-02T03:04:07.000000001Z three\n");
    }

    #[tokio::test]
    async fn rotated_files_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let (old, new) = LOG.split_at(LOG.len() / 2 + LOG[LOG.len() / 2..].find('\n').unwrap() + 1);
        std::fs::write(folder.path().join("0.log.20260102-030405"), old).unwrap();
        std::fs::write(&path, new).unwrap();
        assert_eq!(shown(&path, Options::default()).await, "one\ntwo\nthree\n");
        let tail = Options { tail: Some(3), ..Options::default() };
        assert_eq!(shown(&path, tail).await, "two\nthree\n");
    }

    #[test]
    fn long_files_are_read_from_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let line =
            |n: usize| format!("2026-01-02T03:04:05Z stdout F line {n} {}\n", "x".repeat(90));
        let text: String = (0..2000).map(line).collect();
        std::fs::write(&path, text).unwrap();
        let end = String::from_utf8(tail(&path, 500).unwrap()).unwrap();
        assert_eq!(end.lines().count(), 500);
        assert!(end.starts_with("line 1500 "));
    }
}
