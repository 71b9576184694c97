//! Rules for names, label keys and values, ports, environment variables and config keys.
//!
//! Every function returns what is wrong with the value in the words of
//! k8s.io/apimachinery/pkg/util/validation (clients and tests compare them), so an empty list,
//! which does not allocate, means valid.

/// Longest DNS label (RFC 1123 and 1035), in bytes.
pub const DNS_LABEL_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const DNS_SUBDOMAIN_MAX: usize = 253;
/// Longest label value and longest name part of a label key, in bytes.
pub const LABEL_MAX: usize = 63;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case \
     alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
     alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_UNDERSCORE: &str =
    r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_UNDERSCORE_RULE: &str = "a lowercase RFC 1123 subdomain must consist of \
     lower case alphanumeric characters, '_', '-' or '.', and must start and end with an \
     alphanumeric character";
const DNS1123_SUBDOMAIN_CASELESS_RULE: &str = "an RFC 1123 subdomain must consist of alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_LABEL_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric \
     characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const WILDCARD_SUBDOMAIN: &str =
    r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const WILDCARD_SUBDOMAIN_RULE: &str = "a wildcard DNS-1123 subdomain must start with '*.', \
     followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, \
     '-' or '.' and end with an alphanumeric character";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const C_IDENTIFIER: &str = "[A-Za-z_][A-Za-z0-9_]*";
const C_IDENTIFIER_RULE: &str = "a valid C identifier must start with alphabetic character or '_', \
     followed by a string of alphanumeric characters or '_'";
const PERCENT_RULE: &str =
    "a valid percent string must be a numeric string followed by an ending '%'";
const HTTP_HEADER_RULE: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
const ENV_VAR_RULE: &str = "a valid environment variable name must consist of alphabetic \
     characters, digits, '_', '-', or '.', and must not start with a digit";
const RELAXED_ENV_VAR_RULE: &str = "a valid environment variable name must consist only of \
     printable ASCII characters other than '='";
const CONFIG_KEY_RULE: &str =
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const DECIMAL_INTEGER_RULE: &str = "must be a valid decimal integer in canonical form";

/// A DNS label of RFC 1123: namespaces, and names that become one DNS label.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        errors.push(max_len_error(DNS_LABEL_MAX));
    }
    if !is_dns1123_label(value.as_bytes()) {
        errors.push(if is_dns1123_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(DNS1123_LABEL_RULE, DNS1123_LABEL, &["my-name", "123-abc"])
        });
    }
    errors
}

/// A DNS subdomain of RFC 1123: the names of most objects.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = subdomain_length(value);
    if !is_dns1123_subdomain(value) {
        errors.push(regex_error(DNS1123_SUBDOMAIN_RULE, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    errors
}

/// As [`dns1123_subdomain`], with underscores inside the labels and before them.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let label = |label: &[u8]| {
        let label = label.strip_prefix(b"_").unwrap_or(label);
        bounded(label, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-' || b == b'_')
    };
    let mut errors = subdomain_length(value);
    if !value.as_bytes().split(|b| *b == b'.').all(label) {
        errors.push(regex_error(
            DNS1123_SUBDOMAIN_UNDERSCORE_RULE,
            DNS1123_SUBDOMAIN_UNDERSCORE,
            &["example.com"],
        ));
    }
    errors
}

/// As [`dns1123_subdomain`], with upper case letters.
pub fn dns1123_subdomain_caseless(value: &str) -> Vec<String> {
    let label = |label: &[u8]| {
        bounded(label, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let mut errors = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        errors.push(max_bytes_error(DNS_SUBDOMAIN_MAX));
    }
    if !value.as_bytes().split(|b| *b == b'.').all(label) {
        errors.push(regex_error(
            DNS1123_SUBDOMAIN_CASELESS_RULE,
            DNS1123_SUBDOMAIN,
            &["Example.com"],
        ));
    }
    errors
}

/// A DNS label of RFC 1035: one that does not start with a digit.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        errors.push(max_len_error(DNS_LABEL_MAX));
    }
    let starts = value.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if !starts || !is_dns1123_label(value.as_bytes()) {
        errors.push(regex_error(DNS1035_LABEL_RULE, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    errors
}

/// A wildcard host name of RFC 1034: `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = subdomain_length(value);
    if !value.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        errors.push(regex_error(WILDCARD_SUBDOMAIN_RULE, WILDCARD_SUBDOMAIN, &["*.example.com"]));
    }
    errors
}

/// A qualified name, which is also a label key: `[prefix/]name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let rule = || regex_error(LABEL_KEY_RULE, LABEL_KEY, &["MyName", "my.name", "123-abc"]);
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')",
                rule()
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            if prefix.len() > DNS_SUBDOMAIN_MAX {
                errors.push(format!("prefix part {}", max_bytes_error(DNS_SUBDOMAIN_MAX)));
            }
            if !is_dns1123_subdomain(prefix) {
                errors.push(format!(
                    "prefix part {}",
                    regex_error(DNS1123_SUBDOMAIN_RULE, DNS1123_SUBDOMAIN, &["example.com"])
                ));
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_bytes_error(LABEL_MAX)));
    }
    if !is_label_word(name) {
        errors.push(format!("name part {}", rule()));
    }
    errors
}

