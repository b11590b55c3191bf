//! What a look at the log changes of what is known of its holes.

use super::ranges::{Range, count_in, is_within, len, without};
use super::{Hole, LogHoles, MAX_HOLES, Reason};
use crate::log_epoch::LogEpoch;
use crate::stamp::Stamp;

/// The log, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its first sequence: one beyond the last where it is empty.
    pub first_sequence: u64,
    /// Its last sequence, 0 where there was never one.
    pub last_sequence: u64,
    /// What is missing between them, by what nats-server counts.
    pub missing: Missing,
    /// What was looked at event by event, in order.
    pub looked_at: Vec<Range>,
    /// What was not found by that, in order; here too where not all was looked at.
    pub not_found: Vec<Range>,
    /// Whether a limit for each type removes events from its middle.
    pub is_limited: bool,
}

/// What is missing in the middle of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// These, in order.
    Ranges(Vec<Range>),
    /// So many, which are too many to be named.
    TooMany(u64),
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// All holes from now on.
    pub holes: LogHoles,
    /// Those that are new, or in which more is missing than was known.
    pub new: Vec<Hole>,
    /// Those that were known, and whose events are there again.
    pub closed: Vec<Hole>,
}

impl LogHoles {
    /// What is known after a look at the log of an epoch; `None`: nobody knows yet which one it is, and it is taken for the one of
    /// the last look. `known`: what was known before; `None`: nobody has looked yet, and what is missing is only reported.
    pub fn after(known: Option<&Self>, observed: &Observed, epoch: Option<&LogEpoch>, now: Stamp) -> Findings {
        let known_epoch = known.and_then(|known| known.epoch.as_ref());
        let epoch = epoch.or(known_epoch);
        let same_log = known_epoch == epoch;
        let mut findings = Findings::default();
        let mut holes = Vec::new();
        for hole in known.map(LogHoles::all).unwrap_or_default() {
            holes.extend(findings.stands(hole, observed, same_log));
        }
        let reason = match known {
            None => Reason::Earlier,
            Some(known) if known.is_limited => Reason::Limit,
            Some(_) => Reason::Lost,
        };
        if !observed.is_limited {
            let new = new_holes(&holes, observed, reason, now);
            findings.new.extend(new.iter().cloned());
            holes.extend(new);
        }
        holes.sort_unstable_by_key(|hole| hole.from_sequence);
        let is_limited = observed.is_limited;
        findings.holes = Self { epoch: epoch.cloned(), holes: taken_together(holes), is_limited };
        findings
    }
}

impl Findings {
    /// A known hole, as far as it is still one.
    fn stands(&mut self, hole: &Hole, observed: &Observed, same_log: bool) -> Option<Hole> {
        let (from, to) =
            (hole.from_sequence.max(observed.first_sequence), hole.to_sequence.min(observed.last_sequence));
        if from > to {
            // The beginning of the log has passed it, or the log ends before it.
            return None;
        }
        let mut stands = Hole { from_sequence: from, to_sequence: to, ..hole.clone() };
        stands.missing = stands.missing.min(len((from, to)));
        if let Missing::Ranges(ranges) = &observed.missing {
            let counted = count_in(ranges, (from, to));
            let not_found = count_in(&without(&observed.not_found, ranges), (from, to));
            // What a reader has not found is not counted by nats-server, and lasts until it is found or the log is another one.
            let lasts = hole.is_read && same_log && !is_within((from, to), &observed.looked_at);
            let read = if lasts { stands.missing } else { 0 };
            stands.missing = (counted + not_found).max(read);
            stands.is_read = stands.missing > counted;
        }
        if stands.missing == 0 {
            self.closed.push(hole.clone());
            return None;
        }
        if stands.missing > hole.missing {
            stands.reason = if observed.is_limited { hole.reason } else { Reason::Lost };
            self.new.push(stands.clone());
        }
        Some(stands)
    }
}

fn new_holes(known: &[Hole], observed: &Observed, reason: Reason, now: Stamp) -> Vec<Hole> {
    let ranges: Vec<Range> = known.iter().map(Hole::range).collect();
    let hole = |(from_sequence, to_sequence): Range, is_read| Hole {
        from_sequence,
        to_sequence,
        missing: len((from_sequence, to_sequence)),
        reason,
        noticed: now,
        is_read,
    };
    let all: Range = (observed.first_sequence, observed.last_sequence);
    let counted = match &observed.missing {
        Missing::Ranges(counted) => counted.clone(),
        Missing::TooMany(missing) => {
            let known_missing: u64 = known.iter().filter(|hole| !hole.is_read).map(|hole| hole.missing).sum();
            // Where they are is not known: anywhere.
            let more = missing.saturating_sub(known_missing);
            let mut anywhere: Vec<Hole> =
                without(&[all], &ranges).into_iter().map(|range| hole(range, false)).collect();
            let room: u64 = anywhere.iter().map(|hole| hole.missing).sum();
            for hole in &mut anywhere {
                hole.missing = (u128::from(hole.missing) * u128::from(more)).div_ceil(u128::from(room.max(1))) as u64;
            }
            return if more == 0 { Vec::new() } else { anywhere };
        }
    };
    let mut new: Vec<Hole> = without(&counted, &ranges).into_iter().map(|range| hole(range, false)).collect();
    let within = observed.not_found.iter().map(|(from, to)| ((*from).max(all.0), (*to).min(all.1)));
    let within: Vec<Range> = within.filter(|(from, to)| from <= to).collect();
    let uncounted = without(&without(&within, &ranges), &counted);
    new.extend(uncounted.into_iter().map(|range| hole(range, true)));
    new
}

/// Takes neighbours together where there are too many: those that are nearest to each other. The holes are in order.
fn taken_together(holes: Vec<Hole>) -> Vec<Hole> {
    let too_many = holes.len().saturating_sub(MAX_HOLES);
    if too_many == 0 {
        return holes;
    }
    let mut gaps: Vec<(u64, usize)> =
        (1..holes.len()).map(|i| (holes[i].from_sequence - holes[i - 1].to_sequence, i)).collect();
    gaps.sort_unstable();
    let mut joins = vec![false; holes.len()];
    gaps.iter().take(too_many).for_each(|(_, i)| joins[*i] = true);
    let mut together: Vec<Hole> = Vec::with_capacity(MAX_HOLES);
    for (hole, is_joined) in holes.into_iter().zip(joins) {
        match together.last_mut().filter(|_| is_joined) {
            Some(last) => {
                last.to_sequence = hole.to_sequence;
                last.missing += hole.missing;
                last.noticed = last.noticed.max(hole.noticed);
                last.is_read |= hole.is_read;
                if hole.is_lost() {
                    last.reason = Reason::Lost;
                }
            }
            None => together.push(hole),
        }
    }
    together
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
