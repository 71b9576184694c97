//! x
crate::tests![];
