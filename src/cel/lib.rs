//! The Common Expression Language as Kubernetes uses it: in admission policies, match conditions and
//! the validation rules of custom resources.
//!
//! An [`Env`] says which variables an expression may use. It compiles the expression once, with the
//! types checked, into a [`Program`], which is evaluated as often as one likes with a bound on what
//! that costs. Messages, types and costs are those of upstream's environment for v1.37;
//! testdata/expressions.txt has what that said.

mod ast;
mod check;
mod env;
mod escape;
mod estimate;
mod eval;
mod issue;
mod json;
mod library;
mod literal;
mod macros;
mod parser;
mod repeat;
mod show;
mod signature;
#[cfg(test)]
mod tests;
mod token;
mod types;
mod unify;
mod validators;
mod value;

pub use env::{Env, Program, Structs};
pub use escape::{escape, unescape};
pub use estimate::Bounds;
pub use eval::{Evaluated, PER_CALL_LIMIT, Variable};
pub use issue::Issues;
pub use library::authorizer::{Authorizer, Decision, Question};
pub use parser::is_identifier;
pub use show::show;
pub use types::{ObjectType, Type};
pub use value::{EvalError, HostObject, Outcome, Text, Value};
