//! One service changed among ten thousand in the kernel: what the service proxy's own test measures.

use std::process::Command;

use crate::{
    report::{Goal, Row},
    target::Target,
};

/// The changes whose times are told.
const CHANGES: [&str; 2] = ["one endpoint replaced", "service added and removed"];

/// Runs the test and reads what it prints.
pub fn measure(_: Option<&Target>) -> Vec<Row> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let test = ["test", "--profile=bench", "--locked", "-p=network", "--test=scale"];
    let output = Command::new(cargo)
        .args(test)
        .args(["--", "--nocapture", "ten_thousand_services"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the test failed: {text}{errors}");
    CHANGES
        .iter()
        .map(|change| {
            let time = text.lines().find_map(|line| line.strip_prefix(&format!("{change}: ")));
            let time = time.and_then(microseconds).unwrap_or_else(|| panic!("{change}: {text}"));
            let what = format!("10,000 services, {change}");
            Row::new(what, "us", Goal::AtMost(1000.0), time)
        })
        .collect()
}

/// Reads a duration as `Debug` writes it.
fn microseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("ns", 1e-3), ("\u{b5}s", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        let read = |text| microseconds(text).unwrap().round();
        assert_eq!(
            [read("11.2\u{b5}s"), read("1.5ms"), read("2s"), read("900ns")],
            [11.0, 1500.0, 2e6, 1.0]
        );
    }
}
