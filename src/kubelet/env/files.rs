//! Variables from files in a volume (`fileKeyRef`): lines of `NAME='value'`.

use std::{collections::HashMap, path::PathBuf};

use k8s_openapi::api::core::v1::FileKeySelector;

use super::Result;
use crate::volumes::safe;

/// The value of a key of a file; `None` when it is optional and not there.
pub(super) fn value(
    reference: &FileKeySelector,
    volumes: &HashMap<String, PathBuf>,
) -> Result<Option<String>> {
    let volume = &reference.volume_name;
    let root = volumes
        .get(volume)
        .ok_or_else(|| format!("cannot find the volume {volume:?} referenced by FileKeyRef"))?;
    let text = safe::read_below(root, reference.path.as_ref())
        .map_err(|_| "couldn't parse env file".to_owned())
        .and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| "couldn't parse env file".to_owned())
        })?;
    match parse(&text, &reference.key) {
        Ok(Some(value)) => Ok(Some(value)),
        Ok(None) if reference.optional == Some(true) => Ok(None),
        Ok(None) => {
            let path = root.join(&reference.path);
            let key = &reference.key;
            Err(format!("environment variable key {key:?} not found in file {:?}", path.display()))
        }
        Err(()) => Err("couldn't parse env file".to_owned()),
    }
}

/// Looks up `key`. Values stand in single quotes and may span lines; an empty one counts as absent.
fn parse(text: &str, key: &str) -> std::result::Result<Option<String>, ()> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(())?;
        if name.is_empty() || name.ends_with([' ', '\t']) {
            return Err(());
        }
        if value.is_empty() {
            return Err(());
        }
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let mut rest = value.strip_prefix('\'').ok_or(())?;
        let mut collected = String::new();
        loop {
            match rest.split_once('\'') {
                Some((end, after)) => {
                    collected.push_str(end);
                    let after = after.trim_start_matches([' ', '\t']);
                    if !after.is_empty() && !after.starts_with('#') {
                        return Err(());
                    }
                    break;
                }
                None => {
                    collected.push_str(rest);
                    collected.push('\n');
                    rest = lines.next().ok_or(())?;
                }
            }
        }
        if name == key {
            return Ok(Some(collected).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files() {
        let text = "# comment\n\n  A='one' # two\nB='x\ny'\nC= 'z'\n";
        let get = |key: &str| parse(text, key);
        assert_eq!(get("A"), Ok(Some("one".to_owned())));
        assert_eq!(get("B"), Ok(Some("x\ny".to_owned())));
        assert_eq!(get("C"), Ok(None));
        assert_eq!(get("D"), Ok(None));
        assert_eq!(parse("A = 'x'", "A"), Err(()));
        assert_eq!(parse("A=x", "A"), Err(()));
        assert_eq!(parse("A='x", "A"), Err(()));
    }
}
