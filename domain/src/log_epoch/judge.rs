//! Whether a log is the continuation of the one that was recorded: by content, not by its end alone.
//!
//! A log only ever grows at its end and is cut at its beginning. So where the message at a checkpoint is the recorded one, all
//! before it is the same; where it is another one, or the log ends before it, all from some place before it on is another log.

use std::collections::BTreeMap;

use super::Mark;

/// What is known of the log as it is.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Its first sequence: one beyond the last where it is empty.
    pub first_sequence: u64,
    /// Its last sequence, 0 where there was never one.
    pub last_sequence: u64,
    /// What stands at places that were looked at; `None`: nothing does.
    pub found: BTreeMap<u64, Option<Mark>>,
}

/// What is to be done, or known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Look at what stands at this place.
    LookAt(u64),
    /// Nothing more is needed.
    Is(Verdict),
}

/// Whether a log is the continuation of what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Continues,
    /// It is another one. Both share what lies up to here, at least.
    Forked {
        /// The last sequence that both surely share, 0 for none.
        shared_to: u64,
    },
    /// Nothing that was recorded proves anything: it was removed, or nothing is recorded.
    Unknown,
}

/// How one checkpoint stands to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Same,
    Other,
    /// It lies before the log's beginning, or in a hole: that proves nothing.
    Silent,
    NotLookedAt,
}

impl Evidence {
    /// Whether a place lies within the log.
    pub fn holds(&self, sequence: u64) -> bool {
        (self.first_sequence..=self.last_sequence).contains(&sequence)
    }

    fn standing(&self, recorded: &Mark) -> Standing {
        let sequence = recorded.sequence;
        if sequence < self.first_sequence {
            return Standing::Silent;
        }
        if sequence > self.last_sequence {
            return Standing::Other;
        }
        match self.found.get(&sequence) {
            None => Standing::NotLookedAt,
            Some(None) => Standing::Silent,
            Some(Some(found)) if found == recorded => Standing::Same,
            Some(Some(_)) => Standing::Other,
        }
    }
}

