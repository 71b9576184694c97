//! Which fields a resource or subresource can change.

use super::set::Set;

/// Fields that do not count as changed, because the server resets them.
#[derive(Clone, Copy, Debug)]
pub enum FieldFilter<'a> {
    /// All fields count.
    All,
    /// These and all below them do not count.
    Exclude(&'a Set),
}

impl FieldFilter<'_> {
    /// The members of a set that count.
    pub(super) fn filter(&self, set: &mut Set) {
        match self {
            FieldFilter::All => {}
            FieldFilter::Exclude(excluded) => set.subtract_with_children(excluded),
        }
    }
}
