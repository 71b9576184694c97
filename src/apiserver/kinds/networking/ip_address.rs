//! IPAddresses: which object holds which address of a Service network.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    addresses::canonical_ip,
    columns::{self, name},
    declared::{
        self,
        Given::{Filled, There},
        Rule::{self, Field, Immutable, Required},
    },
    validation::{Errors, Report as _, dns_subdomain, spec},
    value::Fields as _,
};

pub(crate) struct IpAddress;

impl Hooks for IpAddress {
    fn validate_create(&self, _context: &Context<'_>, address: &Value) -> Vec<FieldError> {
        validate(None, address)
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        validate(Some(old), new)
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        let mut errors = Errors::new();
        canonical_ip(name, &Path::root("name"), &mut errors);
        let start = format!("Invalid value: {name:?}: ");
        let detail = |error: &FieldError| error.message.strip_prefix(&start).map(ToOwned::to_owned);
        errors.iter().filter_map(detail).collect()
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("networking.k8s.io/ipaddresses")
    }

    fn cells(&self, address: &Value) -> Vec<Value> {
        let parent = address["spec"].sub("parentRef").map(|parent| {
            let (group, resource) = (parent.text("group"), parent.text("resource"));
            let mut shown = resource.to_lowercase();
            if !group.is_empty() {
                shown = format!("{shown}.{}", group.to_lowercase());
            }
            if !parent.text("namespace").is_empty() {
                shown = format!("{shown}/{}", parent.text("namespace"));
            }
            format!("{shown}/{}", parent.text("name"))
        });
        vec![name(address), parent.unwrap_or_else(|| "<none>".to_owned()).into()]
    }
}

/// What is declared of the parent.
const DECLARED: Rule = Field(
    "spec",
    &[Field(
        "parentRef",
        &[
            Required(There),
            Immutable,
            Field("resource", &[Required(Filled)]),
            Field("name", &[Required(Filled)]),
        ],
    )],
);

fn validate(old: Option<&Value>, address: &Value) -> Errors {
    let mut errors = Errors::new();
    if let Some(parent) = address["spec"].sub("parentRef") {
        let path = spec().child("parentRef");
        if !parent.text("group").is_empty() {
            dns_subdomain(parent.text("group"), &path.child("group"), &mut errors);
        }
        for field in ["resource", "name", "namespace"] {
            let path = path.child(field);
            match parent.text(field) {
                "" if field == "namespace" => {}
                "" => errors.required(&path, ""),
                text => errors.messages(&path, text, names::path_segment_name(text)),
            }
        }
    }
    declared::supersede(&[DECLARED], old, address, &mut errors);
    errors
}