/// Judges a log by what was recorded of it, newest last. The newest checkpoint that proves anything decides; then the last one
/// that is still there is searched for. Asks for at most one look more than the logarithm of their number, but for holes.
pub fn judge(checkpoints: &[Mark], evidence: &Evidence) -> Judgement {
    let mut newest = None;
    for (i, recorded) in checkpoints.iter().enumerate().rev() {
        match evidence.standing(recorded) {
            Standing::Silent => {}
            Standing::Same => return Judgement::Is(Verdict::Continues),
            Standing::NotLookedAt => return Judgement::LookAt(recorded.sequence),
            Standing::Other => {
                newest = Some(i);
                break;
            }
        }
    }
    let Some(newest) = newest else { return Judgement::Is(Verdict::Unknown) };
    // All before `from` are taken for shared, of all from `to` on one is not.
    let (mut shared_to, mut from, mut to) = (0, 0, newest);
    while from < to {
        let middle = from + (to - from) / 2;
        match evidence.standing(&checkpoints[middle]) {
            Standing::Same => (shared_to, from) = (checkpoints[middle].sequence, middle + 1),
            Standing::NotLookedAt => return Judgement::LookAt(checkpoints[middle].sequence),
            // What was removed at the beginning: what lies behind it is for the others to say.
            Standing::Silent if checkpoints[middle].sequence < evidence.first_sequence => from = middle + 1,
            // A hole: the safe side.
            Standing::Silent | Standing::Other => to = middle,
        }
    }
    Judgement::Is(Verdict::Forked { shared_to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;
    use proptest::prelude::*;

    fn mark(sequence: u64, log: &str) -> Mark {
        Mark::new(sequence, log, Stamp::from_micros(0))
    }

    /// Judges until there is a verdict. `log` says which log a place belongs to. Answers how often it looked, too.
    fn verdict(
        checkpoints: &[Mark],
        first: u64,
        last: u64,
        log: impl Fn(u64) -> Option<&'static str>,
    ) -> (Verdict, usize) {
        let mut evidence = Evidence { first_sequence: first, last_sequence: last, found: BTreeMap::new() };
        loop {
            match judge(checkpoints, &evidence) {
                Judgement::Is(verdict) => return (verdict, evidence.found.len()),
                Judgement::LookAt(sequence) => {
                    let found = log(sequence).map(|log| mark(sequence, log));
                    assert!(evidence.found.insert(sequence, found).is_none(), "{sequence} is looked at once");
                }
            }
        }
    }

    #[test]
    fn the_newest_checkpoint_that_proves_anything_decides() {
        let recorded: Vec<Mark> = [5, 10, 20].map(|sequence| mark(sequence, "a")).into();
        let forked_at = |fork: u64| move |sequence: u64| Some(if sequence <= fork { "a" } else { "b" });
        let forked = |shared_to| Verdict::Forked { shared_to };
        for (what, first, last, fork, expected) in [
            ("it goes on", 1, 25, 25, Verdict::Continues),
            ("it stands still", 1, 20, 20, Verdict::Continues),
            ("its end was lost", 1, 19, 19, forked(10)),
            ("its end was lost, and it has grown again", 1, 25, 19, forked(10)),
            ("an older copy has grown beyond", 1, 99, 7, forked(5)),
            ("it was made anew", 1, 0, 0, forked(0)),
            ("it was made anew, and has grown beyond", 1, 99, 0, forked(0)),
            ("its beginning was removed", 15, 25, 25, Verdict::Continues),
            ("all that was recorded was removed", 21, 25, 25, Verdict::Unknown),
            ("it was emptied", 26, 25, 25, Verdict::Unknown),
            ("its beginning was removed, and its end lost", 7, 25, 12, forked(10)),
            ("what is left of the shared part was removed", 12, 25, 12, forked(0)),
        ] {
            assert_eq!(verdict(&recorded, first, last, forked_at(fork)).0, expected, "{what}");
        }
        assert_eq!(verdict(&[], 1, 25, forked_at(25)).0, Verdict::Unknown);
    }

    #[test]
    fn a_hole_proves_nothing() {
        let recorded: Vec<Mark> = [5, 10, 20].map(|sequence| mark(sequence, "a")).into();
        let log = |sequence: u64| (sequence != 20).then_some("a");
        assert_eq!(verdict(&recorded, 1, 25, log).0, Verdict::Continues, "the one before it is there");
        let log = |sequence: u64| (sequence != 10).then_some(if sequence == 20 { "b" } else { "a" });
        assert_eq!(verdict(&recorded, 1, 25, log).0, Verdict::Forked { shared_to: 5 });
    }

    proptest! {
        /// A log that shares a prefix with the recorded one, was cut at its beginning or not, and has grown or not.
        #[test]
        fn a_fork_is_seen_wherever_it_is_and_never_where_there_is_none(
            steps in prop::collection::vec(1u64..50, 0..60), fork in 0u64..1500, grown in 0u64..1500, first in 1u64..1500,
        ) {
            let mut sequence = 0;
            let recorded: Vec<Mark> = steps.iter().map(|step| { sequence += step; mark(sequence, "a") }).collect();
            let (last, end) = (fork + grown, sequence);
            let first = first.min(last + 1);
            let (verdict, looks) = verdict(&recorded, first, last, |s| Some(if s <= fork { "a" } else { "b" }));
            let proves = recorded.iter().rfind(|mark| mark.sequence >= first);
            match verdict {
                Verdict::Continues => prop_assert!(proves.is_some_and(|newest| newest.sequence <= fork)),
                Verdict::Unknown => prop_assert!(proves.is_none()),
                Verdict::Forked { shared_to } => {
                    prop_assert!(end > fork && shared_to <= fork);
                    let nearest = recorded.iter().rfind(|mark| (first..=fork).contains(&mark.sequence));
                    prop_assert_eq!(shared_to, nearest.map_or(0, |mark| mark.sequence), "as near as what is recorded");
                }
            }
            prop_assert!(looks <= 8, "{looks} looks");
        }
    }

    #[test]
    fn a_place_is_within_the_log_from_its_first_event_to_its_last() {
        let event = |sequence| Mark::new(sequence, "a", Stamp::from_micros(0));
        let mut evidence = Evidence { first_sequence: 5, last_sequence: 9, ..Evidence::default() };
        evidence.found.extend([(5, Some(event(5))), (9, Some(Mark::new(9, "b", Stamp::from_micros(0))))]);
        for (sequence, is_within, standing) in [
            (4, false, Standing::Silent),
            (5, true, Standing::Same),
            (7, true, Standing::NotLookedAt),
            (9, true, Standing::Other),
            (10, false, Standing::Other),
        ] {
            assert_eq!(evidence.holds(sequence), is_within, "{sequence}");
            assert_eq!(evidence.standing(&event(sequence)), standing, "{sequence}");
        }
    }

    #[test]
    fn what_was_removed_at_the_beginning_is_no_hole() {
        let checkpoints = [2, 4, 5, 6, 8].map(|sequence| mark(sequence, "a"));
        let log = |hole: u64| move |sequence: u64| (sequence != hole).then_some(if sequence < 8 { "a" } else { "b" });
        for (first, hole, shared_to) in [(6, 0, 6), (5, 0, 6), (5, 5, 0)] {
            assert_eq!(verdict(&checkpoints, first, 9, log(hole)).0, Verdict::Forked { shared_to }, "{first}, {hole}");
        }
    }
}
