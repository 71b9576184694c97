//! From a profile to the kernel's BPF: per architecture a binary search over the call numbers.

use std::collections::BTreeMap;

use super::table::Arch;
use super::{Arg, Compare, Filter, Profile, ProfileError, Rule, architectures, flags};
use crate::capability;

const LD_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Calls of the x32 ABI have this bit.
const X32_BIT: u32 = 0x4000_0000;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    let data = |default: u32| errno.unwrap_or(default) & 0xffff;
    Ok(match name {
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO | data(libc::EPERM as u32),
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | data(libc::EPERM as u32),
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        other => return Err(ProfileError(format!("unsupported action {other:?}"))),
    })
}

/// What happens to one call: alternatives in order, then the default.
type Cases = Vec<(Vec<Arg>, u32)>;

/// Compiles a profile for a container with these capabilities.
pub fn compile(profile: &Profile, caps: capability::Set) -> Result<Filter, ProfileError> {
    let native = Arch::native().ok_or_else(|| ProfileError("unsupported machine".into()))?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    // Calls newer than this table would look forbidden where they are only unknown, and a libc
    // falls back to an older call on ENOSYS alone.
    let denies = profile.default_action == "SCMP_ACT_ERRNO";
    let newer = if denies { errno(libc::ENOSYS) } else { default };

    let named = architectures(profile);
    let mut arches: Vec<Arch> = named.iter().filter_map(|name| Arch::named(name)).collect();
    if native != Arch::X86_64 {
        arches.clear();
    }
    arches.retain(|arch| matches!(arch, Arch::I386));
    arches.insert(0, native);

    let mut program = vec![op(LD_ABS, 0, 0, ARCH)];
    for arch in arches {
        let section = section(profile, caps, arch, default, newer)?;
        program.push(op(JEQ, 1, 0, arch.audit()));
        program.push(op(JA, 0, 0, section.len() as u32));
        program.extend(section);
    }
    program.push(op(RET, 0, 0, errno(libc::ENOSYS)));
    if program.len() > libc::BPF_MAXINSNS as usize {
        return Err(ProfileError("too many rules".into()));
    }
    Ok(Filter { program, flags: flags(&profile.flags)? })
}

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// The part of the program for one architecture; it always returns.
fn section(
    profile: &Profile,
    caps: capability::Set,
    arch: Arch,
    default: u32,
    newer: u32,
) -> Result<Vec<u64>, ProfileError> {
    let numbers = arch.numbers();
    let mut calls: BTreeMap<u32, Cases> = BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|rule| rule.applies(caps)) {
        let action = action(&rule.action, rule.errno_ret)?;
        for number in rule.names.iter().filter_map(|name| numbers.get(name.as_str())) {
            let cases = calls.entry(*number).or_default();
            cases.extend(alternatives(rule).into_iter().map(|args| (args, action)));
        }
    }
    // Neighbours with the same fate become one range, so the search is short.
    let mut ranges: Vec<(u32, Cases)> = vec![(0, Vec::new())];
    let mut next = 0;
    for (number, cases) in calls {
        if number > next {
            push_range(&mut ranges, next, Vec::new());
        }
        push_range(&mut ranges, number, cases);
        next = number + 1;
    }
    push_range(&mut ranges, next, Vec::new());
    let last = numbers.values().max().copied().unwrap_or(0);
    if newer != default && last >= next {
        ranges.push((last + 1, vec![(Vec::new(), newer)]));
    } else if newer != default {
        push_range(&mut ranges, next, vec![(Vec::new(), newer)]);
    }
    if arch == Arch::X86_64 {
        ranges.push((X32_BIT, vec![(Vec::new(), errno(libc::ENOSYS))]));
    }
    let mut program = vec![op(LD_ABS, 0, 0, NR)];
    program.extend(search(&ranges, default));
    Ok(program)
}

/// Adds a range that begins at `start`, unless the one before has the same fate.
fn push_range(ranges: &mut Vec<(u32, Cases)>, start: u32, cases: Cases) {
    match ranges.last_mut() {
        Some((begin, last)) if *begin == start => *last = cases,
        Some((_, last)) if *last == cases => {}
        _ => ranges.push((start, cases)),
    }
}

/// The conjunctions of a rule. As runc does it, several conditions on one argument are
/// alternatives, otherwise all must hold.
fn alternatives(rule: &Rule) -> Vec<Vec<Arg>> {
    let args = rule.args.clone().unwrap_or_default();
    let twice = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| b.index == a.index));
    if twice { args.into_iter().map(|arg| vec![arg]).collect() } else { vec![args] }
}

