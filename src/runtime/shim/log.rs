//! Container logs in the CRI format, `<time> <stream> <P|F> <content>`, rotated by size.
//!
//! The shim rotates by itself, so nobody has to be woken to look at sizes. Rotated files are named
//! as the kubelet names them, `0.log.20060102-150405`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use linux::process;

use super::protocol::Moment;
use crate::spec::LogLimits;

/// Longest content of one entry; a longer line is several, all but the last marked `P`. As in
/// containerd.
pub(crate) const MAX_ENTRY: usize = 16 << 10;

/// Year, month, day, hour, minute and second (UTC) of a time since 1970.
fn civil(seconds: i64) -> [i64; 6] {
    // Days to date by Howard Hinnant's algorithm: years begin in March, eras have 400 years.
    let days = seconds.div_euclid(86_400) + 719_468;
    let time = seconds.rem_euclid(86_400);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    [year, month, day, time / 3600, time / 60 % 60, time % 60]
}

/// Appends a time as RFC 3339 with nanoseconds, byte by byte: the formatting machinery would be
/// most of what an entry costs.
fn push_time(out: &mut Vec<u8>, (seconds, nanos): Moment) {
    fn digits(out: &mut Vec<u8>, value: i64, count: u32) {
        (0..count).rev().for_each(|i| out.push(b'0' + (value / 10i64.pow(i) % 10) as u8));
    }
    let [year, month, day, hour, minute, second] = civil(seconds);
    digits(out, year, 4);
    for (separator, value) in
        [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)]
    {
        out.push(separator);
        digits(out, value, 2);
    }
    out.push(b'.');
    digits(out, nanos.into(), 9);
    out.push(b'Z');
}

/// Cuts a stream of bytes into entries.
#[derive(Debug)]
pub(crate) struct Entries {
    stream: &'static str,
    /// The line that has no end yet.
    line: Vec<u8>,
}

impl Entries {
    pub(crate) fn new(stream: &'static str) -> Entries {
        Entries { stream, line: Vec::new() }
    }

    fn entry(&mut self, out: &mut Vec<u8>, at: Moment, tag: u8) {
        push_time(out, at);
        out.push(b' ');
        out.extend(self.stream.as_bytes());
        out.extend([b' ', tag, b' ']);
        out.append(&mut self.line);
        out.push(b'\n');
    }

    /// Takes bytes in and appends the entries that they complete to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let at = process::now();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (mut piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            while self.line.len() + piece.len() > MAX_ENTRY {
                let (now, later) = piece.split_at(MAX_ENTRY - self.line.len());
                self.line.extend(now);
                self.entry(out, at, b'P');
                piece = later;
            }
            self.line.extend(piece);
            if ends {
                self.entry(out, at, b'F');
            }
        }
        // A quiet container holds no buffer.
        if self.line.is_empty() {
            self.line = Vec::new();
        }
    }

    /// The last line, where the stream ended without a line end. `P` keeps readers from adding one,
    /// as with containerd.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.entry(out, process::now(), b'P');
        }
    }
}

/// A log file.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limits: LogLimits,
}

impl Log {
    /// Opens a log, or one that discards everything.
    pub(crate) fn open(path: Option<PathBuf>, limits: LogLimits) -> std::io::Result<Log> {
        let mut log = Log { path: path.unwrap_or_default(), file: None, size: 0, limits };
        if !log.path.as_os_str().is_empty() {
            log.reopen()?;
        }
        Ok(log)
    }

    /// Opens the file at the log's path, where somebody may have moved the old one away.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        let mut options = File::options();
        let file = options.append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes whole entries. What a full disk refuses is lost: the container must not stand still
    /// for its log.
    pub(crate) fn write(&mut self, entries: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if file.write_all(entries).is_ok() {
            self.size += entries.len() as u64;
        }
        if self.limits.max_size > 0 && self.size > self.limits.max_size {
            // Failing leaves the present file in use; the next write tries again.
            let _ = self.rotate();
        }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let [year, month, day, hour, minute, second] = civil(process::now().0);
        let mut target = self.path.clone().into_os_string();
        target.push(format!(".{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}"));
        // Twice in one second: the older one would be overwritten.
        if Path::new(&target).exists() {
            return Ok(());
        }
        if self.limits.max_files <= 1 {
            std::fs::remove_file(&self.path)?;
        } else {
            std::fs::rename(&self.path, &target)?;
        }
        self.reopen()?;
        let mut rotated = rotated_files(&self.path)?;
        let surplus = (rotated.len() + 1).saturating_sub(self.limits.max_files.max(1) as usize);
        rotated.drain(..surplus).try_for_each(std::fs::remove_file)
    }
}

/// The rotated files of a log, oldest first.
pub(crate) fn rotated_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let text = |at| {
            let mut out = Vec::new();
            push_time(&mut out, at);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text((0, 0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text((951_782_400, 1)), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text((1_798_761_599, 999_999_999)), "2026-12-31T23:59:59.999999999Z");
    }

    fn lines(out: &[u8]) -> Vec<(String, usize)> {
        let text = String::from_utf8(out.to_vec()).unwrap();
        text.lines()
            .map(|l| {
                let (head, content) = l.split_at(39);
                (head[31..].trim().to_owned(), content.len())
            })
            .collect()
    }

    #[test]
    fn lines_long_short_and_unfinished() {
        let mut entries = Entries::new("stdout");
        let mut out = Vec::new();
        entries.push(b"ab", &mut out);
        assert!(out.is_empty(), "a line without an end waits");
        entries.push(b"c\n\nde", &mut out);
        assert_eq!(lines(&out), [("stdout F".into(), 4), ("stdout F".into(), 1)]);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.lines().next().unwrap().ends_with(" stdout F abc"), "{text}");
        out.clear();
        entries.push(&vec![b'x'; MAX_ENTRY * 2], &mut out);
        let part = ("stdout P".to_owned(), MAX_ENTRY + 1);
        assert_eq!(lines(&out), [part.clone(), part]);
        out.clear();
        entries.finish(&mut out);
        assert_eq!(lines(&out), [("stdout P".into(), 3)]);
        out.clear();
        entries.finish(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let dir = std::env::temp_dir().join(format!("knarr-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0.log");
        for old in ["20200101-000000", "20200102-000000", "20200103-000000"] {
            std::fs::write(dir.join(format!("0.log.{old}")), old).unwrap();
        }
        let limits = LogLimits { max_size: 10, max_files: 3 };
        let mut log = Log::open(Some(path.clone()), limits).unwrap();
        log.write(b"short\n");
        assert_eq!(rotated_files(&path).unwrap().len(), 3);
        log.write(b"long enough\n");
        log.write(b"new\n");
        let rotated = rotated_files(&path).unwrap();
        assert_eq!(rotated.len(), 2, "with the live one three");
        assert!(rotated[0].to_string_lossy().ends_with("20200103-000000"));
        assert_eq!(std::fs::read_to_string(&rotated[1]).unwrap(), "short\nlong enough\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::rename(&path, dir.join("moved")).unwrap();
        log.reopen().unwrap();
        log.write(b"after\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
