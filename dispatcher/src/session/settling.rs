//! Taking into the lane what is settled at the front of the window, in the log's order.

use domain::lane::Phase;

use super::ledger::CHECKPOINT_INTERVAL;
use super::timers::Timer;
use super::window::{Load, Slot, Stage};
use super::{Leave, Now, Reads, SHOW_INTERVAL, Session};

/// What came of settling.
#[derive(Default)]
struct Settled<D> {
    count: u32,
    /// What is to be acknowledged: the last one that was delivered, or became a dead letter.
    token: Option<D>,
    must_write: bool,
    reached_end: bool,
    /// Whether the server had nothing behind the last one.
    is_last: bool,
}

impl<D> Session<D> {
    /// Takes into the lane what is settled at the front of the window, and has it acknowledged.
    pub(super) fn settle(&mut self, now: Now) {
        if !self.window.first().is_some_and(|slot| slot.stage.is_settled()) {
            return;
        }
        let (was_held, active) = (self.lane.failure().is_some(), self.lane.active_entries());
        let mut settled = Settled { count: 0, token: None, must_write: false, reached_end: false, is_last: false };
        while let Some(slot) = self.window.pop_settled() {
            self.settle_one(slot, &mut settled);
            if let Some(next) = self.window.first() {
                self.lane.comes(next.sequence);
            }
        }
        self.changed();
        self.settled += u64::from(settled.count);
        if self.lane.failure().is_none()
            && let Some(failure) = self.window.first_failure()
        {
            self.lane.failed(failure.clone());
        }
        let was_acknowledged = settled.token.is_some();
        if let Some(token) = settled.token.take() {
            self.ledger.delivered(token, settled.count, now.at);
        }
        if settled.must_write {
            self.ledger.gate_acknowledgements();
            self.ledger.gate_requests();
            self.write();
        } else if was_held && self.lane.failure().is_none() {
            self.write();
        }
        if was_acknowledged {
            self.acknowledge_if_due(settled.is_last, now);
        }
        if self.ledger.has_passed_enough() {
            self.checkpoint();
        }
        self.after_settling(settled.is_last, now);
        if settled.reached_end || self.lane.active_entries() < active {
            self.leave(Leave::SetUp);
        }
    }

    fn settle_one(&mut self, slot: Slot<D>, settled: &mut Settled<D>) {
        settled.count += 1;
        settled.is_last = slot.backlog == 0;
        settled.reached_end |= slot.reached_end;
        let Some(Load { event, found, .. }) = &slot.load else {
            self.lane.passed_over(slot.sequence);
            self.ledger.passed(slot.token);
            return;
        };
        self.lane.complete_over(&self.spec, event.sequence, event.stored_at);
        match slot.stage {
            Stage::Passed => {
                settled.must_write |= self.lane.skipped(&self.spec, event);
                self.ledger.passed(slot.token);
                return;
            }
            Stage::Buried => {
                self.lane.dead_lettered(&self.spec, event, found);
                settled.must_write = true;
            }
            _ => settled.must_write |= self.lane.delivered(&self.spec, event, found),
        }
        if event.sequence >= self.lane.live_from(&self.spec) {
            self.lane.phase = Phase::Live;
        }
        settled.token = Some(slot.token);
        self.ledger.nothing_passed();
    }

    fn after_settling(&mut self, is_last: bool, now: Now) {
        if is_last && self.window.is_empty() {
            if self.lane.read_to_the_end(&self.spec) {
                self.timers.set(Timer::Checkpoint, now.at);
            }
            if self.reads != Reads::Tail {
                self.timers.set(Timer::Look, now.at);
            }
        }
        self.show_by(now.at + SHOW_INTERVAL);
        self.waiting_since = now.at;
        self.timers.set_if_idle(Timer::Checkpoint, now.at + CHECKPOINT_INTERVAL);
    }
}
