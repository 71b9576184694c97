//! Field ownership through the `scale` subresource: whoever sets a Scale's `spec.replicas` owns the
//! field that holds the replicas of the object itself, and the other way round.

use serde_json::Value;

use super::element::PathElement;
use super::managers::{Managers, Owned};
use super::set::Set;

/// Version of the Scale kind.
const SCALE_VERSION: &str = "autoscaling/v1";

/// Where the objects of a resource have their replicas.
#[derive(Clone, Copy, Debug)]
pub struct ReplicasPath<'a> {
    /// `apps/v1`.
    pub group_version: &'a str,
    /// `["spec", "replicas"]`; empty for a version without the subresource.
    pub path: &'a [&'a str],
}

impl ReplicasPath<'_> {
    fn set(&self) -> Set {
        Set::of_fields([self.path])
    }
}

fn scale_replicas() -> Set {
    Set::of_fields([&["spec", "replicas"] as &[&str]])
}

fn path_at<'a>(paths: &'a [ReplicasPath<'a>], version: &str) -> Option<&'a ReplicasPath<'a>> {
    paths.iter().find(|path| path.group_version == version)
}

/// The managedFields of the Scale of an object: of each manager that owns the replicas. None
/// where nobody does.
pub fn scale_managed_fields(
    managed_fields: Option<&Value>,
    paths: &[ReplicasPath<'_>],
) -> Result<Option<Value>, String> {
    let mut managers = Managers::decode(managed_fields)?;
    managers.all.retain(|_, owned| {
        path_at(paths, &owned.api_version)
            .is_some_and(|at| !at.path.is_empty() && owned.set.has_fields(at.path))
    });
    for owned in managers.all.values_mut() {
        owned.replace(scale_replicas(), SCALE_VERSION);
    }
    Ok(managers.encode())
}

/// The managedFields of an object after its Scale was written: `scale` are those of the written
/// Scale, `group_version` is that of the object's resource.
pub fn managed_fields_from_scale(
    managed_fields: Option<&Value>,
    scale: Option<&Value>,
    group_version: &str,
    paths: &[ReplicasPath<'_>],
) -> Result<Option<Value>, String> {
    let mut managers = Managers::decode(managed_fields)?;
    let mut scalers = Managers::decode(scale)?;
    // Upstream gives managers that are new here no time.
    for (id, scaler) in &mut scalers.all {
        scaler.time = managers.all.get(id).and_then(|former| former.time.clone());
    }
    managers.all.retain(|id, owned| {
        // A version that is not known any more cannot be kept.
        let Some(at) = path_at(paths, &owned.api_version) else { return false };
        if at.path.is_empty() || !owned.set.has_fields(at.path) {
            return true;
        }
        if scalers.all.remove(id).is_none() {
            // Another manager has taken the replicas.
            owned.subtract(&at.set());
        }
        !owned.set.is_empty()
    });
    let path = path_at(paths, group_version);
    for (id, scaler) in scalers.all {
        let replicas = [PathElement::Field("spec".into()), PathElement::Field("replicas".into())];
        let (true, Some(path)) = (scaler.set.has(&replicas), path) else { continue };
        let mut owned = Owned::new(path.set(), group_version);
        owned.time = scaler.time;
        managers.all.insert(id, owned);
    }
    Ok(managers.encode())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PATHS: [ReplicasPath<'static>; 1] =
        [ReplicasPath { group_version: "apps/v1", path: &["spec", "replicas"] }];

    fn entry(manager: &str, operation: &str, version: &str, sub: &str, fields: Value) -> Value {
        let mut entry = json!({
            "manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields, "time": "2026-01-01T00:00:00Z",
        });
        if !sub.is_empty() {
            entry["subresource"] = json!(sub);
        }
        entry
    }

    #[test]
    fn ownership_goes_to_the_scale_and_back() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let object = json!([
            entry("a", "Apply", "apps/v1", "", both),
            entry("b", "Update", "apps/v1", "", json!({"f:spec": {"f:paused": {}}})),
            entry("c", "Update", "apps/v9", "", replicas.clone()),
        ]);
        let scale = scale_managed_fields(Some(&object), &PATHS).expect("valid");
        let own = entry("a", "Apply", "autoscaling/v1", "", replicas.clone());
        assert_eq!(scale, Some(json!([own])));

        // Nothing has changed.
        let same = managed_fields_from_scale(Some(&object), scale.as_ref(), "apps/v1", &PATHS);
        let kept = json!([object[0], object[1]]);
        assert_eq!(same, Ok(Some(kept)));

        // An autoscaler has set the replicas.
        let taken = json!([entry("hpa", "Update", "autoscaling/v1", "scale", replicas.clone())]);
        let after = managed_fields_from_scale(Some(&object), Some(&taken), "apps/v1", &PATHS);
        let paused = json!({"f:spec": {"f:paused": {}}});
        let mut hpa = entry("hpa", "Update", "apps/v1", "scale", replicas);
        hpa.as_object_mut().map(|entry| entry.remove("time"));
        let wanted = json!([entry("a", "Apply", "apps/v1", "", paused), hpa, object[1]]);
        assert_eq!(after, Ok(Some(wanted)));
    }
}
