//! Real containers on this machine: needs root, cgroups and `busybox` (static).
//!
//! The test program is its own shim, so it has no test harness but the few lines below. Every test
//! has a runtime of its own and removes everything, also when it fails.

#![allow(clippy::unwrap_used, reason = "a test that fails may say so in any way")]

mod containers;
mod images;
mod lifecycle;
mod node;
mod security;
mod speed;
mod volumes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A test: its name and what it does, with the controllers where they are or (true) on the v2
/// hierarchy beside them.
pub(crate) type Test = (&'static str, fn(bool));

/// Makes a list of tests of async functions that get a [`node::Node`].
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::Test] = &[$(
            (concat!(module_path!(), "::", stringify!($name)), |v2| $crate::node::run(stringify!($name), v2, $name)),
        )*];
    };
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|a| a.to_str()) {
        Some("shim") => runtime::shim::main(args),
        Some("init") => runtime::init::main(args),
        _ => {}
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let all = [
        containers::TESTS,
        images::TESTS,
        lifecycle::TESTS,
        security::TESTS,
        volumes::TESTS,
        speed::TESTS,
    ];
    let mut tests: Vec<(String, Test, bool)> = Vec::new();
    for test in all.concat() {
        tests.push((test.0.to_owned(), test, false));
        // Where a hybrid machine's v2 hierarchy has no controllers, no limit can be proved.
        let limits = ["limits", "out_of_memory", "speed", "images"];
        if node::unified().is_some() && !limits.iter().any(|l| test.0.contains(l)) {
            tests.push((format!("{} (v2)", test.0), test, true));
        }
    }
    tests.retain(|(name, ..)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w)));
    if std::env::args().any(|a| a == "--list") {
        tests.iter().for_each(|(name, ..)| println!("{name}: test"));
        return;
    }
    println!("running {} tests", tests.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4.min(tests.len()) {
            scope.spawn(|| {
                while let Some((name, test, v2)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let passed = catch_unwind(AssertUnwindSafe(|| test.1(*v2))).is_ok();
                    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
                    if !passed {
                        failed.lock().unwrap().push(name.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{} passed; {} failed {failed:?}", tests.len() - failed.len(), failed.len());
    std::process::exit(i32::from(!failed.is_empty()));
}
