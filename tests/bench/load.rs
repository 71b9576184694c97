//! Load in a closed loop: each client has a connection of its own and sends its next request when
//! the last is answered.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use crate::{http::Connection, target::Target};

/// How long load is measured.
pub const MEASURED: Duration = Duration::from_secs(5);
/// How long the same load goes before that.
const WARM: Duration = Duration::from_secs(1);

/// What came out.
pub struct Load {
    /// Answers a second.
    pub rate: f64,
    /// The time of each answer, sorted.
    pub times: Vec<Duration>,
}

/// Lets `clients` send what `send` sends, given the client and how often it has sent.
pub fn closed_loop(
    target: &Target,
    clients: usize,
    send: impl Fn(&mut Connection, usize, usize) + Sync,
) -> Load {
    let start = Barrier::new(clients);
    let work = &|client: usize| {
        let mut connection = target.dial();
        start.wait();
        let (warm, mut times, mut count) = (Instant::now() + WARM, Vec::new(), 0);
        loop {
            let begin = Instant::now();
            if begin >= warm + MEASURED {
                return times;
            }
            send(&mut connection, client, count);
            count += 1;
            if begin >= warm {
                times.push(begin.elapsed());
            }
        }
    };
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients).map(|client| scope.spawn(move || work(client))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort_unstable();
    Load { rate: times.len() as f64 / MEASURED.as_secs_f64(), times }
}

/// Lets `clients` share `count` requests; returns how long it took from the first to the last.
pub fn all_of(
    target: &Target,
    clients: usize,
    count: usize,
    send: impl Fn(&mut Connection, usize) + Sync,
) -> Duration {
    let start = Barrier::new(clients + 1);
    // The scope ends when all clients have.
    let begin = std::thread::scope(|scope| {
        for client in 0..clients {
            let (start, send) = (&start, &send);
            scope.spawn(move || {
                let mut connection = target.dial();
                start.wait();
                for at in (client..count).step_by(clients) {
                    send(&mut connection, at);
                }
            });
        }
        start.wait();
        Instant::now()
    });
    begin.elapsed()
}

/// The value below which `share` of the sorted `times` lie.
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(5));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(10));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
