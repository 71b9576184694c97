//! VolumeAttachments.

use apimachinery::field::FieldError;
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    core::persistent_volume,
    declared::{
        self,
        Given::Filled,
        Rule::{self, Field, Form, Immutable, MaxLength, Required},
        long_name_caseless,
    },
    pod_spec::csi_driver_name,
    validation::{Errors, Report as _, dns_subdomain, spec},
    value::Fields as _,
};

pub(crate) struct VolumeAttachment;

impl Hooks for VolumeAttachment {
    fn validate_create(&self, _context: &Context<'_>, attachment: &Value) -> Vec<FieldError> {
        validate(None, attachment)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        validate(Some(old), new)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.nodeName"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("storage.k8s.io/volumeattachments")
    }

    fn cells(&self, attachment: &Value) -> Vec<Value> {
        let spec = &attachment["spec"];
        vec![
            name(attachment),
            spec.text("attacher").into(),
            spec["source"].text("persistentVolumeName").into(),
            spec.text("nodeName").into(),
            attachment["status"].on("attached").into(),
            age(attachment),
        ]
    }
}

/// What is declared of attachments.
const DECLARED: Rule = Field(
    "spec",
    &[Immutable, Field("attacher", &[Required(Filled), Form(long_name_caseless), MaxLength(63)])],
);

fn validate(old: Option<&Value>, attachment: &Value) -> Errors {
    let mut errors = Errors::new();
    let (inner, path) = (&attachment["spec"], spec());
    csi_driver_name(inner.text("attacher"), &path.child("attacher"), &mut errors);
    let source = path.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let volume = inner["source"].opt_text("persistentVolumeName");
    match (inner["source"].sub("inlineVolumeSpec"), volume) {
        (None, None) => errors.required(&source, one),
        (Some(_), Some(_)) => errors.forbidden(&source, one),
        (Some(inline), None) => {
            let path = source.child("inlineVolumeSpec");
            persistent_volume::validate_inline(inline, &path, &mut errors);
        }
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&source.child("persistentVolumeName"), detail);
        }
        _ => {}
    }
    dns_subdomain(inner.text("nodeName"), &path.child("nodeName"), &mut errors);
    if let Some(volume) = volume {
        dns_subdomain(volume, &source.child("persistentVolumeName"), &mut errors);
    }
    declared::supersede(&[DECLARED], old, attachment, &mut errors);
    errors
}
