//! ServiceCIDRs: the networks that addresses of Services are taken from.

use apimachinery::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    addresses::canonical_cidr,
    columns::{self, age, name},
    validation::{Errors, IMMUTABLE, Report as _, spec},
    value::Fields as _,
};

pub(crate) struct ServiceCidr;

impl Hooks for ServiceCidr {
    fn validate_create(&self, _context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = spec().child("cidrs");
        let all = object["spec"].list("cidrs");
        if all.is_empty() {
            errors.required(&path, "at least one CIDR required");
        }
        if all.len() > 2 {
            let shown = json!({"CIDRs": object["spec"]["cidrs"]});
            errors.invalid(&path, shown, "may only hold up to 2 values");
            return errors;
        }
        let texts = object["spec"].texts("cidrs").enumerate();
        let families: Vec<bool> = texts
            .filter_map(|(at, text)| canonical_cidr(text, &path.index(at), &mut errors))
            .map(|network| network.address.is_ipv6())
            .collect();
        if let [one, other] = families.as_slice()
            && one == other
        {
            let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 \
                          and 2001:db8::/64";
            errors.invalid(&path, object["spec"]["cidrs"].clone(), detail);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if !context.subresource.is_empty() {
            return errors;
        }
        let path = spec().child("cidrs");
        let (was, is) = (old["spec"].list("cidrs"), new["spec"].list("cidrs"));
        for (at, (_, is)) in was.iter().zip(is).enumerate().filter(|(_, (was, is))| was != is) {
            errors.invalid(&path.index(at), is.clone(), IMMUTABLE);
        }
        // A second family may be added, and nothing else.
        match (was.len(), is.len()) {
            (one, other) if one == other => {}
            (1, 2) => errors.extend(self.validate_create(context, new)),
            _ => {
                errors.clear();
                errors.invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE);
            }
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("networking.k8s.io/servicecidrs")
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        let all: Vec<&str> = object["spec"].texts("cidrs").collect();
        vec![name(object), all.join(",").into(), age(object)]
    }
}