/// A label key that must have a prefix: `example.com/key`.
pub fn prefixed_label_key(value: &str) -> Vec<String> {
    let errors = qualified_name(value);
    if errors.is_empty() && !value.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".to_owned()];
    }
    errors
}

/// A label value; the empty string is one.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_bytes_error(LABEL_MAX));
    }
    if !value.is_empty() && !is_label_word(value) {
        errors.push(regex_error(LABEL_VALUE_RULE, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// A name that can be one segment of a URL path.
pub fn path_segment_name(value: &str) -> Vec<String> {
    match value {
        "." | ".." => vec![format!("may not be '{value}'")],
        _ => path_segment_prefix(value),
    }
}

/// As [`path_segment_name`] for a `generateName`, where a suffix follows.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    ['/', '%']
        .into_iter()
        .filter(|c| value.contains(*c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// An IANA service name as RFC 6335 has them: the names of ports.
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let bytes = value.as_bytes();
    if bytes.len() > 15 {
        errors.push(max_len_error(15));
    }
    if bytes.is_empty() || !bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-') {
        errors.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A port number that can be bound: 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A number from `low` to `high`, both included.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        return Vec::new();
    }
    vec![inclusive_range_error(low, high)]
}

/// A user or group id: 0 to 2^31-1, what the container runtime can express.
pub fn user_or_group_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(PERCENT_RULE, "[0-9]+%", &["1%", "93%"])]
}

/// An HTTP header name, a stricter subset of RFC 7230's.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(HTTP_HEADER_RULE, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// An identifier of the C language.
pub fn c_identifier(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let valid = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if valid {
        return Vec::new();
    }
    vec![regex_error(C_IDENTIFIER_RULE, C_IDENTIFIER, &["my_name", "MY_NAME", "MyName"])]
}

/// An environment variable's name by the strict rule.
pub fn env_var_name(value: &str) -> Vec<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let bytes = value.as_bytes();
    let mut errors = Vec::new();
    if bytes.is_empty() || bytes[0].is_ascii_digit() || !bytes.iter().all(|b| word(*b)) {
        errors.push(regex_error(
            ENV_VAR_RULE,
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    errors.extend(parent_directory(value));
    errors
}

/// An environment variable's name by the relaxed rule, which v1.34 and later use for pods.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        errors.push(RELAXED_ENV_VAR_RULE.to_owned());
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let mut errors = subdomain_length(value);
    if value.is_empty() || !value.bytes().all(word) {
        errors.push(regex_error(
            CONFIG_KEY_RULE,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(parent_directory(value));
    errors
}

/// A decimal integer as a person writes it: no plus sign and no leading zeros.
pub fn decimal_integer(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["must be non-empty".to_owned()];
    }
    let digits = value.strip_prefix('-').unwrap_or(value).as_bytes();
    let canonical =
        matches!(digits, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    if value == "0" || canonical {
        return Vec::new();
    }
    vec![DECIMAL_INTEGER_RULE.to_owned()]
}

/// An object name that must be a DNS subdomain. `prefix` says that it is a `generateName`, which
/// may end in a dash because a suffix follows.
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1123_subdomain(&mask_trailing_dash(name)) } else { dns1123_subdomain(name) }
}

/// An object name that must be an RFC 1123 label; `prefix` as in [`name_is_dns_subdomain`].
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1123_label(&mask_trailing_dash(name)) } else { dns1123_label(name) }
}

/// An object name that must be an RFC 1035 label; `prefix` as in [`name_is_dns_subdomain`].
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1035_label(&mask_trailing_dash(name)) } else { dns1035_label(name) }
}

