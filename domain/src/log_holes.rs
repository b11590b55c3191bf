//! Holes in the log: sequences in its middle that hold no event. mer removes nothing there, so a hole is a loss of the store,
//! unless it was there before mer first looked, or a limit for each type made it.
//!
//! - [`Hole`], [`LogHoles`]: what is known of them. It is the value of a key in the bucket `LOG`.
//! - `findings`: what a look at the log changes of that. `ranges`: sets of sequences.

use serde::{Deserialize, Serialize};

use crate::log_epoch::LogEpoch;
use crate::stamp::Stamp;

mod findings;
mod ranges;

pub use findings::{Findings, Missing, Observed};
pub use ranges::{Range, is_within, merged, ranges_of};

/// How many holes are remembered. Where there are more, neighbours become one.
pub const MAX_HOLES: usize = 100;

/// Sequences of the log that hold no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// The first one.
    pub from_sequence: u64,
    /// The last one.
    pub to_sequence: u64,
    /// How many of them hold none: fewer than there are where several holes were taken together.
    pub missing: u64,
    /// Why.
    pub reason: Reason,
    /// When it was noticed.
    pub noticed: Stamp,
    /// A reader found it, or a part of it, and nats-server counts that among what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_read: bool,
}

/// Why sequences hold no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The store has lost them.
    Lost,
    /// They were missing when mer first looked: nobody can tell why.
    Earlier,
    /// A limit for each type has removed them.
    Limit,
}

/// All holes that are known, in the log's order. No two of them overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHoles {
    /// The log that they are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<LogEpoch>,
    /// The holes.
    holes: Vec<Hole>,
    /// Whether a limit for each type makes holes all the time: those are not recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_limited: bool,
}

impl Hole {
    /// Whether it is a loss, by which lanes are stopped.
    pub fn is_lost(&self) -> bool {
        self.reason == Reason::Lost
    }

    fn range(&self) -> Range {
        (self.from_sequence, self.to_sequence)
    }
}

impl LogHoles {
    /// All of them, in order.
    pub fn all(&self) -> &[Hole] {
        &self.holes
    }

    /// Those that are losses.
    pub fn lost(&self) -> impl Iterator<Item = &Hole> {
        self.holes.iter().filter(|hole| hole.is_lost())
    }

    /// Whether a limit for each type makes holes all the time.
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// Where readers have found that events are missing which nats-server counts among those that it has.
    pub fn read(&self) -> impl Iterator<Item = Range> {
        self.holes.iter().filter(|hole| hole.is_read).map(Hole::range)
    }

    /// How many events are missing: lost ones, and those that are only reported.
    pub fn missing(&self) -> (u64, u64) {
        let sum = |is_lost| self.holes.iter().filter(|hole| hole.is_lost() == is_lost).map(|hole| hole.missing).sum();
        (sum(true), sum(false))
    }

    /// Whether every one of these sequences holds an event, as far as can be told.
    pub fn leave_whole(&self, (from, to): Range) -> bool {
        !self.is_limited && !self.holes.iter().any(|hole| hole.to_sequence >= from && hole.from_sequence <= to)
    }

    /// The first loss that lies, wholly or in part, behind `after` and not beyond `to`.
    pub fn lost_within(&self, after: u64, to: u64) -> Option<&Hole> {
        self.lost().find(|hole| hole.to_sequence > after && hole.from_sequence <= to)
    }

    /// The first hole of any kind that lies, wholly or in part, behind a sequence.
    pub fn first_behind(&self, after: u64) -> Option<&Hole> {
        self.holes.iter().find(|hole| hole.to_sequence > after)
    }

    /// Whether it is known that none of these sequences holds an event.
    pub fn cover(&self, range: Range) -> bool {
        let full = self.holes.iter().filter(|hole| hole.missing == ranges::len(hole.range())).map(Hole::range);
        is_within(range, &full.collect::<Vec<_>>())
    }
}
