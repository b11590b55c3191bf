//! A log that loses events in its middle. Nobody says so at once; a look-up of the log's bounds accounts for all that is missing.

use std::sync::Arc;

use domain::log_holes::{LogHoles, Missing, Observed, ranges_of};

use super::super::Input;
use super::world::World;

impl World {
    /// An event is lost, or a few.
    pub(super) fn lose(&mut self) {
        if self.first > self.end() {
            return;
        }
        let from = self.first + self.dice.below(self.end() + 1 - self.first);
        let to = (from + self.dice.below(3)).min(self.end());
        self.trace(|| format!("the log loses {from} to {to}"));
        self.lost.extend(from..=to);
        if self.dice.one_in(4) {
            self.notice_holes();
        }
    }

    /// Whether there is an event at a place.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        (self.first..=self.end()).contains(&sequence) && !self.lost.contains(&sequence)
    }

    /// The log watch has looked, and tells everybody.
    pub(super) fn notice_holes(&mut self) {
        self.account_for_holes();
        let is_known = self.session.as_ref().is_none_or(|session| Arc::ptr_eq(session.holes(), &self.holes));
        if !is_known {
            let holes = self.holes.clone();
            self.tell(Input::Holes(holes));
        }
    }

    /// All that is missing now is known.
    pub(super) fn account_for_holes(&mut self) {
        let missing = self.lost.range(self.first..=self.end().max(self.first)).copied().collect();
        let seen = Observed {
            first_sequence: self.first,
            last_sequence: self.end(),
            missing: Missing::Ranges(ranges_of(missing)),
            looked_at: Vec::new(),
            not_found: Vec::new(),
            is_limited: false,
        };
        let found = LogHoles::after(Some(&self.holes), &seen, None, self.now.utc);
        if found.holes != *self.holes {
            self.holes = Arc::new(found.holes);
        }
    }
}
