//! Validation rules of custom resources (`x-kubernetes-validations`): compiled with their schema's
//! types when a definition is written, evaluated when an object is.

mod budget;
mod compile;
mod evaluate;
mod field_path;
mod shape;

pub(crate) use compile::{Rules, compile, errors};
pub(crate) use evaluate::validate;
pub(crate) use field_path::selectable;
