//! What a whole history says, whatever the order: events, when something was disturbed, gaps that were told of.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Event, Line, Url, What};

/// How long a change may take to be heard of, in milliseconds, where nothing is disturbed.
pub(crate) const LATE: u64 = 1_500;
/// The same after something was killed or stopped: requests on a connection that is dead wait out their four seconds.
pub(crate) const LATE_AFTER_TROUBLE: u64 = 6_000;
/// What was taken so long before a kill may come again. The promise is 10 ms; the rest is for a busy machine.
pub(crate) const UNDER_WAY: u64 = 500;
/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) line: usize,
    pub(crate) at: u64,
}

/// An event, and when it was posted.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) event: Event,
    /// The line at which posting it began, and that of its acknowledgement; where that is not known, it may be any.
    pub(crate) posting: Option<(usize, usize)>,
}

#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) events: BTreeMap<u64, Known>,
    pub(crate) letters: BTreeMap<Url, BTreeSet<u64>>,
    pub(crate) gaps: BTreeMap<Url, Vec<(u64, u64)>>,
    /// From when to when something was killed, stopped or on its way back.
    pub(crate) disturbances: Vec<(Moment, Moment)>,
    /// The first sequence that is left, and the last one there is.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Posts without a certain answer: their events may be in the log, and gone from it.
    pub(crate) has_unknown: bool,
    /// What stands in the log, when it was last looked at, and at which line that was.
    pub(crate) standing: Option<(usize, BTreeSet<u64>)>,
    /// The first event of each transaction that has the key.
    keys: BTreeMap<String, u64>,
}

impl Facts {
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut facts = Self { first: 1, ..Self::default() };
        let mut begun: Vec<Moment> = Vec::new();
        for (line, Line { at, what }) in lines.iter().enumerate() {
            let moment = Moment { line, at: *at };
            match what {
                What::Posted { began, event } => {
                    let known = Known { event: event.clone(), posting: Some((*began, line)) };
                    facts.end = facts.end.max(event.sequence);
                    facts.events.insert(event.sequence, known);
                }
                What::Log { first, events } => {
                    facts.first = *first;
                    for event in events {
                        facts.end = facts.end.max(event.sequence);
                        let known = || Known { event: event.clone(), posting: None };
                        facts.events.entry(event.sequence).or_insert_with(known);
                    }
                    facts.standing = Some((line, events.iter().map(|event| event.sequence).collect()));
                }
                What::Unknown => facts.has_unknown = true,
                What::Disturbed => begun.push(moment),
                What::Recovered => facts.disturbances.extend(begun.pop().map(|began| (began, moment))),
                What::Gap { url, from, to } => facts.gaps.entry(*url).or_default().push((*from, *to)),
                What::Letters { url, events } => facts.letters.entry(*url).or_default().extend(events),
                _ => {}
            }
        }
        let end = Moment { line: lines.len(), at: lines.last().map_or(0, |line| line.at) };
        facts.disturbances.extend(begun.into_iter().map(|began| (began, end)));
        for known in facts.events.values().filter(|known| known.event.has_key) {
            facts.keys.entry(known.event.transaction.clone()).or_insert(known.event.sequence);
        }
        facts
    }

    /// By when a change that was made then must have been heard of.
    pub(crate) fn heard_by(&self, at: u64) -> u64 {
        let mut by = at + LATE;
        loop {
            let delays =
                self.disturbances.iter().filter(|(began, over)| began.at <= by && over.at + LATE_AFTER_TROUBLE >= at);
            let later = delays.map(|(_, over)| over.at + LATE_AFTER_TROUBLE).max().unwrap_or(0);
            if later <= by {
                return by;
            }
            by = later;
        }
    }

    /// Whether an answer that was given then may not have been heard, as something was disturbed.
    pub(crate) fn may_be_lost(&self, at: u64) -> bool {
        self.disturbances.iter().any(|(began, over)| at + UNDER_WAY >= began.at && at <= over.at + LATE)
    }

    /// Whether something had been disturbed before a moment.
    pub(crate) fn is_disturbed_before(&self, moment: Moment) -> bool {
        self.disturbances.iter().any(|(began, _)| began.line < moment.line)
    }

    /// Whether an event that lacks the key gets it from an earlier one of its transaction. `None`: a limit may have
    /// removed that one.
    pub(crate) fn gets_key(&self, event: &Event) -> Option<bool> {
        let found = event.has_key || self.keys.get(&event.transaction).is_some_and(|first| *first < event.sequence);
        (event.has_key || !found || !self.is_limited()).then_some(found)
    }

    /// Whether a limit has removed events.
    pub(crate) fn is_limited(&self) -> bool {
        self.first > 1
    }

    pub(crate) fn has_letter(&self, url: Url, sequence: u64) -> bool {
        self.letters.get(&url).is_some_and(|letters| letters.contains(&sequence))
    }

    /// Whether a gap was told of that has this event. Whoever resumes goes on with what is left then: behind what was told,
    /// too.
    pub(crate) fn is_in_gap(&self, url: Url, sequence: u64, is_resumed: bool) -> bool {
        let holds =
            |(from, to): &(u64, u64)| *from <= sequence && (sequence <= *to || (is_resumed && sequence < self.first));
        self.gaps.get(&url).is_some_and(|gaps| gaps.iter().any(holds))
    }
}
