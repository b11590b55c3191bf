//! What is written of a lane and acknowledged of its source, and in which order.
//!
//! An acknowledgement comes out only behind the confirmed write that it depends on: of what was passed over, of what a count or
//! a dead letter depends on, and of whatever comes behind. While something may have been cut from the log unseen, none comes out.

use std::time::{Duration, Instant};

use domain::lane::Lane;

use super::timers::Timer;
use super::{Action, Now, Session};

/// How many events may be settled before they are acknowledged, while there are more to come: after a crash they may come
/// again. An acknowledgement of each costs nats-server as much as sending the event.
const MAX_UNACKNOWLEDGED: u32 = 32;
/// For how long, where events take longer.
const LONGEST_UNACKNOWLEDGED: Duration = Duration::from_millis(10);
/// How many events may be passed over before the position is written and they are acknowledged: half of what may be out at
/// once (1,024), so that the server never waits for it.
const MAX_PASSED_OVER: u32 = 512;
/// How long a position may have moved before it is written.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Versions of the lane: each change is a new one.
pub(super) struct Ledger<D> {
    /// The lane as it is.
    version: u64,
    /// The last version that is known to be written, and up to where that accounts for the log.
    written: u64,
    accounted_to: u64,
    /// The version that is being written, and up to where it accounts for the log.
    writing: Option<(u64, u64)>,
    /// The version that has to be written.
    wanted: u64,
    /// Delivered and not acknowledged yet: the newest of them, how many, and since when.
    delivered: Option<D>,
    delivered_count: u32,
    delivered_since: Instant,
    /// What was to be acknowledged when the source skipped something while a look-up of the log's bounds was under way.
    set_aside: Option<D>,
    /// Acknowledgements wait until this version is written; requests until that one.
    acknowledgement_gate: u64,
    request_gate: u64,
    /// Passed over and not acknowledged yet: the newest of them, and how many.
    passed: Option<D>,
    passed_count: u32,
}

impl<D> Ledger<D> {
    /// Of a lane as it is written.
    pub(super) fn of(lane: &Lane, now: Instant) -> Self {
        Self {
            version: 0,
            written: 0,
            accounted_to: lane.accounted_to(),
            writing: None,
            wanted: 0,
            delivered: None,
            delivered_count: 0,
            delivered_since: now,
            set_aside: None,
            acknowledgement_gate: 0,
            request_gate: 0,
            passed: None,
            passed_count: 0,
        }
    }

    /// Up to where what is written accounts for the log.
    pub(super) fn accounted_to(&self) -> u64 {
        self.accounted_to
    }

    /// Whether requests may begin.
    pub(super) fn lets_send(&self) -> bool {
        self.written >= self.request_gate
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether all of the lane is written.
    pub(super) fn is_written(&self) -> bool {
        self.written == self.version
    }

    /// Acknowledgements of what is settled so far wait for the lane as it is now.
    pub(super) fn gate_acknowledgements(&mut self) {
        self.acknowledgement_gate = self.version;
    }

    /// The next request waits for the lane as it is now.
    pub(super) fn gate_requests(&mut self) {
        self.request_gate = self.version;
    }

    /// Delivered, with how many were settled by it.
    pub(super) fn delivered(&mut self, token: D, settled: u32, now: Instant) {
        if self.delivered.is_none() {
            self.delivered_since = now;
        }
        self.delivered = Some(token);
        self.delivered_count += settled;
    }

    /// An event behind those that were passed over was delivered: it is acknowledged with them.
    pub(super) fn nothing_passed(&mut self) {
        (self.passed, self.passed_count) = (None, 0);
    }

    /// What was delivered so far came before the skip that comes now.
    pub(super) fn set_aside(&mut self) {
        self.set_aside = self.delivered.take();
        self.delivered_count = 0;
    }

    /// Nobody wants this one. It is acknowledged with the next delivery, or behind the next write, so that what the consumer
    /// has acknowledged beyond the written position was always delivered.
    pub(super) fn passed(&mut self, token: D) {
        self.passed = Some(token);
        self.passed_count += 1;
    }

    /// What is not acknowledged yet is not to be.
    pub(super) fn forget_unacknowledged(&mut self) {
        (self.delivered, self.delivered_count, self.set_aside) = (None, 0, None);
        self.nothing_passed();
    }

    fn is_due(&self, now: Instant) -> bool {
        self.delivered_count >= MAX_UNACKNOWLEDGED || now >= self.acknowledge_by()
    }

    fn acknowledge_by(&self) -> Instant {
        self.delivered_since + LONGEST_UNACKNOWLEDGED
    }

    pub(super) fn has_passed_enough(&self) -> bool {
        self.passed_count >= MAX_PASSED_OVER
    }
}

impl<D> Session<D> {
    /// The lane is another one than before.
    pub(super) fn changed(&mut self) {
        self.ledger.version += 1;
    }

    /// Has the lane written as it is now.
    pub(super) fn write(&mut self) {
        self.say_that_it_has_passed();
        self.ledger.wanted = self.ledger.version;
        self.write_on();
    }

    fn write_on(&mut self) {
        let ledger = &mut self.ledger;
        if ledger.writing.is_none() && ledger.written < ledger.wanted {
            ledger.writing = Some((ledger.version, self.lane.accounted_to()));
            // What was passed over so far is in what is written.
            if let Some(passed) = ledger.passed.take() {
                ledger.passed_count = 0;
                ledger.delivered = Some(passed);
                ledger.acknowledgement_gate = ledger.version;
            }
            self.actions.push_back(Action::Write(Box::new(self.lane.clone())));
        }
    }

    /// What was to be written is.
    pub(super) fn written(&mut self) {
        let Some((version, accounted_to)) = self.ledger.writing.take() else { return };
        (self.ledger.written, self.ledger.accounted_to) = (version, accounted_to);
        self.acknowledge_now();
        self.write_on();
        self.name_is_written();
    }

    /// Writes the position; what was passed over up to it is acknowledged behind that.
    pub(super) fn checkpoint(&mut self) {
        self.timers.stop(Timer::Checkpoint);
        if self.ledger.is_written() {
            self.acknowledge_now();
        } else {
            self.write();
        }
    }

    /// Acknowledges what the target has had, where that is due, and says when it will be.
    pub(super) fn acknowledge_if_due(&mut self, is_last: bool, now: Now) {
        if is_last || self.ledger.is_due(now.at) {
            self.acknowledge_now();
        }
        if self.ledger.delivered.is_some() {
            self.timers.set_if_idle(Timer::Acknowledge, self.ledger.acknowledge_by().max(now.at));
        }
    }

    /// Acknowledges what was set aside, now that it is sure.
    pub(super) fn acknowledge_set_aside(&mut self) {
        if self.ledger.written >= self.ledger.acknowledgement_gate
            && let Some(token) = self.ledger.set_aside.take()
        {
            self.actions.push_back(Action::Acknowledge(token));
        }
    }

    /// Acknowledges what the target has had, if nothing has to be written, or looked up, before.
    pub(super) fn acknowledge_now(&mut self) {
        self.say_that_it_has_passed();
        if self.ledger.written < self.ledger.acknowledgement_gate || self.lane.unsure_from.is_some() {
            return;
        }
        let set_aside = self.ledger.set_aside.take();
        if let Some(token) = self.ledger.delivered.take().or(set_aside) {
            self.ledger.delivered_count = 0;
            self.timers.stop(Timer::Acknowledge);
            self.actions.push_back(Action::Acknowledge(token));
        }
    }
}
