//! What changed between two values, for the messages that say that something may not change: a
//! unified diff of both as upstream shows them, found as its `difflib` finds it, because what is
//! the same in two long texts can be seen in several ways.

use std::{collections::HashMap, fmt::Write as _, ops::Range};

use apimachinery::schema::internal;
use serde_json::Value;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The unified diff of two values of a Go type such as `core.PodSpec`.
pub(crate) fn diff(go_type: &str, old: &Value, new: &Value) -> String {
    unified(&internal::show_lines(go_type, old), &internal::show_lines(go_type, new))
}

fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in grouped(&operations(&matches(&old, &new), old.len(), new.len())) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let before = range(first.old.start, last.old.end);
        let after = range(first.new.start, last.new.end);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "@@ -{before} +{after} @@");
        for operation in &group {
            let equal = operation.equal;
            for line in &old[operation.old.clone()] {
                let _ = writeln!(out, "{}{line}", if equal { ' ' } else { '-' });
            }
            for line in new[operation.new.clone()].iter().filter(|_| !equal) {
                let _ = writeln!(out, "+{line}");
            }
        }
    }
    out
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

/// Lines that are the same in both texts.
struct Match {
    old: usize,
    new: usize,
    size: usize,
}

/// All matches, in order.
fn matches(old: &[&str], new: &[&str]) -> Vec<Match> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if new.len() >= 200 {
        // Lines that are everywhere say nothing of where one is.
        let popular = new.len() / 100 + 1;
        places.retain(|_, all| all.len() <= popular);
    }
    let mut found = Vec::new();
    // Ranges still to be looked at, the first last.
    let mut todo = vec![(0..old.len(), 0..new.len())];
    let mut done: Vec<Match> = Vec::new();
    while let Some((before, after)) = todo.pop() {
        let best = longest(old, new, &places, &before, &after);
        if best.size == 0 {
            continue;
        }
        todo.push((best.old + best.size..before.end, best.new + best.size..after.end));
        todo.push((before.start..best.old, after.start..best.new));
        done.push(best);
    }
    done.sort_by_key(|one| one.old);
    for one in done {
        match found.last_mut() {
            Some(Match { old, new, size })
                if *old + *size == one.old && *new + *size == one.new =>
            {
                *size += one.size;
            }
            _ => found.push(one),
        }
    }
    found
}

/// The longest match within two ranges; of several the first.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    before: &Range<usize>,
    after: &Range<usize>,
) -> Match {
    let mut best = Match { old: before.start, new: after.start, size: 0 };
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for at in before.clone() {
        let mut next = HashMap::new();
        for &place in places.get(old[at]).into_iter().flatten().filter(|at| after.contains(at)) {
            let length =
                1 + place.checked_sub(1).and_then(|p| lengths.get(&p)).copied().unwrap_or(0);
            next.insert(place, length);
            if length > best.size {
                best = Match { old: at + 1 - length, new: place + 1 - length, size: length };
            }
        }
        lengths = next;
    }
    while best.old > before.start
        && best.new > after.start
        && old[best.old - 1] == new[best.new - 1]
    {
        best = Match { old: best.old - 1, new: best.new - 1, size: best.size + 1 };
    }
    while best.old + best.size < before.end
        && best.new + best.size < after.end
        && old[best.old + best.size] == new[best.new + best.size]
    {
        best.size += 1;
    }
    best
}

/// Lines that became other lines, or stayed.
#[derive(Clone)]
struct Operation {
    equal: bool,
    old: Range<usize>,
    new: Range<usize>,
}

fn operations(matches: &[Match], old: usize, new: usize) -> Vec<Operation> {
    let mut all = Vec::new();
    let (mut at_old, mut at_new) = (0, 0);
    let end = Match { old, new, size: 0 };
    for one in matches.iter().chain([&end]) {
        if at_old < one.old || at_new < one.new {
            all.push(Operation { equal: false, old: at_old..one.old, new: at_new..one.new });
        }
        (at_old, at_new) = (one.old + one.size, one.new + one.size);
        if one.size > 0 {
            all.push(Operation { equal: true, old: one.old..at_old, new: one.new..at_new });
        }
    }
    all
}

/// Changes that are near to each other, with the lines around them.
fn grouped(operations: &[Operation]) -> Vec<Vec<Operation>> {
    let keep_end =
        |range: &Range<usize>| range.end.saturating_sub(CONTEXT).max(range.start)..range.end;
    let keep_start = |range: &Range<usize>| range.start..range.end.min(range.start + CONTEXT);
    let mut groups = Vec::new();
    let mut group: Vec<Operation> = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        let (first, last) = (at == 0, at + 1 == operations.len());
        let Operation { equal, old, new } = operation;
        if !equal {
            group.push(operation.clone());
        } else if first {
            group.push(Operation { equal: true, old: keep_end(old), new: keep_end(new) });
        } else if last {
            group.push(Operation { equal: true, old: keep_start(old), new: keep_start(new) });
        } else if old.len() > 2 * CONTEXT {
            group.push(Operation { equal: true, old: keep_start(old), new: keep_start(new) });
            groups.push(std::mem::take(&mut group));
            group.push(Operation { equal: true, old: keep_end(old), new: keep_end(new) });
        } else {
            group.push(operation.clone());
        }
    }
    if group.iter().any(|operation| !operation.equal) {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        let old = json!({"conditionType": "a"});
        let new = json!({"conditionType": "b"});
        assert_eq!(
            diff("core.PodReadinessGate", &old, &new),
            "@@ -1,3 +1,3 @@\n {\n- \"ConditionType\": \"a\"\n+ \"ConditionType\": \"b\"\n }\n"
        );
        assert_eq!(diff("core.PodReadinessGate", &old, &old), "");
    }

    /// The answers are those of Python's difflib, of which upstream's is a copy.
    #[test]
    fn matches_are_found_as_upstream_finds_them() {
        assert_eq!(unified("a\nb\nc", "b\nc\nd"), "@@ -1,3 +1,3 @@\n-a\n b\n c\n+d\n");
        assert_eq!(unified("a\nb", "a\nb\nc"), "@@ -1,2 +1,3 @@\n a\n b\n+c\n");
        assert_eq!(unified("a", "b"), "@@ -1 +1 @@\n-a\n+b\n");
        let numbers = |skip: usize| {
            let lines: Vec<String> =
                (0..20).filter(|at| *at != skip).map(|at| at.to_string()).collect();
            lines.join("\n")
        };
        assert_eq!(
            unified(&numbers(2), &numbers(17)),
            "@@ -1,5 +1,6 @@\n 0\n 1\n+2\n 3\n 4\n 5\n@@ -14,6 +15,5 @@\n 14\n 15\n 16\n-17\n 18\n 19\n"
        );
        // Popular lines do not begin a match.
        let long = "x\n".repeat(300);
        assert_eq!(unified(&format!("{long}a"), &format!("b\n{long}a")).matches("-x").count(), 0);
    }
}
