//! Which checkpoints are kept: many of what was stored last, fewer and fewer of what lies further back, and never many.

use super::Mark;

/// How many of the newest are all kept.
const NEWEST: usize = 32;
/// Of what lies further back, one is kept in each block: of so many there are two to the power of this within a distance, from
/// its half on.
const BLOCKS_LOG2: u32 = 2;

/// Drops what is not needed, in place. The marks are in order.
///
/// Blocks begin at multiples of their length, and double with the distance: so what is dropped once would be dropped again, and
/// one that was the first of its block is the first of half of the longer blocks.
pub(super) fn thin(checkpoints: &mut Vec<Mark>) {
    let Some(end) = checkpoints.last().map(|mark| mark.sequence) else { return };
    let first_newest = checkpoints.len().saturating_sub(NEWEST);
    let (mut at, mut kept) = (0, None);
    checkpoints.retain(|mark| {
        let distance = end - mark.sequence;
        let length_log2 = distance.max(1).ilog2().saturating_sub(BLOCKS_LOG2);
        let block = (length_log2, mark.sequence >> length_log2);
        let is_kept = at >= first_newest || kept != Some(block);
        at += 1;
        if is_kept {
            kept = Some(block);
        }
        is_kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn few_are_kept_and_one_is_near_wherever_one_was(steps in prop::collection::vec(1u64..2000, 1..3000)) {
            let (mut kept, mut all, mut sequence) = (Vec::new(), Vec::new(), 0);
            for step in steps {
                sequence += step;
                let mark = Mark::new(sequence, "", Stamp::from_micros(0));
                all.push(mark.clone());
                kept.push(mark);
                thin(&mut kept);
            }
            prop_assert!(kept.len() <= 256, "{}", kept.len());
            prop_assert!(kept.is_sorted_by_key(|mark| mark.sequence));
            prop_assert_eq!(kept.last(), all.last());
            // Wherever the log is cut, what is kept before it is not much further back than what was recorded.
            for mark in &all {
                let nearest = kept.iter().rev().find(|kept| kept.sequence <= mark.sequence).map_or(0, |kept| kept.sequence);
                let distance = sequence - mark.sequence;
                prop_assert!(mark.sequence - nearest <= distance / 2 + 4_000, "{} of {distance}", mark.sequence - nearest);
            }
        }
    }

    #[test]
    fn the_newest_are_all_kept_and_of_those_before_them_few() {
        let all: Vec<Mark> = (1..=1000).map(|sequence| Mark::new(sequence, "", Stamp::from_micros(0))).collect();
        let mut kept = all.clone();
        thin(&mut kept);
        assert!(kept.ends_with(&all[1000 - NEWEST..]));
        assert!(kept.len() < 2 * NEWEST, "{}", kept.len());
    }
}
