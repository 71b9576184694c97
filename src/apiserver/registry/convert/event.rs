//! Event: `v1` is stored, `events.k8s.io/v1` is the same with other names.

use serde_json::Value;

use super::rename;

/// Names of the core group and of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// `events.k8s.io/v1` to `v1`.
pub(super) fn to_core(event: &mut Value) {
    for (core, new) in NAMES {
        rename(event, new, core);
    }
}

/// `v1` to `events.k8s.io/v1`.
pub(super) fn from_core(event: &mut Value) {
    for (core, new) in NAMES {
        rename(event, core, new);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn goes_there_and_back() {
        let core = json!({"involvedObject": {"name": "a"}, "message": "m", "count": 2,
            "reportingComponent": "c", "reportingInstance": "i", "related": {}});
        let mut event = core.clone();
        from_core(&mut event);
        assert_eq!(event["regarding"]["name"], "a");
        assert_eq!(event["note"], "m");
        to_core(&mut event);
        assert_eq!(event, core);
    }
}
