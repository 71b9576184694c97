//! How long things take. Printed, and held to bounds that only a real mistake exceeds, because the
//! machine is shared and the build is not optimized.

use std::time::{Duration, Instant};

use crate::node::{Node, in_time, strings};

crate::tests![start_exec_and_remove, idle_shims_are_small];

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn start_exec_and_remove(node: Node) {
    node.image().await;
    let (mut create, mut start, mut exec, mut stop, mut remove) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..20 {
        let spec = node.script("exec sleep 1000").await;
        let at = Instant::now();
        let sandbox = node.sandbox().await;
        create.push(at.elapsed());
        let at = Instant::now();
        let state = sandbox.start_container(spec).await.unwrap();
        start.push(at.elapsed());
        let at = Instant::now();
        sandbox.exec_sync(&state.id, strings(&["true"]), Duration::ZERO).await.unwrap();
        exec.push(at.elapsed());
        let at = Instant::now();
        sandbox.kill(&state.id).await.unwrap();
        in_time(sandbox.wait(&state.id)).await.unwrap();
        stop.push(at.elapsed());
        let at = Instant::now();
        sandbox.remove().await.unwrap();
        remove.push(at.elapsed());
    }
    let [create, start, exec, stop, remove] = [create, start, exec, stop, remove].map(median);
    println!(
        "speed: sandbox {create:?}, container {start:?}, exec {exec:?}, kill {stop:?}, remove {remove:?}"
    );
    assert!(create + start < Duration::from_millis(500));
}

async fn idle_shims_are_small(node: Node) {
    const PODS: u64 = 10;
    let mut sandboxes = Vec::new();
    let mut shims = Vec::new();
    for _ in 0..PODS {
        let sandbox = node.sandbox().await;
        let spec = node.script("echo x; exec sleep 1000").await;
        let state = sandbox.start_container(spec).await.unwrap();
        sandbox.exec_sync(&state.id, strings(&["true"]), Duration::ZERO).await.unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", state.pid)).unwrap();
        let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap();
        shims.push(parent.to_owned());
        sandboxes.push(sandbox);
    }
    let sum = |key: &str| -> u64 {
        let of = |shim: &String| -> u64 {
            let rollup = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
            let line = rollup.lines().find(|l| l.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        shims.iter().map(of).sum::<u64>() / PODS
    };
    let (all, own) = (sum("Pss:"), sum("Anonymous:"));
    println!("speed: idle shim, one of {PODS}: PSS {all} kB, of that its own {own} kB");
    // Its own memory is what counts for each pod; the code, large without optimization, is shared.
    assert!(own <= 192 && all <= if cfg!(debug_assertions) { 1024 } else { 512 });
}
