//! Selectors: which objects a list, a watch, a Service or a controller means.

pub mod fields;
pub mod labels;
mod labels_syntax;
