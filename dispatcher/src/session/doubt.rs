//! Whether something was cut from the log unseen.
//!
//! A source that skips sequences says nothing of why: nobody wants them, or they were removed before they could be given. Only a
//! look-up that begins later tells: where the log still begins at or before the first of them, nothing was cut. Until then the
//! lane is not sure (`Lane::unsure_from`), and nothing is acknowledged. This is the one place where "nothing was there" is
//! concluded from a skip.

use super::{Action, Leave, Now, Reads, Session};

/// Where a look-up of the log's bounds stands.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    is_under_way: bool,
    /// The first sequence that was skipped since it began.
    since: Option<u64>,
    /// Somebody else wants one that begins from now on.
    is_wanted_again: bool,
}

impl Doubt {
    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }
}

impl<D> Session<D> {
    /// Up to here it has been given all that there is.
    pub(super) fn known_to(&self) -> u64 {
        self.read_to().max(if self.window.is_empty() { self.lane.accounted_to() } else { 0 })
    }

    /// Takes in that a message comes next, and what it skips.
    pub(super) fn comes_next(&mut self, sequence: u64) {
        let known_to = self.known_to();
        if self.reads != Reads::Tail && sequence > known_to + 1 {
            let from = known_to + 1;
            if self.doubt.is_under_way {
                if self.doubt.since.is_none() {
                    self.ledger.set_aside();
                }
                self.doubt.since = Some(self.doubt.since.map_or(from, |since| since.min(from)));
            }
            self.lane.came_past(from);
            self.look_up_bounds();
        }
    }

    /// Has the bounds of the log looked up, by a look-up that begins now.
    pub(super) fn look_up_bounds(&mut self) {
        if self.doubt.is_under_way {
            self.doubt.is_wanted_again = true;
        } else {
            self.doubt.is_under_way = true;
            self.actions.push_back(Action::LookUpBounds);
        }
    }

    pub(super) fn is_looked_up(&mut self, first_sequence: u64, last_sequence: u64, now: Now) {
        let since = self.doubt.since.take();
        let is_old = std::mem::take(&mut self.doubt.is_wanted_again);
        self.doubt.is_under_way = false;
        if let Some(unsure_from) = self.lane.unsure_from {
            // Before anything is acknowledged that lies behind.
            self.is_stopped_by_hole(unsure_from.saturating_sub(1), self.read_to());
            if self.lane.is_whole_from(first_sequence) {
                if since.is_some() {
                    // What was delivered before the next skip is sure.
                    self.acknowledge_set_aside();
                }
                self.lane.unsure_from = since;
                self.changed();
                self.acknowledge_now();
            } else {
                // Whether it was wanted is for the next session to find out, with what the log has left.
                self.leave(Leave::SetUp);
            }
        }
        self.end_of_log_is(last_sequence, is_old, now);
        if since.is_some() || self.elsewhere.is_asking() {
            self.look_up_bounds();
        }
    }
}
