//! What a pod without a node is told, in upstream's words: users and tools search for them.

use std::collections::BTreeMap;

/// How many nodes fell for which reason.
pub(crate) fn summary<'a>(nodes: usize, reasons: impl IntoIterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    // Sorted with the numbers, as text.
    let mut parts: Vec<String> = counts.iter().map(|(r, count)| format!("{count} {r}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let reasons = ["b"].into_iter().chain(["a"; 2]).chain(["c"; 10]);
        assert_eq!(summary(12, reasons), "0/12 nodes are available: 1 b, 10 c, 2 a.");
    }
}
