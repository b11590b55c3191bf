//! The status of one URL's deliveries: how far its lane has come. The value of a key in the bucket `LANES`. Only the dispatcher
//! writes it.
//!
//! A lane is one position in the log: all that its entries wanted up to there has been acknowledged by the target.
//! Everything that can happen to it is a function here; the dispatcher carries it out.
//!
//! - `state`: what it does, with what belongs to it; [`epoch`]: a name for the consumer that a position belongs to.
//! - `reconcile`: what a change of the spec does to it.
//! - `wants`: which events it owes to whom, and "has had it": the one notion of that.
//! - `moves`: how it comes forward, and how it goes back.
//! - [`gap`]: what retention does to it; `holes`: what it does where the log has lost events; [`fork`]: what it does where the
//!   log has become another one; `stop`: what ends it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::log_epoch::{LogEpoch, Mark};
use crate::log_holes::Hole;
use crate::stamp::Stamp;
use crate::subscription::{Continued, Subscription, Test};
use crate::type_pattern::TypePattern;

pub mod epoch;
pub mod fork;
pub mod gap;
mod holes;
mod moves;
mod reconcile;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod wants;

pub use epoch::Epoch;
pub use state::{Fork, Gap, State, Stop, Why, Word};

/// The status of one URL's deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// The URL without user information and query, as it may be shown.
    pub url: String,
    /// What it does: delivers, waits, or is done.
    #[serde(flatten)]
    pub state: State,
    /// Whether what it delivers is past or present.
    pub phase: Phase,
    /// All that was wanted up to this sequence has been delivered. Written now and then: the consumer's
    /// acknowledgement floor may be further, and counts if it has the same [`Lane::epoch`].
    pub position: u64,
    /// The sequence delivered last, 0 for none.
    pub last_delivered: u64,
    /// Which consumer this position belongs to. It changes whenever the filters do or the position moves back, and then the
    /// consumer is made again: a consumer's own state may roll back when a server is killed, and within one epoch it can only
    /// ever roll back to less than was delivered.
    pub epoch: Epoch,
    /// What the consumer lets through: at least what the entries want, without overlaps.
    pub filters: Vec<TypePattern>,
    /// What lies beyond the position and has been delivered, where several deliveries are under way at a time.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub had: BTreeSet<u64>,
    /// How far each entry has come.
    pub entries: BTreeMap<TypePattern, Progress>,
    /// The last attempt to deliver anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// How far the redelivery that was requested last has come.
    #[serde(default, rename = "replay", skip_serializing_if = "Option::is_none")]
    pub redelivery: Option<RedeliveryProgress>,
    /// There is nothing that the entries want between the position and this sequence. Written now and then.
    #[serde(default)]
    pub clear_to: u64,
    /// From here on something may have been cut from the log unseen, while the lane went past it: until a look-up of the log's
    /// bounds that began later shows that nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_from: Option<u64>,
    /// Which log this lane's sequences are of. `None`: it was written by a build that did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_epoch: Option<LogEpoch>,
    /// What identifies the newest event of that log that the lane has had: also where the lane has gone back since, or the target
    /// took it before others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// The hole in the log that the lane has come to last, or will come to next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hole: Option<Box<Hole>>,
    /// The act of resuming that was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumption: Option<String>,
    /// The act of registering that was heard last: another one has an event that is held tried at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<String>,
    /// What came of the test that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestOutcome>,
    /// When this was written.
    pub updated: Stamp,
}

/// Where in the log a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Among events from before a registration.
    Replaying,
    /// Caught up.
    Live,
}

/// How far one entry of a subscription has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The act of registering that this belongs to.
    pub registration: String,
    /// The line of registrations that it is in: see [`crate::Entry::line`].
    pub line: String,
    /// The first sequence that it still may want.
    pub from_sequence: u64,
    /// How many events it has had.
    pub delivered: u64,
    /// How many it did not get because data that it requires was nowhere in their transactions.
    #[serde(default)]
    pub skipped: u64,
    /// How many it did not get because they were tried as often as was asked for: they are dead letters.
    #[serde(default)]
    pub dead_lettered: u64,
    /// Whether it has had all that it asked for.
    pub completed: bool,
    /// The first sequence for which the words that the lane goes by stand alone: where they changed last. 0: they never did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub words_from: u64,
    /// How often the words had changed until those that the lane goes by.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub words_changed: u64,
    /// Up to here, from where its words changed, the lane has gone by the words before: what those asked for it has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_earlier_words_to: Option<u64>,
    /// Those words; `None` for the ones before the last change, where an earlier build wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_by: Option<Box<Continued>>,
    /// Up to here the lane had gone when the entry was new to it: what came after the registration, and other entries wanted
    /// too, the target has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_to: Option<u64>,
    /// Up to here the entry wants the past once more, though [`Lane::had`] may name some of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anew_to: Option<u64>,
    /// What the earlier words still promise, where they had a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Owed>,
    /// The first sequence of the present log that came after the registration, where that was made in the log of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_from: Option<u64>,
    /// The target has said itself that it is here: the start of the entry does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_after: Option<u64>,
}

/// What the words before the last change still promise, where they had a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The first sequence for which the present words stand alone: which change this is about.
    pub until: u64,
    /// How many events.
    pub events: u64,
}

/// How far a redelivery has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeliveryProgress {
    /// Which one.
    pub id: String,
    /// The next sequence of it; beyond its last one when it is finished.
    pub next: u64,
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The event; the first one, where several went in one request.
    pub sequence: u64,
    /// The last one, where several went in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_sequence: Option<u64>,
    /// When it was tried.
    pub at: Stamp,
    /// Which attempt at this event it was, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The status that the target answered with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the target said then: the beginning of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What came of a test of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestOutcome {
    /// Which test.
    pub id: String,
    /// What came of it; its sequence is 0, for it is no event. `None`: it was asked for too long ago to be made.
    pub attempt: Option<Attempt>,
}

/// A delivery that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The event that waits.
    pub sequence: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub error: String,
    /// When it is tried again; `None`: when the subscription is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Stamp>,
    /// A name for the dead letter that it becomes, once that is decided: from then on the letter is written, however often
    /// that must be tried, and the target is not tried any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
}

/// An event that a lane has to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Whether it is from before the registrations of all entries that want it.
    pub is_replay: bool,
    /// The id of the request because of which it is delivered, where that is a redelivery.
    pub redelivery: Option<String>,
    /// How urgent it is, by the most urgent entry that wants it: lower goes first.
    pub priority: f64,
    /// What the first entry that wants it and has any wants to be given back.
    pub listener_data: Option<Value>,
    /// The payload, with what an entry requires filled in.
    pub data: Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Due {
    /// Whether it comes because somebody asked for the past, and not because it was posted.
    pub fn is_of_the_past(&self) -> bool {
        self.is_replay || self.redelivery.is_some()
    }
}

impl Lane {
    /// The test that was asked for and has not been made.
    pub fn test_due<'a>(&self, spec: &'a Subscription) -> Option<&'a Test> {
        spec.test.as_ref().filter(|test| self.test.as_ref().is_none_or(|done| done.id != test.id))
    }

    /// How many entries have not had all that they asked for.
    pub fn active_entries(&self) -> usize {
        self.entries.values().filter(|progress| !progress.completed).count()
    }

    /// The delivery that does not succeed, while one does not.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Held(failure) => Some(failure),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn failure_mut(&mut self) -> Option<&mut Failure> {
        match &mut self.state {
            State::Held(failure) => Some(failure),
            _ => None,
        }
    }
}
