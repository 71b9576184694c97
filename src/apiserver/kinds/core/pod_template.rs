//! PodTemplates.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, containers, labels, name},
    pod_spec,
    validation::Errors,
};

pub(crate) struct PodTemplate;

impl Hooks for PodTemplate {
    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("template") {
            pod_spec::default_template(template);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        pod_spec::template(&object["template"], &Path::root("template"), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/podtemplates")
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        let template = &object["template"];
        let [names, images] = containers(&template["spec"]);
        vec![name(object), names, images, labels(&template["metadata"], "labels")]
    }
}
