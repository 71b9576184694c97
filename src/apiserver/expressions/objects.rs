//! What expressions of MutatingAdmissionPolicies make: `Object{...}` and what is inside, and
//! `JSONPatch{...}`.

use std::sync::Arc;

use cel::{Env, ObjectType, Type};

/// `Object`, `Object.spec` and so on: any field, of any type.
#[derive(Debug)]
struct Part(String);

impl ObjectType for Part {
    fn name(&self) -> &str {
        &self.0
    }

    fn field(&self, _name: &str) -> Option<Type> {
        Some(Type::Dyn)
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// One step of a JSON patch.
#[derive(Debug)]
struct JsonPatch;

impl ObjectType for JsonPatch {
    fn name(&self) -> &str {
        "JSONPatch"
    }

    fn field(&self, name: &str) -> Option<Type> {
        match name {
            "op" | "from" | "path" => Some(Type::String),
            "value" => Some(Type::Dyn),
            _ => None,
        }
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The environment with what expressions may make.
pub(crate) fn declare(env: Env) -> Env {
    env.with_structs(Arc::new(|name| match name {
        "JSONPatch" => Some(Arc::new(JsonPatch)),
        _ if name == "Object" || name.starts_with("Object.") => {
            Some(Arc::new(Part(name.to_owned())))
        }
        _ => None,
    }))
}

/// The type of an apply configuration.
pub(crate) fn object() -> Type {
    Type::Object(Arc::new(Part("Object".into())))
}

/// The type of a JSON patch: a list of steps.
pub(crate) fn patches() -> Type {
    Type::list(Type::Object(Arc::new(JsonPatch)))
}
