//! Probes that open a TCP connection.

use std::time::Duration;

use super::{Outcome, net};

pub(super) async fn probe(host: &str, port: u16, timeout: Duration) -> Outcome {
    match net::connect(host, port, timeout).await {
        Ok(_) => Outcome::Success,
        Err(text) => Outcome::Failure(text),
    }
}
