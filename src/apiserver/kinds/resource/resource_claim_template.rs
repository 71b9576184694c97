//! ResourceClaimTemplates.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{claim, declarations};
use crate::{
    kinds::{
        Column, Context, Hooks,
        columns::{self, age, name},
        declared,
        validation::{Errors, immutable, labels, spec},
        value::Fields as _,
    },
    registry::metadata,
};

pub(crate) struct ResourceClaimTemplate;

impl Hooks for ResourceClaimTemplate {
    fn default(&self, template: &mut Value) {
        if let Some(spec) = inner(template) {
            claim::default(spec);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, template: &mut Value) {
        if let Some(spec) = inner(template) {
            claim::drop_disabled(spec);
        }
    }

    fn prepare_update(&self, context: &Context<'_>, _old: &Value, new: &mut Value) {
        self.prepare_create(context, new);
    }

    fn validate_create(&self, context: &Context<'_>, template: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(context, template, &mut errors);
        declared::check(declarations::TEMPLATE, None, template, &Path::empty(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(context, new, &mut errors);
        immutable(old, new, "spec", &Path::empty(), &mut errors);
        declared::check(declarations::TEMPLATE, Some(old), new, &Path::empty(), &mut errors);
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("resource.k8s.io/resourceclaimtemplates")
    }

    fn cells(&self, template: &Value) -> Vec<Value> {
        vec![name(template), age(template)]
    }
}

fn inner(template: &mut Value) -> Option<&mut Value> {
    template.get_mut("spec")?.get_mut("spec")
}

fn validate(context: &Context<'_>, template: &Value, errors: &mut Errors) {
    let (outer, path) = (&template["spec"], spec());
    let requests = outer["spec"]["devices"].list("requests");
    let admin = |request: &Value| request["exactly"].on("adminAccess");
    if let Some(at) = requests.iter().position(admin) {
        let path = spec().child("devices").child("requests").index(at).child("adminAccess");
        let namespace = template["metadata"].text("namespace");
        claim::admin_access(context, namespace, &path, errors);
    }
    let meta = path.child("metadata");
    let annotations = outer["metadata"].get("annotations");
    metadata::validate_annotations(annotations, &meta.child("annotations"), errors);
    labels(&outer["metadata"], "labels", &meta, errors);
    claim::validate(&outer["spec"], &path.child("spec"), errors);
}