/// An object name that must be a path segment; `prefix` as in [`name_is_dns_subdomain`].
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { path_segment_prefix(name) } else { path_segment_name(name) }
}

/// The words for a value that is too long.
pub fn max_len_error(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// The words for a number out of its range.
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The words for a value that does not match `pattern`, with examples of ones that do.
pub fn regex_error(rule: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{rule} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// The newer rules of upstream (label keys and values) count in bytes, the older in "characters".
fn max_bytes_error(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

fn subdomain_length(value: &str) -> Vec<String> {
    if value.len() > DNS_SUBDOMAIN_MAX {
        return vec![max_len_error(DNS_SUBDOMAIN_MAX)];
    }
    Vec::new()
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

fn is_dns1123_label(label: &[u8]) -> bool {
    bounded(label, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn is_dns1123_subdomain(value: &str) -> bool {
    value.as_bytes().split(|b| *b == b'.').all(is_dns1123_label)
}

fn is_label_word(value: &str) -> bool {
    bounded(
        value.as_bytes(),
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// Not empty, with `ends` for the first and the last byte and `middle` for those between.
fn bounded(bytes: &[u8], ends: impl Fn(u8) -> bool, middle: impl Fn(u8) -> bool) -> bool {
    match bytes {
        [] => false,
        [only] => ends(*only),
        [first, inner @ .., last] => {
            ends(*first) && ends(*last) && inner.iter().all(|b| middle(*b))
        }
    }
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// What upstream does to a prefix before it checks it as a name: the last two bytes become an
/// `a` when the last one is a dash.
fn mask_trailing_dash(name: &str) -> String {
    let bytes = name.as_bytes();
    match bytes {
        [kept @ .., _, b'-'] => {
            let mut masked = String::from_utf8_lossy(kept).into_owned();
            masked.push('a');
            masked
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Every message once, and for each text the numbers of those that each check gives.
    #[derive(serde::Deserialize)]
    struct Cases {
        messages: Vec<String>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        errors: BTreeMap<String, Vec<usize>>,
    }

    type Check = fn(&str) -> Vec<String>;

    #[test]
    fn agrees_with_upstream() {
        let checks: [(&str, Check); 23] = [
            ("dns1123_label", dns1123_label),
            ("dns1123_subdomain", dns1123_subdomain),
            ("dns1123_subdomain_with_underscore", dns1123_subdomain_with_underscore),
            ("dns1123_subdomain_caseless", dns1123_subdomain_caseless),
            ("dns1035_label", dns1035_label),
            ("wildcard_dns1123_subdomain", wildcard_dns1123_subdomain),
            ("qualified_name", qualified_name),
            ("prefixed_label_key", prefixed_label_key),
            ("label_value", label_value),
            ("path_segment_name", path_segment_name),
            ("path_segment_prefix", path_segment_prefix),
            ("port_name", port_name),
            ("percent", percent),
            ("http_header_name", http_header_name),
            ("c_identifier", c_identifier),
            ("env_var_name", env_var_name),
            ("relaxed_env_var_name", relaxed_env_var_name),
            ("config_map_key", config_map_key),
            ("decimal_integer", decimal_integer),
            ("name_is_dns_subdomain", |name| name_is_dns_subdomain(name, true)),
            ("name_is_dns_label", |name| name_is_dns_label(name, true)),
            ("name_is_dns1035_label", |name| name_is_dns1035_label(name, true)),
            ("name_is_path_segment", |name| name_is_path_segment(name, true)),
        ];
        let Cases { messages, cases } =
            serde_json::from_str(include_str!("testdata/names.json")).expect("fixture is JSON");
        for case in cases {
            for (name, check) in checks {
                let wanted = case.errors.get(name).map(Vec::as_slice).unwrap_or_default();
                let wanted: Vec<&str> = wanted.iter().map(|at| messages[*at].as_str()).collect();
                assert_eq!(check(&case.text), wanted, "{name} of {:?}", case.text);
            }
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(port_number(65535).is_empty());
        assert_eq!(user_or_group_id(-1), ["must be between 0 and 2147483647, inclusive"]);
        assert!(!name_is_dns_subdomain("web-", false).is_empty());
    }
}
