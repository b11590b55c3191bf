//! Sets of sequences, as ranges in order that neither overlap nor touch.

/// From a sequence to another one, both included.
pub type Range = (u64, u64);

/// The ranges of so many sequences, in any order.
pub fn ranges_of(sequences: Vec<u64>) -> Vec<Range> {
    merged(sequences.into_iter().map(|sequence| (sequence, sequence)).collect())
}

/// Ranges in order, of some that are in no order and may overlap.
pub fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// Whether all of a range is in others, which are in order.
pub fn is_within(range: Range, others: &[Range]) -> bool {
    without(&[range], others).is_empty()
}

/// How many sequences a range has.
pub(super) fn len((from, to): Range) -> u64 {
    (to + 1).saturating_sub(from)
}

/// How many sequences of the ranges lie in another one.
pub(super) fn count_in(ranges: &[Range], (from, to): Range) -> u64 {
    let begin = ranges.partition_point(|range| range.1 < from);
    let within = ranges[begin..].iter().take_while(|range| range.0 <= to);
    within.map(|range| len((range.0.max(from), range.1.min(to)))).sum()
}

/// What is in `ranges` and in none of `others`. Both are in order.
pub(super) fn without(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    for &(mut from, to) in ranges {
        let begin = others.partition_point(|other| other.1 < from);
        for other in others[begin..].iter().take_while(|other| other.0 <= to) {
            if other.0 > from {
                left.push((from, other.0 - 1));
            }
            from = from.max(other.1 + 1);
        }
        if from <= to {
            left.push((from, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn all(ranges: &[Range]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(from, to)| *from..=*to).collect()
    }

    proptest! {
        #[test]
        fn ranges_are_the_sequences_that_they_were_made_of(
            one in prop::collection::btree_set(1u64..60, 0..40), other in prop::collection::btree_set(1u64..60, 0..40),
        ) {
            let ranges = ranges_of(one.iter().rev().copied().collect());
            let others = ranges_of(other.iter().copied().collect());
            prop_assert_eq!(&all(&ranges), &one);
            prop_assert!(ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0));
            let left = without(&ranges, &others);
            prop_assert_eq!(all(&left), one.difference(&other).copied().collect::<BTreeSet<_>>());
            let both = merged(ranges.iter().rev().chain(&others).copied().collect());
            prop_assert_eq!(both, ranges_of(one.union(&other).copied().collect()));
            prop_assert_eq!(is_within((10, 12), &ranges), (10..=12).all(|sequence| one.contains(&sequence)));
            prop_assert_eq!(count_in(&ranges, (10, 30)), one.range(10..=30).count() as u64);
        }
    }
}
