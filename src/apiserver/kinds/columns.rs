//! The columns of `kubectl get`, read from `embedded/tables/columns.txt`, and the usual cells.

use std::{collections::HashMap, sync::LazyLock};

use apimachinery::selector::labels::Selector;
use jiff::Timestamp;
use serde_json::Value;

use super::{Column, value::Fields as _};

static TABLE: &str = include_str!("../../../embedded/tables/columns.txt");

/// Parsed at the first table that anyone asks for.
static COLUMNS: LazyLock<HashMap<&'static str, &'static [Column]>> = LazyLock::new(parse);

/// The columns of a resource, named `GROUP/RESOURCE`; none for one that has only those of any kind.
pub(crate) fn of(resource: &str) -> &'static [Column] {
    COLUMNS.get(resource).copied().unwrap_or_default()
}

fn parse() -> HashMap<&'static str, &'static [Column]> {
    let mut all: HashMap<&'static str, Vec<Column>> = HashMap::new();
    let mut common: HashMap<&'static str, &'static str> = HashMap::new();
    let mut current = "";
    let mut known = false;
    for line in TABLE.lines() {
        let parts: Vec<&'static str> = line.split('\t').collect();
        match parts.as_slice() {
            [mark, text] if mark.starts_with('@') => drop(common.insert(mark, unescape(text))),
            [resource] => {
                // A kind in two versions has the same columns twice.
                known = all.contains_key(resource);
                current = resource;
            }
            ["", name, kind, format, priority, text] if !known => {
                let text = common.get(text).copied().unwrap_or_else(|| unescape(text));
                let priority = priority.parse().unwrap_or_default();
                let column = Column { name, kind, format, priority, description: text };
                all.entry(current).or_default().push(column);
            }
            _ => {}
        }
    }
    let leak = |columns: Vec<Column>| -> &'static [Column] { columns.leak() };
    all.into_iter().map(|(resource, columns)| (resource, leak(columns))).collect()
}

/// Texts live as long as the process, as the table does.
fn unescape(text: &'static str) -> &'static str {
    if text.contains("\\n") { text.replace("\\n", "\n").leak() } else { text }
}

/// The object's name.
pub(crate) fn name(object: &Value) -> Value {
    object["metadata"].text("name").into()
}

/// Time since the object was created.
pub(crate) fn age(object: &Value) -> Value {
    since(object["metadata"].text("creationTimestamp")).into()
}

/// Time since a point in time, as people say it: `5m`, `2d3h`.
pub(crate) fn since(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human(Timestamp::now().as_second() - time.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A duration in at most two units, coarser the longer it is: upstream's `HumanDuration`.
pub(crate) fn human(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, part: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{part}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        // Clocks may differ a little.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Names and images of the containers of a pod spec.
pub(crate) fn containers(spec: &Value) -> [Value; 2] {
    let join = |field: &str| {
        let all: Vec<&str> = spec.list("containers").iter().map(|c| c.text(field)).collect();
        all.join(",").into()
    };
    [join("name"), join("image")]
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(object: &Value, field: &str) -> Value {
    let all: Vec<String> =
        object.strings(field).map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "<none>".into() } else { all.join(",").into() }
}

/// A label selector as text; empty for one that matches everything.
pub(crate) fn selector_text(selector: &Value) -> Option<String> {
    Some(Selector::from_object(selector).ok()?.to_string())
}

/// A label selector as text, or `<none>`.
pub(crate) fn selector(selector: &Value) -> Value {
    match selector_text(selector) {
        None => "<error>".into(),
        Some(text) if text.is_empty() => "<none>".into(),
        Some(text) => text.into(),
    }
}

/// Up to `most` items of a list and how many more there are.
pub(crate) fn few(items: &[String], most: usize) -> String {
    let shown = items[..items.len().min(most)].join(",");
    match items.len().checked_sub(most) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// `text`, or `other` when it is empty.
pub(crate) fn or(text: &str, other: &str) -> Value {
    if text.is_empty() { other.into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams_do() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400, "2y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn the_table_of_columns_parses() {
        let pods: Vec<_> =
            of("/pods").iter().map(|column| (column.name, column.priority)).collect();
        assert_eq!(pods[..3], [("Name", 0), ("Ready", 0), ("Status", 0)]);
        assert_eq!(pods.len(), 9);
        assert_eq!(of("autoscaling/horizontalpodautoscalers").len(), 7);
        assert!(of("/pods")[4].description.contains('\n'));
        assert!(of("nothing").is_empty());
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        assert_eq!(few(&items, 3), "a,b,c + 1 more...");
        assert_eq!(few(&items[..3], 3), "a,b,c");
    }
}
