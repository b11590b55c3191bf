//! Whether the log has lost something that the lane comes to.
//!
//! A lane passes no loss in silence: where it is given the first event behind one, where it hears that nothing is to come up to a
//! place behind one, and where a look-up of the log shows that it has been given something from behind one. It waits, or goes
//! on, by `delivery.on_hole`; and what was read before is settled first.

use std::sync::Arc;

use domain::log_holes::{Hole, LogHoles};

use super::{Leave, Session};

/// The hole that the lane has come to, and up to where it is known that nothing else is to be delivered.
pub(super) struct AtHole {
    hole: Hole,
    to: u64,
}

impl<D> Session<D> {
    pub(crate) fn holes(&self) -> &Arc<LogHoles> {
        &self.holes
    }

    /// These are the holes that are known now.
    pub(super) fn are_holes(&mut self, holes: Arc<LogHoles>) {
        self.holes = holes;
        if self.lane.sees(&self.holes) {
            self.changed();
        }
    }

    /// Whether the lane is not to go from behind `after` to `to`, as there is a loss in between.
    pub(super) fn is_stopped_by_hole(&mut self, after: u64, to: u64) -> bool {
        if self.at_hole.is_some() {
            return true;
        }
        let Some(hole) = self.lane.comes_to(&self.spec, &self.holes, after, to) else { return false };
        let (hole, is_stopped) = (hole.clone(), self.lane.is_stopped_by_hole(&self.spec, hole));
        let Hole { from_sequence, to_sequence, missing, .. } = hole;
        self.lane.meets(&hole);
        if std::mem::replace(&mut self.told_of_hole, to_sequence) != to_sequence {
            tracing::error!(id = %self.id, from_sequence, to_sequence, missing, waits = is_stopped, "lane.hole");
            self.changed();
            // What is acknowledged behind the hole is not before the lane says so.
            self.ledger.gate_acknowledgements();
            self.checkpoint();
        }
        if is_stopped {
            self.window.close();
            self.at_hole = Some(AtHole { hole, to });
        }
        is_stopped
    }

    /// Where the lane has gone past the hole that it is to wait at, before a look-up could show it, its state says so before that is
    /// written, or anything behind the hole is acknowledged. What was read is settled all the same.
    pub(super) fn say_that_it_has_passed(&mut self) {
        let accounted_to = self.lane.accounted_to();
        let Some(AtHole { hole, to }) = &self.at_hole else { return };
        if hole.from_sequence <= accounted_to && self.lane.state.is_at_work() {
            // No further than where the lane is: it may not have had what lies behind.
            let (hole, to) = (hole.clone(), accounted_to.min(*to));
            self.lane.waits_at(&hole, to);
            self.changed();
            self.ledger.gate_acknowledgements();
            self.write();
        }
    }

    /// Waits at the hole, once all is settled that was decided about.
    pub(super) fn wait_at_hole(&mut self) {
        if !self.window.is_empty() || self.leaving.is_some() {
            return;
        }
        if let Some(AtHole { hole, to }) = self.at_hole.take() {
            self.lane.waits_at(&hole, to);
            self.changed();
            self.leave(Leave::SetUp);
        }
    }
}
