//! Windows options of security contexts.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    validation::{Errors, Report as _, dns_subdomain},
    value::Fields as _,
};

const LONGEST_SPEC: usize = 64 << 10;
const LONGEST_DOMAIN: usize = 256;
const LONGEST_USER: usize = 104;

/// Validates the options of a pod's or a container's security context.
pub(super) fn options(context: &Value, path: &Path, errors: &mut Errors) {
    let Some(options) = context.sub("windowsOptions") else { return };
    let path = path.child("windowsOptions");
    if let Some(name) = options.opt_text("gmsaCredentialSpecName") {
        dns_subdomain(name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(spec) = options.opt_text("gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        match spec.len() {
            0 => errors.invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string"),
            length if length > LONGEST_SPEC => {
                errors.invalid(&path, spec, "gmsaCredentialSpec size must be under 64 KiB");
            }
            _ => {}
        }
    }
    if let Some(user) = options.opt_text("runAsUserName") {
        for detail in user_name(user) {
            errors.invalid(&path.child("runAsUserName"), user, detail);
        }
    }
}

/// What is wrong with the name of a user, which is `DOMAIN\USER` or `USER`.
fn user_name(name: &str) -> Vec<&'static str> {
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match *parts {
        _ if name.is_empty() => return vec!["runAsUserName cannot be an empty string"],
        _ if name.chars().any(|c| c.is_ascii_control()) => {
            return vec!["runAsUserName cannot contain control characters"];
        }
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= LONGEST_DOMAIN) {
        wrong.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !net_bios(domain) && !dns(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty");
    } else if user.len() > LONGEST_USER {
        wrong.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        wrong.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user
        .contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'])
    {
        wrong.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    wrong
}

fn net_bios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=15).contains(&length)
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn dns(domain: &str) -> bool {
    let labels = domain.to_ascii_lowercase();
    domain.is_ascii() && labels.split('.').all(|label| names::dns1123_label(label).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_be_of_a_domain() {
        for good in ["Me", "NT AUTHORITY\\Local Service", "a.example\\u", "u.v"] {
            assert!(user_name(good).is_empty(), "{good}");
        }
        for (bad, why) in [
            ("", "empty string"),
            ("a\nb", "control characters"),
            ("a\\b\\c", "more than one backslash"),
            (".a\\b", "NetBios"),
            ("a\\", "User cannot be empty"),
            (". .", "only periods"),
            ("a/b", "following characters"),
        ] {
            assert!(user_name(bad)[0].contains(why), "{bad:?}");
        }
    }
}
