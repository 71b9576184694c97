//! CSIStorageCapacities.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Context, Hooks,
    validation::{
        Errors, NOT_NEGATIVE, Report as _, dns_subdomain, immutable, label_selector, quantity,
        quantity_text,
    },
    value::Fields as _,
};

pub(crate) struct CsiStorageCapacity;

impl Hooks for CsiStorageCapacity {
    fn validate_create(&self, _context: &Context<'_>, capacity: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        label_selector(capacity, "nodeTopology", &Path::empty(), &mut errors);
        let class = capacity.text("storageClassName");
        dns_subdomain(class, &Path::root("storageClassName"), &mut errors);
        for field in ["capacity", "maximumVolumeSize"] {
            if let Some(size) = capacity.sub(field).filter(|size| quantity(size).signum() < 0) {
                errors.invalid(&Path::root(field), quantity_text(size), NOT_NEGATIVE);
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(context, new);
        for field in ["nodeTopology", "storageClassName"] {
            immutable(old, new, field, &Path::empty(), &mut errors);
        }
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }
}
