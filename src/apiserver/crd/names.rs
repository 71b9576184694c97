//! Which names a definition gets: first come, first served within a group.

use std::{collections::HashSet, sync::Arc};

use apimachinery::Object;
use serde_json::{Map, Value, json};

use super::conditions;

/// What is in use in a group, by other definitions.
#[derive(Default)]
struct Taken {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn taken(group: &str, own: &str, all: &[Arc<Object>]) -> Taken {
    let mut taken = Taken::default();
    for other in all.iter().filter(|other| *other.key.name != *own) {
        let Ok(other) = other.value() else { continue };
        if text(&other["spec"], "group") != group {
            continue;
        }
        let names = &other["status"]["acceptedNames"];
        let short = names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let resources = [text(names, "plural"), text(names, "singular")].into_iter().chain(short);
        taken.resources.extend(resources.map(ToOwned::to_owned));
        taken.kinds.extend([text(names, "kind"), text(names, "listKind")].map(ToOwned::to_owned));
    }
    taken
}

/// Accepts what names of `definition` are free and sets the conditions. Returns whether all are.
/// `all` are the definitions that there are.
pub fn accept(definition: &mut Value, all: &[Arc<Object>]) -> bool {
    let own = text(&definition["metadata"], "name").to_owned();
    let taken = taken(text(&definition["spec"], "group"), &own, all);
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = match &definition["status"]["acceptedNames"] {
        Value::Object(names) => names.clone(),
        _ => Map::new(),
    };
    let mut problem: Option<(&str, String)> = None;
    for (field, used, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let requested = wanted.get(field).cloned();
        if requested.as_ref() == accepted.get(field) {
            continue;
        }
        let names: Vec<&str> = match &requested {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ => Vec::new(),
        };
        let clashes: Vec<String> = names
            .into_iter()
            .filter(|name| used.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match (clashes.as_slice(), requested) {
            ([], Some(value)) => {
                accepted.insert(field.to_owned(), value);
            }
            ([], None) => {
                accepted.remove(field);
            }
            ([one], _) => problem = Some((reason, one.clone())),
            (many, _) => problem = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    match wanted.get("categories") {
        Some(categories) => accepted.insert("categories".to_owned(), categories.clone()),
        None => accepted.remove("categories"),
    };
    for field in ["plural", "kind"] {
        accepted.entry(field).or_insert_with(|| json!(""));
    }
    definition["status"]["acceptedNames"] = Value::Object(accepted);
    let established = conditions::is_true(definition, "Established");
    match problem {
        None => {
            conditions::set(
                definition,
                "NamesAccepted",
                "True",
                "NoConflicts",
                "no conflicts found",
            );
            true
        }
        Some((reason, message)) => {
            conditions::set(definition, "NamesAccepted", "False", reason, &message);
            if !established {
                let message = "not all names are accepted";
                conditions::set(definition, "Established", "False", "NotAccepted", message);
            }
            // Once established it stays so, under the names that it got first.
            established
        }
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;

    use super::*;

    fn definition(name: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{name}.example.com")},
            "spec": {"group": "example.com", "names": {
                "plural": name, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": short,
            }},
            "status": {"storedVersions": ["v1"]},
        })
    }

    #[test]
    fn the_first_one_keeps_a_name() {
        let mut first = definition("foos", "Foo", &["f"]);
        assert!(accept(&mut first, &[]));
        assert!(conditions::is_true(&first, "NamesAccepted"));
        let stored = Draft::new(&first, &[] as &[&str]).unwrap().seal(1);
        let mut second = definition("foes", "Foo", &["f", "e"]);
        assert!(!accept(&mut second, std::slice::from_ref(&stored)));
        assert!(!conditions::is_true(&second, "NamesAccepted"));
        let names = &second["status"]["acceptedNames"];
        assert_eq!((names["plural"].as_str(), names["kind"].as_str()), (Some("foes"), Some("")));
        // Its own names do not clash with itself.
        assert!(accept(&mut first, &[stored]));
    }
}
