//! What is known of a device.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{device::key, parts};
use crate::kinds::{
    validation::{Errors, Report as _},
    value::Fields as _,
};

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
/// Most attributes and capacities of a device.
const MOST: usize = 32;
/// Most values of all attributes together.
const MOST_VALUES: usize = 48;
const LONGEST: usize = 64;

/// The attributes of a device.
pub(super) fn validate(device: &Value, path: &Path, errors: &mut Errors) {
    let count = device.entries("attributes").count() + device.entries("capacity").count();
    if count > MOST {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MOST}");
        errors.invalid(path, count, &detail);
    }
    let values: usize = device
        .entries("attributes")
        .map(|(_, attribute)| {
            LISTS.iter().map(|list| attribute.list(list).len()).sum::<usize>().max(1)
        })
        .sum();
    if values > MOST_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MOST_VALUES}");
        errors.invalid(path, values, &detail);
    }
    let path = path.child("attributes");
    for (name, attribute) in device.entries("attributes") {
        parts::qualified_name(name, &path, errors);
        one(attribute, &key(&path, name), errors);
    }
}

fn one(attribute: &Value, path: &Path, errors: &mut Errors) {
    if attribute.text("string").len() > LONGEST {
        errors.push(FieldError::too_long(&path.child("string"), LONGEST));
    }
    if let Some(version) = attribute.opt_text("version") {
        let path = path.child("version");
        if !is_version(version) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&path, version, detail);
        }
        if version.len() > LONGEST {
            errors.push(FieldError::too_long(&path, LONGEST));
        }
    }
}

/// Whether a text is a version of semver.org: `1.2.3-alpha.1+build.5`.
fn is_version(text: &str) -> bool {
    let (text, build) =
        text.split_once('+').map_or((text, None), |(text, rest)| (text, Some(rest)));
    let (core, release) =
        text.split_once('-').map_or((text, None), |(core, rest)| (core, Some(rest)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|it| it.split('.').all(|p| word(p) && (!digits(p) || number(p))))
        && build.is_none_or(|it| it.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.3", "0.0.0", "1.2.3-a", "1.2.3-a.0.1-2+b.01", "1.2.3+x-y"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "a.b.c"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
