//! `/metrics`: what was asked of the server, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency buckets, in milliseconds.
const BUCKETS: [u64; 10] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000];

/// Answered requests by their labels, as the text shows these.
#[derive(Default)]
struct Requests {
    counts: BTreeMap<String, u64>,
    /// Where the labels of a request are written for the look-up; kept, so that counting does not
    /// allocate.
    labels: String,
}

/// Counters of the API server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<Requests>,
    latency: [AtomicU64; BUCKETS.len() + 1],
    latency_micros: AtomicU64,
    watches: AtomicI64,
}

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, info: &crate::request::RequestInfo, code: u16, took: Duration) {
        let millis = took.as_millis();
        let bucket = BUCKETS.iter().position(|bound| millis <= u128::from(*bound));
        self.latency[bucket.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
        // Only names that the server knows become labels, so that clients cannot grow the table.
        let (group, resource, subresource) = match (info.is_resource, code) {
            (true, 404) | (false, _) => ("", "", ""),
            _ => (info.group.as_str(), info.resource.as_str(), info.subresource.as_str()),
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Requests { counts, labels } = &mut *requests;
        labels.clear();
        let _ = write!(
            labels,
            "code=\"{code}\",group=\"{group}\",resource=\"{resource}\",\
             subresource=\"{subresource}\",verb=\"",
        );
        labels.extend(info.verb.chars().map(|c| c.to_ascii_uppercase()));
        labels.push('"');
        if let Some(count) = counts.get_mut(labels.as_str()) {
            *count += 1;
        } else if counts.len() < 4096 {
            counts.insert(labels.clone(), 1);
        }
    }

    /// Counts a watch that began (1) or ended (-1).
    pub fn watching(&self, change: i64) {
        self.watches.fetch_add(change, Ordering::Relaxed);
    }

    /// The text that a scrape gets.
    pub fn render(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n",
        );
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, count) in &requests.counts {
            let _ = writeln!(out, "apiserver_request_total{{{labels}}} {count}");
        }
        drop(requests);
        out.push_str(
            "# HELP apiserver_request_duration_seconds Time to answer.\n\
             # TYPE apiserver_request_duration_seconds histogram\n",
        );
        let mut total = 0;
        for (at, count) in self.latency.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = BUCKETS.get(at).map_or("+Inf".to_owned(), |millis| {
                format!("{}", Duration::from_millis(*millis).as_secs_f64())
            });
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_bucket{{le=\"{bound}\"}} {total}"
            );
        }
        let sum = Duration::from_micros(self.latency_micros.load(Ordering::Relaxed));
        let _ = writeln!(
            out,
            "apiserver_request_duration_seconds_sum {}\napiserver_request_duration_seconds_count {total}",
            sum.as_secs_f64()
        );
        let watches = self.watches.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# HELP apiserver_longrunning_requests Watches open.\n\
             # TYPE apiserver_longrunning_requests gauge\n\
             apiserver_longrunning_requests{{verb=\"WATCH\"}} {watches}"
        );
        out
    }
}
