//! What ends a lane's deliveries until somebody says that they are to go on; and a target that says itself where it is.

use super::{Lane, Phase, State, Stop, Why};
use crate::stamp::Stamp;
use crate::subscription::Subscription;

impl Lane {
    /// Ends deliveries with the event that is being delivered.
    pub fn stop(&mut self, spec: &Subscription, why: Why, sequence: u64, at: Stamp) {
        self.state = State::Stopped(Stop { why, sequence, at, registered: spec.registered.clone() });
    }

    /// Takes in that the target says to have had everything up to a sequence of the log: deliveries go on with the first
    /// event after it that the types of the entries want. All their attributes but the start count. `fresh` names the epoch
    /// if that lies before the position.
    pub fn resume_after(&mut self, sequence: u64, fresh: &str) {
        if sequence < self.position {
            self.phase = Phase::Replaying;
            self.epoch = self.epoch.renamed(fresh.to_owned());
        }
        self.has_had_nothing_beyond(sequence);
        self.moved_to(sequence);
        for progress in self.entries.values_mut() {
            progress.resumed_after = Some(sequence);
            progress.owed = None;
        }
        self.last_delivered = sequence;
        self.state = State::Active;
    }
}
