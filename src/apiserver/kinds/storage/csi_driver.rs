//! CSIDrivers.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, IMMUTABLE, Report as _, immutable, optional_one_of, spec},
    value::{Fields as _, same},
};

pub(crate) struct CsiDriver;

impl Hooks for CsiDriver {
    /// The first generation is that after the first change.
    fn prepare_update(&self, _context: &Context<'_>, old: &Value, new: &mut Value) {
        if !same(&old["spec"], &new["spec"]) {
            let generation = old["metadata"].int("generation").unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
    }

    fn validate_create(&self, _context: &Context<'_>, driver: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&driver["spec"], &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(context, new);
        let (was, is) = (&old["spec"], &new["spec"]);
        if !same(&was["attachRequired"], &is["attachRequired"]) {
            let path = spec().child("attachedRequired");
            errors.invalid(&path, is["attachRequired"].clone(), IMMUTABLE);
        }
        immutable(was, is, "volumeLifecycleModes", &spec(), &mut errors);
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("storage.k8s.io/csidrivers")
    }

    fn cells(&self, driver: &Value) -> Vec<Value> {
        let spec = &driver["spec"];
        let modes: Vec<&str> = spec.texts("volumeLifecycleModes").collect();
        let tokens = spec.sub("tokenRequests").map(|_| {
            let all = spec.list("tokenRequests").iter().map(|token| token.text("audience"));
            all.collect::<Vec<_>>().join(",")
        });
        vec![
            name(driver),
            spec.flag("attachRequired").unwrap_or(true).into(),
            spec.on("podInfoOnMount").into(),
            spec.on("storageCapacity").into(),
            tokens.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.on("requiresRepublish").into(),
            columns::or(&modes.join(","), "<none>"),
            age(driver),
        ]
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let required = [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ];
    for (field, shown) in required {
        if !spec.has(field) {
            errors.required(&path.child(shown), "");
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    optional_one_of(spec, "fsGroupPolicy", path, &policies, errors);
    let tokens = spec.list("tokenRequests");
    for (at, token) in tokens.iter().enumerate() {
        let path = path.child("tokenRequests").index(at);
        let audience = token.text("audience");
        if tokens[..at].iter().any(|other| other.text("audience") == audience) {
            errors.duplicate(&path.child("audience"), audience);
        }
        let Some(seconds) = token.int("expirationSeconds") else { continue };
        let path = path.child("expirationSeconds");
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&path, seconds, detail);
        } else if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&path, seconds, detail);
        }
    }
    for mode in spec.texts("volumeLifecycleModes") {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let all = ["Persistent", "Ephemeral"];
            errors.unsupported(&path.child("volumeLifecycleModes"), mode, &all);
        }
    }
    let field = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(period) = spec.int(field).filter(|period| *period < 10) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.invalid(&path.child(field), period, detail);
    }
    if let Some(on) = spec.flag("serviceAccountTokenInSecrets").filter(|_| tokens.is_empty()) {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.child("serviceAccountTokenInSecrets"), on, detail);
    }
}
