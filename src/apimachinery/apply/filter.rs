//! Which fields a resource or subresource can change.

use super::element::PathElement;
use super::set::Set;

/// Fields that do not count as changed, because the server resets them.
#[derive(Clone, Copy, Debug)]
pub enum FieldFilter<'a> {
    /// All fields count.
    All,
    /// These and all below them do not count.
    Exclude(&'a Set),
    /// Only these and all below them count: paths of field names, `*` for any step.
    Include(&'a [&'a [&'a str]]),
}

impl FieldFilter<'_> {
    /// The members of a set that count.
    pub(super) fn filter(&self, set: &mut Set) {
        match self {
            FieldFilter::All => {}
            FieldFilter::Exclude(excluded) => set.subtract_with_children(excluded),
            FieldFilter::Include(patterns) => include(set, patterns),
        }
    }
}

fn include(set: &mut Set, patterns: &[&[&str]]) {
    set.nodes_mut().retain_mut(|node| {
        let matches = |step: &str| match &node.element {
            _ if step == "*" => true,
            PathElement::Field(name) => **name == *step,
            _ => false,
        };
        let rest: Vec<&[&str]> = patterns
            .iter()
            .filter_map(|pattern| pattern.split_first())
            .filter(|(step, _)| matches(step))
            .map(|(_, rest)| rest)
            .collect();
        if rest.is_empty() {
            return false;
        }
        if !rest.iter().any(|rest| rest.is_empty()) {
            include(&mut node.below, &rest);
        }
        node.member || !node.below.is_empty()
    });
}
