//! What ends a lane's deliveries until somebody says that they are to go on; and a target that says itself where it is.

use serde::{Deserialize, Serialize};

use super::{Lane, Phase, State};
use crate::stamp::Stamp;
use crate::subscription::Subscription;

/// Why nothing is delivered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The target has said that it is gone (410).
    Gone,
    /// An event was tried as often as was asked for, and the subscription is to be switched off then.
    Exhausted,
}

/// The end of deliveries, until the subscription is resumed or registered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub why: Why,
    /// The event that was being delivered.
    pub sequence: u64,
    /// When.
    pub at: Stamp,
    /// The act of registering that was known then: another one ends the stop.
    #[serde(default)]
    pub registered: Option<String>,
}

impl Lane {
    /// Ends deliveries with the event that is being delivered.
    pub fn stop(&mut self, asked: &Subscription, why: Why, sequence: u64, at: Stamp) {
        self.stopped = Some(Stop { why, sequence, at, registered: asked.registered.clone() });
        self.state = state_of(why);
    }

    /// Takes in that the target says to have had everything up to a sequence, which may lie before the position: then
    /// it gets again what lies in between. `fresh_epoch` becomes the lane's epoch in that case.
    pub fn resume_after(&mut self, asked: &Subscription, sequence: u64, fresh_epoch: &str) {
        if sequence < self.position {
            self.position = sequence;
            self.clear_to = 0;
            self.phase = Phase::Replaying;
            fresh_epoch.clone_into(&mut self.epoch);
            for (pattern, progress) in &mut self.entries {
                let Some(entry) = asked.entries.get(pattern) else { continue };
                let began = entry.continues.as_ref().map_or(entry.from_sequence, |earlier| earlier.from_sequence);
                progress.from_sequence = progress.from_sequence.min(began.max(sequence + 1));
            }
        } else {
            self.moved_to(sequence);
        }
        self.had.clear();
        self.last_delivered = sequence;
        self.failure = None;
        self.state = State::Active;
    }
}

/// The state that a stop is.
pub(super) fn state_of(why: Why) -> State {
    match why {
        Why::Gone => State::Gone,
        Why::Exhausted => State::Paused,
    }
}
