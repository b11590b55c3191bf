//! What a lane at work shows of itself.

use domain::Stamp;

use super::trying::Landed;
use super::window::Load;
use super::{Run, Worker};
use crate::push::verdict::{PushOutcome, Verdict};

impl Worker {
    /// Shows what waits.
    pub(super) fn show_waiting(&self, run: &Run) {
        let oldest = run.window.first().and_then(|slot| slot.load.as_ref()).and_then(told);
        self.meter.waits(run.window.waiting(), oldest);
    }

    /// Counts an attempt.
    pub(super) fn count(&self, run: &Run, landed: &Landed, outcome: &PushOutcome, verdict: &Verdict) {
        self.meter.attempted(outcome, verdict, landed.duration);
        if *verdict == Verdict::Delivered {
            let slots = landed.load.iter().filter_map(|sequence| run.window.get(*sequence));
            for (stored_at, is_replay) in slots.filter_map(|slot| slot.load.as_ref()).filter_map(told) {
                self.meter.delivered(stored_at, is_replay, landed.at);
            }
        }
    }
}

/// When an event that is to be delivered was stored, and whether it is a replay.
fn told(load: &Load) -> Option<(Stamp, bool)> {
    Some((load.event.stored_at, load.due.as_ref()?.is_replay))
}
