//! System call numbers by name, for every architecture that filters are made for.

use std::collections::HashMap;

const TABLE: &str = include_str!("../../../embedded/seccomp/syscalls.txt");

/// An architecture as the kernel's audit numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    I386,
    Aarch64,
}

impl Arch {
    pub(super) fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    pub(super) fn named(name: &str) -> Option<Arch> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
            "SCMP_ARCH_X86" => Some(Arch::I386),
            "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::I386 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    /// Name to number.
    pub(super) fn numbers(self) -> HashMap<&'static str, u32> {
        let column = match self {
            Arch::X86_64 => 1,
            Arch::I386 => 2,
            Arch::Aarch64 => 3,
        };
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                Some((*fields.first()?, fields.get(column)?.parse().ok()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_libc() {
        let native = Arch::native().unwrap().numbers();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("newfstatat", libc::SYS_newfstatat),
            ("seccomp", libc::SYS_seccomp),
        ] {
            assert_eq!(i64::from(native[name]), number, "{name}");
        }
        assert_eq!(Arch::I386.numbers()["mmap2"], 192);
        assert!(!Arch::Aarch64.numbers().contains_key("open"));
    }
}
