//! Field managers: who set which field, kept in `metadata.managedFields`.

use std::sync::OnceLock;

use apimachinery::{
    Status,
    apply::{ApplyError, FieldFilter, FieldManager, Set},
    schema::Schema,
    time,
};
use serde_json::Value;

use crate::registry::{Call, convert, resource::Endpoint};

/// Notes the fields that a write other than an apply changes. Both objects are of the stored
/// version.
///
/// # Errors
/// The Status of a conversion that failed.
pub async fn update(
    call: &Call<'_>,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
) -> Result<(), Status> {
    let endpoint = &call.endpoint;
    if endpoint.is_stored_version() {
        with_manager(call, |fields| fields.track_update(old, new, manager, &time::now()));
        return Ok(());
    }
    let old = match old {
        Some(old) => Some(convert::from_storage(call.server, endpoint, old.clone()).await?),
        None => None,
    };
    let mut seen = convert::from_storage(call.server, endpoint, new.clone()).await?;
    with_manager(call, |fields| {
        fields.track_update(old.as_ref(), &mut seen, manager, &time::now())
    });
    let managed = seen["metadata"].get_mut("managedFields").map(Value::take);
    let metadata = crate::registry::metadata::of(new);
    match managed {
        Some(managed) => metadata.insert("managedFields".into(), managed),
        None => metadata.remove("managedFields"),
    };
    Ok(())
}

/// Applies a configuration; objects are of the version of the request.
///
/// # Errors
/// 409 for fields that others manage, 400 for what is no configuration.
pub fn apply(
    call: &Call<'_>,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    with_manager(call, |fields| fields.apply(live, config, manager, force, &time::now()))
}

fn with_manager<T>(call: &Call<'_>, act: impl FnOnce(&FieldManager<'_>) -> T) -> T {
    let endpoint = &call.endpoint;
    let version = endpoint.version();
    let group_version = version.api_version();
    let several = endpoint.resource.versions.len() > 1;
    let convert = |value: &Value, wanted: &str| other_version(endpoint, value, wanted);
    let manager = FieldManager {
        schema: &version.schema,
        group_version: &group_version,
        kind: &version.gvk.kind,
        subresource: &call.info.subresource,
        filter: filter(call),
        convert: several.then_some(&convert),
    };
    act(&manager)
}

/// An object of the endpoint's version in another version.
fn other_version(
    endpoint: &Endpoint,
    value: &Value,
    wanted: &str,
) -> Result<Option<(Value, Schema)>, String> {
    let resource = &endpoint.resource;
    let at = resource.versions.iter().position(|version| version.api_version() == wanted);
    let Some(at) = at else { return Ok(None) };
    let other = Endpoint::new(resource.clone(), at);
    let mut value = value.clone();
    convert::between(&other, &mut value);
    Ok(Some((value, other.version().schema.clone())))
}

/// The fields that a write through this part of the resource cannot own, because the server resets
/// them.
fn filter(call: &Call<'_>) -> FieldFilter<'static> {
    static STATUS: Reset = Reset::new(&[&["status"]]);
    static SPEC: Reset = Reset::new(&[&["spec"]]);
    static REQUEST: Reset = Reset::new(&[&["spec"], &["status"]]);
    static REQUEST_STATUS: Reset = Reset::new(&[&["spec"], &["status", "conditions"]]);
    static APPROVAL: Reset = Reset::new(&[&["spec"], &["status", "certificate"]]);
    let signing = call.endpoint.resource.plural() == "certificatesigningrequests";
    let reset = match &*call.info.subresource {
        "" if signing => &REQUEST,
        "" if call.endpoint.version().subresource("status").is_some() => &STATUS,
        "status" if signing => &REQUEST_STATUS,
        "status" => &SPEC,
        "approval" => &APPROVAL,
        // Others reset fields too, but upstream's do not say so.
        _ => return FieldFilter::All,
    };
    FieldFilter::Exclude(reset.set.get_or_init(|| Set::of_fields(reset.paths.iter().copied())))
}

struct Reset {
    paths: &'static [&'static [&'static str]],
    set: OnceLock<Set>,
}

impl Reset {
    const fn new(paths: &'static [&'static [&'static str]]) -> Self {
        Self { paths, set: OnceLock::new() }
    }
}

/// Makes `new` equal to `old` where they differ in nothing but the times of managed fields, so that
/// a write which changes nothing writes nothing.
pub fn ignore_timestamps(old: &Value, new: &mut Value) {
    let (Some(was), Some(now)) =
        (old["metadata"].get("managedFields"), new["metadata"].get("managedFields"))
    else {
        return;
    };
    if was != now && same_but_times(was, now) && same_but_managed(old, new) {
        new["metadata"]["managedFields"] = was.clone();
    }
}

fn same_but_managed(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    a.len() == b.len()
        && a.iter().all(|(name, value)| match (name.as_str(), b.get(name)) {
            ("metadata", Some(other)) => {
                let (Some(one), Some(other)) = (value.as_object(), other.as_object()) else {
                    return false;
                };
                let skip = |name: &str| matches!(name, "managedFields" | "resourceVersion");
                let covers = |x: &serde_json::Map<String, Value>, y: &serde_json::Map<_, _>| {
                    x.iter().all(|(name, value)| skip(name) || y.get(name) == Some(value))
                };
                covers(one, other) && covers(other, one)
            }
            (_, other) => other == Some(value),
        })
}

fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return false };
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
            a.len() == b.len()
                && a.iter().all(|(name, value)| name == "time" || b.get(name) == Some(value))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_that_changes_only_times_changes_nothing() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "1",
            "managedFields": [{"manager": "m", "time": "1"}]}, "data": {"a": "b"}});
        let mut new = old.clone();
        new["metadata"]["managedFields"][0]["time"] = json!("2");
        ignore_timestamps(&old, &mut new);
        assert_eq!(new, old);
        new["data"]["a"] = json!("c");
        new["metadata"]["managedFields"][0]["time"] = json!("2");
        ignore_timestamps(&old, &mut new);
        assert_eq!(new["metadata"]["managedFields"][0]["time"], "2");
    }
}