/// A binary search for the range that the number (in the accumulator) lies in.
fn search(ranges: &[(u32, Cases)], default: u32) -> Vec<u64> {
    if let [(_, cases)] = ranges {
        return decide(cases, default);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low, default), search(high, default));
    // The long jump, because conditional ones reach 255 instructions only.
    let mut program = vec![op(JGE, 0, 1, high[0].0), op(JA, 0, 0, below.len() as u32)];
    program.extend(below);
    program.extend(above);
    program
}

/// Returns the action of the first case whose conditions hold.
fn decide(cases: &Cases, default: u32) -> Vec<u64> {
    let mut program = Vec::new();
    for (args, action) in cases {
        if args.is_empty() {
            program.push(op(RET, 0, 0, *action));
            return program;
        }
        let mut tests: Vec<u64> = vec![op(RET, 0, 0, *action)];
        for arg in args.iter().rev() {
            let fail = tests.len() as u8;
            let mut test = compare(arg, fail);
            test.append(&mut tests);
            tests = test;
        }
        program.append(&mut tests);
    }
    program.push(op(RET, 0, 0, default));
    program
}

/// Falls through when the condition holds, else jumps over the `skip` instructions that follow.
fn compare(arg: &Arg, skip: u8) -> Vec<u64> {
    let low_offset = ARGS + arg.index * 8;
    let (low, high) = (op(LD_ABS, 0, 0, low_offset), op(LD_ABS, 0, 0, low_offset + 4));
    let (v_low, v_high) = (arg.value as u32, (arg.value >> 32) as u32);
    match arg.op {
        Compare::Equal => {
            vec![high, op(JEQ, 0, skip + 2, v_high), low, op(JEQ, 0, skip, v_low)]
        }
        Compare::NotEqual => {
            vec![high, op(JEQ, 0, 2, v_high), low, op(JEQ, skip, 0, v_low)]
        }
        Compare::MaskedEqual => vec![
            high,
            op(AND_K, 0, 0, v_high),
            op(JEQ, 0, skip + 3, (arg.value_two >> 32) as u32),
            low,
            op(AND_K, 0, 0, v_low),
            op(JEQ, 0, skip, arg.value_two as u32),
        ],
        Compare::Greater => vec![
            high,
            op(JGT, 3, 0, v_high),
            op(JEQ, 0, skip + 2, v_high),
            low,
            op(JGT, 0, skip, v_low),
        ],
        Compare::GreaterOrEqual => vec![
            high,
            op(JGT, 3, 0, v_high),
            op(JEQ, 0, skip + 2, v_high),
            low,
            op(JGE, 0, skip, v_low),
        ],
        Compare::Less => vec![
            high,
            op(JGT, skip + 3, 0, v_high),
            op(JEQ, 0, 2, v_high),
            low,
            op(JGE, skip, 0, v_low),
        ],
        Compare::LessOrEqual => vec![
            high,
            op(JGT, skip + 3, 0, v_high),
            op(JEQ, 0, 2, v_high),
            low,
            op(JGT, skip, 0, v_low),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(filter: &Filter, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(nr.to_le_bytes());
        data.extend(arch.audit().to_le_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut pc, mut acc) = (0usize, 0u32);
        loop {
            let word = filter.program[pc];
            let (code, jt, jf, k) =
                (word as u16, (word >> 16) as u8, (word >> 24) as u8, (word >> 32) as u32);
            pc += 1;
            let mut branch = |taken: bool| pc += usize::from(if taken { jt } else { jf });
            match code {
                LD_ABS => {
                    let at = k as usize;
                    acc = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                }
                AND_K => acc &= k,
                JA => pc += k as usize,
                JEQ => branch(acc == k),
                JGT => branch(acc > k),
                JGE => branch(acc >= k),
                RET => return k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    fn rule(names: &[&str], action: &str, args: Vec<Arg>) -> Rule {
        Rule {
            names: names.iter().map(|n| n.to_string()).collect(),
            action: action.into(),
            args: Some(args),
            ..Default::default()
        }
    }

    #[test]
    fn comparisons_on_64_bits() {
        let big = 0x1_0000_0005u64;
        for (compare, value_two, holds, fails) in [
            (Compare::Equal, 0, vec![big], vec![5, big + 1, 0x2_0000_0005]),
            (Compare::NotEqual, 0, vec![5, big + 1, 0x2_0000_0005], vec![big]),
            (Compare::Less, 0, vec![0, 5, big - 1], vec![big, big + 1, 0x2_0000_0000]),
            (Compare::LessOrEqual, 0, vec![0, big], vec![big + 1, 0x2_0000_0000]),
            (Compare::Greater, 0, vec![big + 1, 0x2_0000_0000], vec![big, 6, 0]),
            (Compare::GreaterOrEqual, 0, vec![big, 0x2_0000_0000], vec![big - 1, 9]),
            (Compare::MaskedEqual, 4, vec![4, 6, 0x2_0000_0004], vec![5, 0, 0x1_0000_0004]),
        ] {
            let arg = Arg { index: 1, value: big, value_two, op: compare };
            let profile = Profile {
                default_action: "SCMP_ACT_ERRNO".into(),
                syscalls: vec![rule(&["read"], "SCMP_ACT_ALLOW", vec![arg])],
                ..Default::default()
            };
            let filter = compile(&profile, capability::Set::NONE).unwrap();
            let arch = Arch::native().unwrap();
            let nr = arch.numbers()["read"];
            for (values, want) in [(holds, libc::SECCOMP_RET_ALLOW), (fails, errno(libc::EPERM))] {
                for value in values {
                    let got = run(&filter, arch, nr, [0, value, 0, 0, 0, 0]);
                    assert_eq!(got, want, "{compare:?} {value:#x}");
                }
            }
        }
    }

    #[test]
    fn every_call_gets_the_action_of_its_rule() {
        let mut profile = Profile {
            default_action: "SCMP_ACT_ERRNO".into(),
            architectures: vec!["SCMP_ARCH_X86_64".into(), "SCMP_ARCH_X86".into()],
            ..Default::default()
        };
        let eq = |value| Arg { index: 0, value, value_two: 0, op: Compare::Equal };
        profile.syscalls = vec![
            rule(&["read", "write", "openat", "exit_group", "nonsense"], "SCMP_ACT_ALLOW", vec![]),
            // Several conditions on one argument are alternatives.
            rule(&["personality"], "SCMP_ACT_ALLOW", vec![eq(0), eq(8)]),
            Rule {
                errno_ret: Some(libc::ENOSYS as u32),
                ..rule(&["clone3"], "SCMP_ACT_ERRNO", vec![])
            },
            Rule {
                includes: Some(Condition { caps: vec!["CAP_SYS_BOOT".into()], arches: vec![] }),
                ..rule(&["reboot"], "SCMP_ACT_ALLOW", vec![])
            },
        ];
        use super::super::Condition;
        let (allow, eperm, enosys) =
            (libc::SECCOMP_RET_ALLOW, errno(libc::EPERM), errno(libc::ENOSYS));
        let native = Arch::native().unwrap();
        let arches = if native == Arch::X86_64 { vec![native, Arch::I386] } else { vec![native] };
        for (caps, reboot) in
            [(capability::Set::NONE, eperm), (capability::Set::named("SYS_BOOT").unwrap(), allow)]
        {
            let filter = compile(&profile, caps).unwrap();
            for arch in &arches {
                for (name, nr) in arch.numbers() {
                    let want = match name {
                        "read" | "write" | "openat" | "exit_group" | "personality" => allow,
                        "clone3" => enosys,
                        "reboot" => reboot,
                        _ => eperm,
                    };
                    assert_eq!(run(&filter, *arch, nr, [0; 6]), want, "{arch:?} {name}");
                }
                let nr = arch.numbers()["personality"];
                assert_eq!(run(&filter, *arch, nr, [8, 0, 0, 0, 0, 0]), allow);
                assert_eq!(run(&filter, *arch, nr, [1, 0, 0, 0, 0, 0]), eperm);
                assert_eq!(run(&filter, *arch, 5000, [0; 6]), enosys, "newer than the table");
            }
            if native == Arch::X86_64 {
                assert_eq!(run(&filter, native, X32_BIT | 1, [0; 6]), enosys);
                assert_eq!(run(&filter, Arch::Aarch64, 63, [0; 6]), enosys);
            }
        }
        profile.default_action = "SCMP_ACT_NOTIFY".into();
        assert!(compile(&profile, capability::Set::NONE).is_err());
    }
}
