//! A message comes in, is decided about, and is put into the window.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::required_data::Found;
use domain::{Event, Stamp};

use super::window::{Load, Slot, Stage};
use super::{Action, Leave, Message, Now, Session, Unread};
use crate::push::retry_after::LONGEST;

/// A message that is not decided about yet.
pub(super) enum Incoming<D> {
    Nothing,
    /// It lacks keys that are being looked for.
    Lacks {
        slot: Box<Slot<D>>,
        event: Arc<Event>,
    },
}

impl<D> Incoming<D> {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl<D> Session<D> {
    /// Takes in a message of the source.
    pub(super) fn read(&mut self, message: Message<D>, now: Now) {
        let Message { sequence, event, backlog, token } = message;
        self.waiting_since = now.at;
        self.looks_for_end = false;
        if self.leaving.is_some() || !self.incoming.is_nothing() || sequence <= self.read_to() {
            // It comes again because it has been out for long, or from another source: it is in the window, or settled.
            return;
        }
        let known_to = self.known_to();
        if sequence > known_to + 1 && self.is_stopped_by_hole(known_to, sequence - 1) {
            // It is read again, when the lane goes on.
            return;
        }
        self.comes_next(sequence);
        if self.window.is_empty() {
            self.lane.comes(sequence);
            self.ahead = self.window.reads_ahead().then(|| self.lane.clone());
        }
        let mut slot = Slot {
            sequence,
            backlog,
            load: None,
            reached_end: false,
            stage: Stage::Passed,
            attempts: 0,
            failure: None,
            token,
        };
        let Some(event) = event else {
            tracing::warn!(id = %self.id, sequence, "lane.no_event_passed_over");
            self.window.add(slot, now.at);
            self.settle(now);
            return;
        };
        let lane = self.ahead.as_mut().unwrap_or(&mut self.lane);
        slot.reached_end = lane.complete_over(&self.spec, event.sequence, event.stored_at);
        let keys = lane.lacks(&self.spec, &event);
        if keys.is_empty() {
            self.decide(slot, event, Found::new(), now);
        } else {
            self.incoming = Incoming::Lacks { slot: Box::new(slot), event: event.clone() };
            self.actions.push_back(Action::Look { event, keys });
        }
    }

    /// The source gives no more.
    pub(super) fn is_unread(&mut self, why: Unread) {
        if why == Unread::Unreadable && !(self.window.is_empty() && self.incoming.is_nothing()) {
            // It is passed over by a source that is opened right before it: so all before it is settled first.
            self.window.close();
        } else {
            self.leave(Leave::SetUp);
        }
    }

    /// The keys that were looked for.
    pub(super) fn found(&mut self, sequence: u64, found: Found, now: Now) {
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Lacks { slot, event } if slot.sequence == sequence && self.leaving.is_none() => {
                self.decide(*slot, event, found, now);
            }
            other => self.incoming = other,
        }
    }

    /// Decides whether and how an event is to be delivered, where all before it will have been.
    fn decide(&mut self, mut slot: Slot<D>, event: Arc<Event>, found: Found, now: Now) {
        let lane = self.ahead.as_mut().unwrap_or(&mut self.lane);
        let due = lane.due(&self.spec, &event, &found);
        if due.is_some() {
            slot.stage = if lane.has_taken(&self.spec, &event) { Stage::Taken } else { Stage::Waiting(None) };
        }
        if let Some(ahead) = &mut self.ahead {
            let active = ahead.active_entries();
            if due.is_some() {
                ahead.delivered(&self.spec, &event, &found);
            } else {
                ahead.skipped(&self.spec, &event);
            }
            if slot.reached_end || ahead.active_entries() < active {
                self.window.close();
            }
        }
        let failure = self.lane.failure().filter(|failure| failure.sequence == event.sequence);
        if let (Some(failure), Stage::Waiting(_)) = (failure, slot.stage) {
            slot.attempts = failure.attempts;
            slot.failure = Some(failure.clone());
            let is_decided = failure.letter.is_some();
            slot.stage = match self.spec.delivery.max_attempts {
                _ if is_decided => Stage::Exhausted,
                Some(most) if slot.attempts >= most => Stage::Exhausted,
                _ => Stage::Waiting(failure.next_attempt.map(|at| self.not_long_before(at, now))),
            };
        }
        slot.load = Some(Load { event, found, due });
        self.window.add(slot, now.at);
        self.settle(now);
    }

    /// When a stored moment is, that something waits for; but no later than in the time that it was to wait when the lane was
    /// written, and an hour. The clock may have been ahead then, or another process's.
    fn not_long_before(&self, moment: Stamp, now: Now) -> Instant {
        let micros = moment.as_micros().saturating_sub(self.lane.updated.as_micros());
        let waits = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        now.instant_of(moment).min(now.at + waits.min(LONGEST))
    }
}
