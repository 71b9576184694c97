//! Definitions in the groups of Kubernetes itself.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::value::Fields as _;

/// Groups of Kubernetes' own need a word that their kinds were approved of.
pub(super) fn validate(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    const NOTE: &str = "api-approved.kubernetes.io";
    const PROTECTED: [&str; 2] = ["k8s.io", "kubernetes.io"];
    let group = object["spec"].text("group");
    let within =
        |of: &str| group.strip_suffix(of).is_some_and(|it| it.is_empty() || it.ends_with('.'));
    if !PROTECTED.into_iter().any(within) {
        return;
    }
    let annotation = |object: &Value| object["metadata"]["annotations"].text(NOTE).to_owned();
    // Missing, passed over, approved of, wrong.
    let state = |note: &str| match note {
        "" => 0,
        note if note.starts_with("unapproved") => 1,
        note => match note.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty() && !rest.starts_with('/') && !rest.is_empty() =>
            {
                2
            }
            _ => 3,
        },
    };
    let note = annotation(object);
    let now = state(&note);
    if old.is_some_and(|old| state(&annotation(old)) == now) {
        return;
    }
    let path = Path::root("metadata").child("annotations").key(NOTE);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation \"{NOTE}\"");
    match now {
        0 => errors.push(FieldError::required(&path, &format!("{must}, {see}"))),
        3 => {
            let how = "with either a URL or a reason starting with \"unapproved\"";
            errors.push(FieldError::invalid(&path, note, &format!("{must} {how}, {see}")));
        }
        _ => {}
    }
}
