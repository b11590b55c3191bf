//! Leaving in good order: what is under way lands, what it came to is taken in, written and acknowledged, and then it is over.

use super::{Action, Leave, Now, Session};

impl<D> Session<D> {
    /// Nothing new is begun from now on.
    pub(super) fn leave(&mut self, leave: Leave) {
        self.leaving = Some(match self.leaving {
            Some(Leave::End) => Leave::End,
            _ => leave,
        });
    }

    /// Ends the session, once nothing is under way that belongs to it.
    pub(super) fn wind_up(&mut self, now: Now) {
        let Some(leaving) = self.leaving else { return };
        // A target that said where it is is heard to the end, and what was skipped is looked at, unless something was cut off.
        let is_in_doubt = self.doubt.is_under_way() && self.lane.unsure_from.is_some();
        if self.has_ended || self.window.under_way() > 0 || !self.elsewhere.is_no() || is_in_doubt {
            return;
        }
        self.settle(now);
        self.acknowledge_now();
        if leaving == Leave::End && !self.ledger.is_written() {
            self.write();
        }
        if self.ledger.is_writing() {
            return;
        }
        self.acknowledge_now();
        self.has_ended = true;
        self.actions.push_back(Action::End(leaving));
    }
}
