//! Sets of completion indexes, as a Job's status writes them: `0,2,5-9`.

use std::{collections::BTreeSet, fmt};

/// Ordered, disjoint intervals with gaps between them, ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads `text` as far as it is below `completions`; what does not parse is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let intervals = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
            (first < completions).then(|| (first, last.min(completions - 1)))
        });
        Self::joined(intervals.collect())
    }

    fn joined(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// These and `more`.
    pub(super) fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        let more = more.into_iter().map(|index| (index, index));
        Self::joined(self.0.iter().copied().chain(more).collect())
    }

    /// These and those of `other`.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self::joined(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many there are.
    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        self.0.iter().map(|a| other.0.iter().map(|b| overlap(a, b)).sum::<i32>()).sum()
    }

    /// The first `count` below `completions` that are not among these.
    pub(super) fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut next = 0;
        let ends = self.0.iter().copied().chain([(completions, completions)]);
        ends.flat_map(|(first, last)| {
            let gap = next..first.min(completions);
            next = last.saturating_add(1);
            gap
        })
        .take(count)
        .collect()
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<T: IntoIterator<Item = i32>>(indexes: T) -> Self {
        let unique: BTreeSet<i32> = indexes.into_iter().collect();
        Self::default().with(unique)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_intervals() {
        let written = |indexes: &[i32]| indexes.iter().copied().collect::<Indexes>().to_string();
        assert_eq!(written(&[]), "");
        assert_eq!(written(&[3, 1, 2, 5, 6, 9]), "1-3,5,6,9");
        assert_eq!(Indexes::parse("1-3,5,6,9", 9).to_string(), "1-3,5,6");
        assert_eq!(Indexes::parse("x,2-8", 5).to_string(), "2-4");
        assert_eq!(Indexes::parse("0,1,2", 5).to_string(), "0-2");
    }

    #[test]
    fn missing_indexes_are_the_lowest_free_ones() {
        let some = Indexes::parse("0,3-4", 10);
        assert_eq!(some.missing(3, 7), [1, 2, 5]);
        assert_eq!(some.missing(9, 7), [1, 2, 5, 6]);
        assert_eq!(Indexes::default().missing(2, 1), [0]);
        assert_eq!(Indexes::parse("0-8", 10).missing(2, 3), [] as [i32; 0], "scaled down");
    }

    #[test]
    fn sets_are_joined_and_compared() {
        let (a, b) = (Indexes::parse("0-4,8", 10), Indexes::parse("3-8", 10));
        assert_eq!(a.union(&b).to_string(), "0-8");
        assert_eq!((a.common(&b), a.total()), (3, 6));
        assert!(a.has(0) && a.has(8) && !a.has(5) && !a.has(9));
    }
}
