//! The small languages in strings: selectors, quantities, times, durations, names.

use apimachinery::{
    names, quantity,
    selector::{fields, labels},
    time,
};

use crate::engine::{fuzz, mutated};

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn selectors_are_read_or_refused() {
    let seeds = texts(&[
        "app=web,tier!=front",
        "a in (x, y),b notin (z),!c,d",
        "example.com/size>3,n<9",
        "metadata.name=a,spec.nodeName!=b",
        r"metadata.name=a\,b\=c",
    ]);
    let words = ["in", "notin", "(", ")", ",", "==", "!=", "!", ">", "\\", "=", " "];
    fuzz(
        "selectors",
        |random| mutated(random, &seeds, &words),
        |input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            let labels = [("app".to_owned(), "web".to_owned()), ("n".to_owned(), "5".to_owned())];
            let labels: std::collections::BTreeMap<String, String> = labels.into();
            if let Ok(selector) = labels::Selector::parse(text) {
                let matches = selector.matches(&labels);
                assert!(!(selector.is_nothing() && matches), "{text:?}");
                assert!(!selector.is_everything() || matches, "{text:?}");
            }
            if let Ok(selector) = fields::Selector::parse(text) {
                let _ = selector.matches(|field| if field == "metadata.name" { "a" } else { "" });
            }
        },
    );
}

#[test]
fn a_canonical_value_is_its_own_canonical_form() {
    let seeds = texts(&[
        "250m",
        "1Gi",
        "1.5e3",
        "-0.1Ki",
        "12E",
        "100n",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.123456+01:00",
        "1h2m3.5s",
        "-1.5us",
        "9223372036854775807",
    ]);
    let words = ["e", "E", "Ki", "n", "u", "µs", ".", "-", "+", "Z", "h", "00000000000000000000"];
    fuzz(
        "values",
        |random| mutated(random, &seeds, &words),
        |input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            if let Ok(canonical) = quantity::canonical(text) {
                assert_eq!(quantity::canonical(&canonical).unwrap(), canonical, "{text:?}");
            }
            if let Ok(Some(canonical)) = time::canonical_seconds(text) {
                assert_eq!(
                    time::canonical_seconds(&canonical).unwrap().as_ref(),
                    Some(&canonical),
                    "{text:?}"
                );
            }
            if let Ok(Some(canonical)) = time::canonical_micros(text) {
                assert_eq!(
                    time::canonical_micros(&canonical).unwrap().as_ref(),
                    Some(&canonical),
                    "{text:?}"
                );
            }
            if let Ok(nanoseconds) = time::parse_duration(text) {
                let canonical = time::format_duration(nanoseconds);
                assert_eq!(time::parse_duration(&canonical).unwrap(), nanoseconds, "{text:?}");
            }
            let _ = (names::dns1123_subdomain(text), names::qualified_name(text));
            let _ = (names::label_value(text), names::port_name(text), names::percent(text));
        },
    );
}
