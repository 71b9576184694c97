//! Capabilities: names, sets, and giving them up.

use std::io;

use crate::sys::{cvt, cvt_long};

/// Names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// None.
    pub const NONE: Set = Set(0);

    /// All that this version knows.
    pub const ALL: Set = Set((1 << NAMES.len()) - 1);

    /// What container runtimes give to an ordinary container.
    pub fn container_default() -> Set {
        [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ]
        .into_iter()
        .filter_map(Set::named)
        .fold(Set::NONE, Set::with)
    }

    /// The set of one capability, named with or without `CAP_` in any case.
    pub fn named(name: &str) -> Option<Set> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let bit = NAMES.iter().position(|known| *known == name)?;
        Some(Set(1 << bit))
    }

    /// Both sets together.
    pub fn with(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// This set without the other.
    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    /// What is in both.
    pub fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    /// Whether all of the other set is in this one.
    pub fn has(self, other: Set) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the capability of this name is in the set.
    pub fn has_named(self, name: &str) -> bool {
        Set::named(name).is_some_and(|one| self.has(one))
    }

    /// Their names, without `CAP_`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| *n)
    }

    /// The capabilities' numbers as bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set of these bits.
    pub fn from_bits(bits: u64) -> Set {
        Set(bits & Set::ALL.0)
    }
}

/// What this process may ever have, the bounding set.
pub fn bounding() -> Set {
    let mut set = 0;
    for bit in 0..NAMES.len() {
        // SAFETY: no memory is involved.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, bit as u64, 0, 0, 0) } == 1 {
            set |= 1 << bit;
        }
    }
    Set(set)
}

/// What this process may do now, the effective set.
pub fn effective() -> io::Result<Set> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.map(Set::from_bits).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Limits what exec may ever give this process.
pub fn limit_bounding(keep: Set) -> io::Result<()> {
    for bit in 0..64u64 {
        if keep.0 & (1 << bit) != 0 {
            continue;
        }
        // SAFETY: no memory is involved.
        match cvt(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) }) {
            // Past the kernel's last capability.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && bit as usize >= NAMES.len() => {
                break;
            }
            other => other?,
        };
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Sets the permitted and effective sets and empties the inheritable and ambient ones.
pub fn set_effective(set: Set) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(set.0), half(set.0 >> 32)];
    // SAFETY: the structures have the kernel's layout and outlive the calls.
    unsafe {
        cvt_long(libc::syscall(libc::SYS_capset, &header, data.as_ptr()))?;
        cvt(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_by_name() {
        let raw = Set::named("cap_net_raw").unwrap();
        assert_eq!(raw.bits(), 1 << 13);
        assert_eq!(Set::named("CHECKPOINT_RESTORE").unwrap().bits(), 1 << 40);
        assert!(Set::named("CAP_NOPE").is_none());
        let default = Set::container_default();
        assert_eq!(default.bits(), 0xa80425fb, "the value seen in containers everywhere");
        assert!(default.has(raw) && !default.without(raw).has(raw));
        assert!(!default.has_named("SYS_ADMIN") && Set::ALL.has(default));
    }
}
