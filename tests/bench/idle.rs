//! What a cluster without pods uses.

use std::{thread::sleep, time::Duration};

use crate::{
    knarr::Knarr,
    report::{Goal, Row},
    target::Target,
    usage::{self, Usage},
};

/// How long a server has to write what it writes when it starts.
const SETTLE: Duration = Duration::from_secs(15);
/// How long it is looked at.
const WINDOW: Duration = Duration::from_secs(30);

/// Looks at the processes of both over the same time.
pub fn measure(beside: Option<&Target>) -> Vec<Row> {
    let knarr = Knarr::start();
    let beside = beside.map(|target| &target.pids).filter(|pids| !pids.is_empty());
    sleep(SETTLE);
    let pids = &knarr.target.pids;
    let all = || (usage::of(pids), beside.map(|pids| usage::of(pids)));
    let (before, other_before) = all();
    sleep(WINDOW);
    let (after, other_after) = all();
    let other = other_before.zip(other_after);
    let figure = |of: fn(&Usage, &Usage) -> f64| {
        (of(&before, &after), other.as_ref().map(|(before, after)| of(before, after)))
    };
    let row = |what, unit, goal, of| {
        let (measured, other) = figure(of);
        Row::new(what, unit, Goal::AtMost(goal), measured).beside(other)
    };
    let edge: u64 = usage::edges(knarr.cluster.pid()).into_iter().map(usage::rss).sum();
    vec![
        row("server, all components, RSS, idle", "MiB", 32.0, |_, now| mebibytes(now.rss)),
        Row::new("edge, RSS, idle", "MiB", Goal::Less, mebibytes(edge)),
        row("CPU, idle", "% of a core", 0.3, |before, after| {
            (after.cpu - before.cpu).as_secs_f64() / WINDOW.as_secs_f64() * 100.0
        }),
        row("disk writes, idle", "kB/s", 0.1, |before, after| {
            (after.written - before.written) as f64 / 1000.0 / WINDOW.as_secs_f64()
        }),
    ]
}

/// KiB as MiB.
pub fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}
