//! Which device nodes a cgroup's processes may use: a list of rules on v1, a BPF program on v2.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::v1::write;
use crate::sys::cvt_long;

/// Block or character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both.
    Any,
    /// Block.
    Block,
    /// Character.
    Char,
}

/// Devices that are allowed; `None` is any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Kind of device.
    pub kind: DeviceKind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// Nodes may be made.
    pub mknod: bool,
}

impl DeviceRule {
    /// Everything.
    pub const ALL: DeviceRule = DeviceRule {
        kind: DeviceKind::Any,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };

    const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule { kind: DeviceKind::Char, major: Some(major), minor, ..DeviceRule::ALL }
    }

    /// What every container may do: make any node, and use the harmless ones.
    pub const CONTAINER_DEFAULT: [DeviceRule; 11] = [
        DeviceRule { read: false, write: false, kind: DeviceKind::Char, ..DeviceRule::ALL },
        DeviceRule { read: false, write: false, kind: DeviceKind::Block, ..DeviceRule::ALL },
        DeviceRule::char(1, Some(3)),    // null
        DeviceRule::char(1, Some(5)),    // zero
        DeviceRule::char(1, Some(7)),    // full
        DeviceRule::char(1, Some(8)),    // random
        DeviceRule::char(1, Some(9)),    // urandom
        DeviceRule::char(5, Some(0)),    // tty
        DeviceRule::char(5, Some(2)),    // ptmx
        DeviceRule::char(136, None),     // pts
        DeviceRule::char(10, Some(200)), // net/tun
    ];
}

pub(super) fn allow_v1(folder: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    write(folder, "devices.deny", "a")?;
    for rule in rules {
        if *rule == DeviceRule::ALL {
            write(folder, "devices.allow", "a")?;
            continue;
        }
        let kinds: &[char] = match rule.kind {
            DeviceKind::Any => &['b', 'c'],
            DeviceKind::Block => &['b'],
            DeviceKind::Char => &['c'],
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        for kind in kinds {
            let line = format!(
                "{kind} {}:{} {}{}{}",
                number(rule.major),
                number(rule.minor),
                if rule.read { "r" } else { "" },
                if rule.write { "w" } else { "" },
                if rule.mknod { "m" } else { "" },
            );
            write(folder, "devices.allow", &line)?;
        }
    }
    Ok(())
}

// Opcodes of eBPF.
const LDX_W: u8 = 0x61;
const AND_K: u8 = 0x57;
const RSH_K: u8 = 0x77;
const MOV_K: u8 = 0xb7;
const MOV_X: u8 = 0xbf;
const JNE_K: u8 = 0x55;
const JNE_X: u8 = 0x5d;
const EXIT: u8 = 0x95;

fn op(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    u64::from(code)
        | u64::from(dst & 0xf | src << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(imm as u32) << 32
}

/// The program: answers 1 where a rule allows the access, else 0.
fn program(rules: &[DeviceRule]) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }
    let mut all = vec![
        op(LDX_W, 2, 1, 0, 0),
        op(MOV_X, 3, 2, 0, 0),
        op(AND_K, 3, 0, 0, 0xffff), // r3: kind
        op(RSH_K, 2, 0, 0, 16),     // r2: access
        op(LDX_W, 4, 1, 4, 0),      // r4: major
        op(LDX_W, 5, 1, 8, 0),      // r5: minor
    ];
    for rule in rules {
        // Tests as (code, register, other register, operand), each skipping the rest of the rule.
        let mut tests = Vec::new();
        match rule.kind {
            DeviceKind::Any => {}
            DeviceKind::Block => tests.push(vec![(JNE_K, 3, 0, 1)]),
            DeviceKind::Char => tests.push(vec![(JNE_K, 3, 0, 2)]),
        }
        let access = i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
        if access != 7 {
            tests.push(vec![(MOV_X, 1, 2, 0), (AND_K, 1, 0, access), (JNE_X, 1, 2, 0)]);
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(vec![(JNE_K, register, 0, number as i32)]);
            }
        }
        let body: Vec<_> = tests.into_iter().flatten().collect();
        let length = body.len();
        for (i, (code, dst, src, imm)) in body.into_iter().enumerate() {
            // After the remaining tests come the two instructions that allow.
            let jump = matches!(code, JNE_K | JNE_X);
            let offset = if jump { (length - i - 1 + 2) as i16 } else { 0 };
            all.push(op(code, dst, src, offset, imm));
        }
        all.push(op(MOV_K, 0, 0, 0, 1));
        all.push(op(EXIT, 0, 0, 0, 0));
    }
    all.push(op(MOV_K, 0, 0, 0, 0));
    all.push(op(EXIT, 0, 0, 0, 0));
    all
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for loading a program.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for attaching one.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

pub(super) fn allow_v2(folder: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    if rules.contains(&DeviceRule::ALL) {
        return Ok(());
    }
    let cgroup = std::fs::File::open(folder)?;
    let program = program(rules);
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the attributes and what they point to outlive the calls; the descriptor is new and
    // owned here alone. The cgroup holds the program once it is attached.
    unsafe {
        let size = std::mem::size_of::<Load>();
        let fd = cvt_long(libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size))?;
        let program = OwnedFd::from_raw_fd(fd as i32);
        let attach = Attach {
            target_fd: cgroup.as_raw_fd() as u32,
            attach_bpf_fd: program.as_raw_fd() as u32,
            attach_type: BPF_CGROUP_DEVICE,
            attach_flags: BPF_F_ALLOW_MULTI,
        };
        let size = std::mem::size_of::<Attach>();
        cvt_long(libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size))?;
    }
    Ok(())
}
