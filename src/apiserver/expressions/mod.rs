//! Expressions of admission: what they may use, how they are compiled when they are written and
//! evaluated when a request comes.

pub(crate) mod authorizer;
pub(crate) mod checking;
pub(crate) mod conditions;
pub(crate) mod input;
pub(crate) mod objects;
pub(crate) mod revisions;
mod schema_type;
mod types;
pub(crate) mod variables;

use std::sync::Arc;

use cel::{Env, ObjectType, Program, Type};

/// What an expression may use beside the objects and the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The parameter of a policy.
    pub(crate) params: bool,
    /// What the user may do.
    pub(crate) authorizer: bool,
}

/// The environment of expressions in that scope.
pub(crate) fn environment(scope: Scope) -> Env {
    let mut env = Env::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("namespaceObject", types::namespace())
        .with("request", types::request());
    if scope.params {
        env = env.with("params", Type::Dyn);
    }
    if scope.authorizer {
        env = env.with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer")).with(
            "authorizer.requestResource",
            Type::Opaque("kubernetes.authorization.ResourceCheck"),
        );
    }
    env
}

/// Compiles an expression that has to give one of these types.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(crate) fn compile(env: &Env, expression: &str, gives: &[Type]) -> Result<Program, String> {
    let program =
        env.compile(expression).map_err(|issues| format!("compilation failed: {issues}"))?;
    let found = program.result();
    if gives.contains(found) {
        return Ok(program);
    }
    Err(match gives {
        [one] => format!("must evaluate to {} but got {}", name(one), name(found)),
        several => {
            let names: Vec<String> = several.iter().map(name).collect();
            format!("must evaluate to one of [{}] but got {}", names.join(" "), name(found))
        }
    })
}

/// A type as these messages name it.
fn name(of: &Type) -> String {
    match of {
        Type::Null => "null_type".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        other => other.to_string(),
    }
}

/// An object type of a name with these fields.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<(String, Type)>,
}

impl Record {
    pub(crate) fn of<const N: usize>(name: &'static str, fields: [(&str, Type); N]) -> Type {
        let fields = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
        Type::Object(Arc::new(Self { name, fields }))
    }
}

impl ObjectType for Record {
    fn name(&self) -> &str {
        self.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, of)| of.clone())
    }
}
