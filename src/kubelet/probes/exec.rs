//! Probes that run a command in the container.

use std::time::Duration;

use runtime::{Error, Sandbox};

use super::Outcome;

/// More output than this is not shown in events.
const MAX_OUTPUT: usize = 10 << 10;

pub(super) async fn probe(
    sandbox: &Sandbox,
    container: &str,
    command: &[String],
    timeout: Duration,
) -> Outcome {
    match sandbox.exec_sync(container, command.to_vec(), timeout).await {
        Ok(output) if output.code == 0 => Outcome::Success,
        Ok(output) => {
            let mut text = [output.stdout, output.stderr].concat();
            text.truncate(MAX_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(Error::Timeout { .. }) => {
            let command = command.join(" ");
            let seconds = timeout.as_secs();
            Outcome::Failure(format!("command timed out: {command:?} timed out after {seconds}s"))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}
