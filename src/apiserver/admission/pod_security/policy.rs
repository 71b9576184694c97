//! Which standard a namespace asks for.

use std::fmt;

use apimachinery::field::{FieldError, Path};

/// The version that this server implements.
pub(super) const NEWEST: u32 = 37;

/// How strict; in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as one version of Kubernetes defined it; no version is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub(super) level: Level,
    pub(super) version: Option<u32>,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            None => f.write_str(":latest"),
            Some(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

/// What a namespace asks for. `audit` would only be written to an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: LevelVersion,
    pub(super) warn: LevelVersion,
}

fn level(text: &str) -> Option<Level> {
    Some(match text {
        "privileged" => Level::Privileged,
        "baseline" => Level::Baseline,
        "restricted" => Level::Restricted,
        _ => return None,
    })
}

fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor == "0" || !minor.starts_with('0');
    let digits = !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit());
    if plain && digits { Some(Some(minor.parse().ok()?)) } else { None }
}

impl Policy {
    /// Reads the labels. What cannot be read is reported, and strict where pods are refused for it,
    /// lax where it is only warned of.
    pub(super) fn of<T: AsRef<str>>(label: impl Fn(&str) -> Option<T>) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut mode = |name: &str, otherwise: Level| {
            let key = |suffix: &str| format!("pod-security.kubernetes.io/{name}{suffix}");
            let mut invalid = |key: &str, value: &str, why: &str| {
                let path = Path::root("metadata").child("labels").key(key);
                errors.push(FieldError::invalid(&path, value, why));
            };
            let level_label = label(&key(""));
            let read = level_label.as_ref().map(|text| {
                let text = text.as_ref();
                let read = level(text);
                if read.is_none() {
                    invalid(&key(""), text, "must be one of privileged, baseline, restricted");
                }
                read
            });
            let version_label = label(&key("-version"));
            let of_version = version_label.as_ref().map(|text| {
                let text = text.as_ref();
                version(text).unwrap_or_else(|| {
                    invalid(&key("-version"), text, "must be \"latest\" or \"v1.x\"");
                    None
                })
            });
            let good = read.flatten();
            let level = match read {
                None => Level::Privileged,
                Some(read) => read.unwrap_or(otherwise),
            };
            (LevelVersion { level, version: of_version.flatten() }, read, good, of_version)
        };
        let (enforce, _, good, _) = mode("enforce", Level::Restricted);
        mode("audit", Level::Privileged);
        let (mut warn, said, _, version) = mode("warn", Level::Privileged);
        // Whoever is refused pods is warned of workloads that would make such pods.
        if said.is_none() && good.is_some_and(|good| good > warn.level) {
            warn.level = enforce.level;
            if version.is_none() {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, warn }, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> (String, String, Vec<String>) {
        let (policy, errors) = Policy::of(|key| {
            let name = key.strip_prefix("pod-security.kubernetes.io/")?;
            labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
        });
        let errors = errors.iter().map(ToString::to_string).collect();
        (policy.enforce.to_string(), policy.warn.to_string(), errors)
    }

    #[test]
    fn labels_choose_levels_and_versions() {
        let some = |a: &str, b: &str| (a.to_owned(), b.to_owned(), Vec::new());
        assert_eq!(read(&[]), some("privileged:latest", "privileged:latest"));
        assert_eq!(read(&[("enforce", "baseline")]), some("baseline:latest", "baseline:latest"));
        assert_eq!(
            read(&[("enforce", "baseline"), ("enforce-version", "v1.30"), ("warn", "restricted")]),
            some("baseline:v1.30", "restricted:latest")
        );
        assert_eq!(
            read(&[("enforce", "baseline"), ("warn", "privileged")]),
            some("baseline:latest", "privileged:latest")
        );
    }

    #[test]
    fn bad_labels_are_strict_where_they_enforce() {
        let (enforce, warn, errors) =
            read(&[("enforce", "bad"), ("warn", "bad"), ("enforce-version", "v1.01")]);
        assert_eq!((enforce.as_str(), warn.as_str()), ("restricted:latest", "privileged:latest"));
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"bad\": must be \
                 one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \
                 \"v1.01\": must be \"latest\" or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"bad\": must be one \
                 of privileged, baseline, restricted",
            ]
        );
    }
}
