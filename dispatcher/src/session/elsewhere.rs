//! A target that says itself where it is: 409 with `Resume-After`.

use super::refusal::{Failed, Said};
use super::window::Stage;
use super::{Leave, Now, Session, fresh_name};

/// Whether the target has said so.
#[derive(Debug)]
pub(super) enum Elsewhere {
    No,
    /// It has, in answer to a request: whether the log reaches that far is being looked up.
    Said(Said),
    /// It does: what else is under way lands before the lane goes there.
    Going(Said),
}

impl Elsewhere {
    pub(super) fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self, Self::Said(_))
    }
}

impl<D> Session<D> {
    /// The target has said where it is.
    pub(super) fn said_elsewhere(&mut self, said: Said) {
        if self.elsewhere.is_no() {
            self.elsewhere = Elsewhere::Said(said);
            self.look_up_bounds();
        }
    }

    /// The log ends there, or further; `is_old`: by a look-up that began before the target answered.
    pub(super) fn end_of_log_is(&mut self, last_sequence: u64, is_old: bool, now: Now) {
        let said = match std::mem::replace(&mut self.elsewhere, Elsewhere::No) {
            Elsewhere::Said(said) => said,
            other => {
                self.elsewhere = other;
                return;
            }
        };
        let resumes_after = said.resumes_after;
        if resumes_after <= last_sequence {
            self.elsewhere = Elsewhere::Going(said);
        } else if is_old {
            self.elsewhere = Elsewhere::Said(said);
        } else {
            let error =
                format!("answered 409: `Resume-After: {resumes_after}` is beyond the log's end, {last_sequence}");
            let Said { load, attempt, duration, jitter, .. } = said;
            self.failed(Failed { load: &load, attempt, error, duration, after: None, jitter }, now);
        }
    }

    /// Puts the lane where the target says that it is, once nothing is under way.
    pub(super) fn go_elsewhere(&mut self, now: Now) {
        if self.window.under_way() > 0 || !matches!(self.elsewhere, Elsewhere::Going(_)) {
            return;
        }
        let Elsewhere::Going(said) = std::mem::replace(&mut self.elsewhere, Elsewhere::No) else { return };
        let Said { load, resumes_after, jitter, .. } = said;
        // What it was sent, and says to have, it has taken: that counts.
        for sequence in self.window.sent_up_to(resumes_after) {
            self.window.set(sequence, Stage::Taken);
        }
        self.settle(now);
        let position = self.lane.position;
        tracing::warn!(id = %self.id, at = load.first(), resumes_after, position, "lane.target_is_elsewhere");
        let times = self.target.resumes_after(resumes_after, position);
        if times > 0 {
            self.target.waits_until(now.at + self.backoff.wait(times, jitter));
        }
        self.window.clear();
        self.lane.resume_after(resumes_after, &fresh_name());
        self.changed();
        // What was settled before says nothing of the lane as it is now.
        self.ledger.forget_unacknowledged();
        self.write();
        self.leave(Leave::SetUp);
    }
}
