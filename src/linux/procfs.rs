//! What `/proc` tells about processes and mounts.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// When a process started, in clock ticks since boot: with the pid it names a process for good.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    start_time_of(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn start_time_of(stat: &[u8]) -> Option<u64> {
    // The name in parentheses may have anything in it, so count from its end.
    let end = stat.iter().rposition(|b| *b == b')')?;
    std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The folder of the filesystem that is shown.
    pub root: PathBuf,
    /// Where it is shown.
    pub mount_point: PathBuf,
    /// Options of this mount.
    pub options: String,
    /// Whether mounts below it pass to others of a group (`shared:N`).
    pub shared: bool,
    /// Whether it receives mounts of a group (`master:N`).
    pub slave: bool,
    /// Filesystem type.
    pub fstype: String,
    /// Options of the filesystem.
    pub super_options: String,
}

/// The mounts that this process sees.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    // Of the thread: a process's may be gone with its first thread.
    let text = std::fs::read("/proc/thread-self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_mount).collect())
}

fn parse_mount(line: &[u8]) -> Option<MountInfo> {
    let line = String::from_utf8_lossy(line);
    let (mount, fs) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let fs: Vec<&str> = fs.split(' ').collect();
    let optional = mount.get(6..).unwrap_or_default();
    Some(MountInfo {
        root: unescape(mount.get(3)?),
        mount_point: unescape(mount.get(4)?),
        options: mount.get(5)?.to_string(),
        shared: optional.iter().any(|o| o.starts_with("shared:")),
        slave: optional.iter().any(|o| o.starts_with("master:")),
        fstype: fs.first()?.to_string(),
        super_options: fs.get(2).unwrap_or(&"").to_string(),
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).filter(|_| bytes[i] == b'\\');
        match octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// The mount that a path lies on: of those at the longest matching mount point the last.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|m| path.starts_with(&m.mount_point))
        .max_by_key(|m| m.mount_point.components().count())
}

/// The cgroup of a process, per hierarchy: `("", "/a")` for v2, `("memory", "/a")` for v1.
pub fn cgroups(pid: i32) -> io::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_confuse() {
        let stat = b"7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 100";
        assert_eq!(start_time_of(stat), Some(4711));
        assert_eq!(start_time_of(b"7 (x"), None);
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
    }

    #[test]
    fn mount_lines() {
        let line =
            b"36 35 98:0 /a\\040b /mnt\\011x rw,noatime shared:1 master:2 - ext4 /dev/x rw,e=c";
        let m = parse_mount(line).unwrap();
        assert_eq!((m.root.to_str(), m.mount_point.to_str()), (Some("/a b"), Some("/mnt\tx")));
        assert!(m.shared && m.slave);
        assert_eq!((m.fstype.as_str(), m.super_options.as_str()), ("ext4", "rw,e=c"));
        assert!(parse_mount(b"").is_none());
        let all = mounts().unwrap();
        assert_eq!(mount_of(&all, Path::new("/proc/1")).unwrap().fstype, "proc");
    }
}
