//! System call filters: profiles in the format of the OCI runtime specification, compiled to the
//! kernel's BPF, and installed.
//!
//! Compiled here rather than with a crate because one filter must have several actions (allow,
//! EPERM, ENOSYS for clone3) and must cover 32-bit programs on 64-bit machines.

mod compile;
mod table;

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use crate::capability;
pub use compile::compile;

/// A profile, as in `config.json` of the OCI runtime specification, with the `includes` and
/// `excludes` by capability that docker's and containerd's default profiles use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to calls that no rule names.
    pub default_action: String,
    /// The errno of the default action, EPERM when missing.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`; empty is the machine's own.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// The same with the architectures that go with each.
    #[serde(default)]
    pub arch_map: Vec<ArchMap>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Rules.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

/// An architecture and those whose programs the same kernel runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchMap {
    /// The main one.
    pub architecture: String,
    /// The others.
    #[serde(default)]
    pub sub_architectures: Vec<String>,
}

/// One rule of a profile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// System calls by name; unknown ones are left out.
    #[serde(default)]
    pub names: Vec<String>,
    /// `SCMP_ACT_*`.
    pub action: String,
    /// The errno of `SCMP_ACT_ERRNO`, EPERM when missing.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments.
    #[serde(default)]
    pub args: Option<Vec<Arg>>,
    /// Applies only when this holds.
    #[serde(default)]
    pub includes: Option<Condition>,
    /// Does not apply when this holds.
    #[serde(default)]
    pub excludes: Option<Condition>,
}

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, from 0.
    pub index: u32,
    /// Value, or mask of `SCMP_CMP_MASKED_EQ`.
    #[serde(default)]
    pub value: u64,
    /// Value of `SCMP_CMP_MASKED_EQ`.
    #[serde(default)]
    pub value_two: u64,
    /// Comparison.
    pub op: Compare,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Compare {
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// When a rule of a default profile applies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The container has all of these capabilities.
    #[serde(default)]
    pub caps: Vec<String>,
    /// The kernel is of one of these architectures, in Go's names.
    #[serde(default)]
    pub arches: Vec<String>,
}

impl Condition {
    fn holds(&self, caps: capability::Set) -> bool {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.caps.iter().all(|name| caps.has_named(name))
            && (self.arches.is_empty() || self.arches.iter().any(|a| a == arch))
    }
}

impl Rule {
    fn applies(&self, caps: capability::Set) -> bool {
        let some = |c: &Condition| !c.caps.is_empty() || !c.arches.is_empty();
        self.includes.as_ref().is_none_or(|c| c.holds(caps))
            && !self.excludes.as_ref().is_some_and(|c| some(c) && c.holds(caps))
    }
}

/// A profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError(pub String);

impl std::fmt::Display for ProfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seccomp profile: {}", self.0)
    }
}

impl std::error::Error for ProfileError {}

/// A compiled filter: the kernel's instructions, 8 bytes each, and the flags to install it with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Instructions as 64-bit words: code, jump if true, jump if false, operand.
    pub program: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*` as bits.
    pub flags: u64,
}

/// Installs a filter for this process and all that come from it. Needs `no_new_privs` or
/// CAP_SYS_ADMIN.
pub fn install(filter: &Filter) -> io::Result<()> {
    let program: Vec<libc::sock_filter> = filter
        .program
        .iter()
        .map(|word| libc::sock_filter {
            code: *word as u16,
            jt: (word >> 16) as u8,
            jf: (word >> 24) as u8,
            k: (word >> 32) as u32,
        })
        .collect();
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program is valid for its length; the kernel copies it.
    crate::sys::cvt_long(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const fprog,
        )
    })
    .map(drop)
}

fn flags(names: &[String]) -> Result<u64, ProfileError> {
    let mut flags = 0;
    for name in names {
        flags |= match name.as_str() {
            // One thread: there is nothing to synchronize.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            other => return Err(ProfileError(format!("unsupported flag {other:?}"))),
        };
    }
    Ok(flags)
}

/// The architectures that a profile covers, by name.
fn architectures(profile: &Profile) -> BTreeSet<&str> {
    let map = profile.arch_map.iter();
    map.flat_map(|m| std::iter::once(&m.architecture).chain(&m.sub_architectures))
        .chain(&profile.architectures)
        .map(String::as_str)
        .collect()
}
