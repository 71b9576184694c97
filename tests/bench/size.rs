//! How large the program is.

use crate::{
    report::{Goal, Row},
    support::Cluster,
    target::Target,
};

/// Measures the file.
pub fn measure(_: Option<&Target>) -> Vec<Row> {
    let bytes = std::fs::metadata(Cluster::program()).unwrap().len();
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    vec![Row::new("binary, everything in it", "MiB", Goal::AtMost(20.0), mebibytes)]
}
