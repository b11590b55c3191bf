//! Requests to the target, and what came of them.

use std::time::Duration;

use domain::lane::{Attempt, Failure, Why};
use domain::{Event, Stamp};

use super::refusal::{Failed, Said};
use super::timers::Timer;
use super::window::Stage;
use super::{Action, Landed, Leave, Now, Session};
use crate::push::verdict::{PushOutcome, Verdict};

/// The status of a target, or a proxy before it, that takes no request as large (RFC 9110, 15.5.14).
const TOO_LARGE: u16 = 413;
/// A held lane writes its state at most this often.
const HELD_WRITE_INTERVAL: Duration = Duration::from_secs(1);

impl<D> Session<D> {
    /// Begins the requests that may begin now, and says when to look again.
    pub(super) fn send_what_may_go(&mut self, now: Now) {
        self.timers.stop(Timer::Turn);
        let may_send = self.leaving.is_none() && self.elsewhere.is_no() && self.ledger.lets_send();
        while let Some(load) = self.window.next_load(now.at).filter(|_| may_send) {
            match self.target.takes_turn(self.spec.delivery.rate_per_second, now.at) {
                Ok(()) => {
                    self.window.send(&load);
                    self.actions.push_back(Action::Send(load));
                }
                Err(at) => {
                    self.timers.set(Timer::Turn, at);
                    break;
                }
            }
        }
        self.timers.put(Timer::Window, self.window.next_look(now.at));
    }

    /// Takes in what came of a request.
    pub(super) fn landed(&mut self, landed: Landed, now: Now) {
        let (Some(outcome), Some(sequence)) = (&landed.outcome, landed.load.first().copied()) else {
            self.window.landed(&landed.load, Stage::Waiting(None));
            self.leave(Leave::End);
            return;
        };
        let verdict = outcome.verdict(landed.at);
        self.lane.last_attempt = Some(attempt_of(&landed, outcome, verdict == Verdict::Delivered));
        self.changed();
        if verdict == Verdict::Delivered {
            self.is_taken(&landed, outcome, now);
            return;
        }
        self.window.landed(&landed.load, Stage::Waiting(None));
        if outcome.code() == Some(TOO_LARGE) && landed.load.len() > 1 {
            self.halve(&landed.load, now);
            return;
        }
        let Landed { load, attempt, duration, jitter, .. } = landed;
        let error = outcome.to_string();
        let after = match verdict {
            Verdict::Gone => {
                self.stop(Why::Gone, sequence);
                return;
            }
            Verdict::ResumeAfter(to) if !self.target.is_known_to_be_at(to) => {
                self.said_elsewhere(Said { load, attempt, resumes_after: to, duration, jitter });
                return;
            }
            Verdict::Retry { after } => after,
            Verdict::ResumeAfter(_) | Verdict::Delivered => None,
        };
        self.failed(Failed { load: &load, attempt, error, duration, after, jitter }, now);
    }

    /// A request was too large: what it had comes in smaller ones, at once.
    fn halve(&mut self, load: &[u64], now: Now) {
        let bytes = self.window.bytes_of(load);
        let most = self.target.refuses(bytes, now.at);
        tracing::info!(id = %self.id, sequence = load.first(), events = load.len(), bytes, most, "delivery.batch_too_large");
        self.window.was_too_large(load);
        self.window.limit_bytes(most);
    }

    fn is_taken(&mut self, landed: &Landed, outcome: &PushOutcome, now: Now) {
        let sequence = landed.load.first().copied().unwrap_or(0);
        let event = self.window.event(sequence);
        tracing::debug!(
            id = %self.id, sequence, event_id = event.map(Event::id), trace_id = event.and_then(Event::trace_id),
            events = landed.load.len(), attempts = landed.attempt, %outcome, duration_ms = landed.duration.as_millis(),
            "delivery.attempted"
        );
        self.target.took();
        self.window.landed(&landed.load, Stage::Taken);
        if self.window.reads_ahead() {
            for event in landed.load.iter().filter_map(|sequence| self.window.event(*sequence)) {
                self.lane.delivered_early(event);
            }
        }
        self.settle(now);
    }

    /// The events come again after a while, unless they were tried as often as was asked for.
    pub(super) fn failed(&mut self, failed: Failed<'_>, now: Now) {
        let Failed { load, attempt, error, duration, after, jitter } = failed;
        let Some(sequence) = load.first().copied() else { return };
        self.acknowledge_now();
        let wait = self.backoff.wait(attempt, jitter).max(after.unwrap_or_default());
        let event = self.window.event(sequence);
        let (event_id, trace_id) = (event.map(Event::id), event.and_then(Event::trace_id));
        tracing::warn!(
            id = %self.id,
            sequence,
            event_id,
            trace_id,
            events = load.len(),
            attempts = attempt,
            outcome = error,
            duration_ms = duration.as_millis(),
            retry_in_ms = wait.as_millis(),
            "delivery.attempted"
        );
        let next_attempt = Some(now.utc.plus_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)));
        let mut failure = Failure { sequence, attempts: attempt, error, next_attempt, letter: None };
        let is_exhausted = self.spec.delivery.max_attempts.is_some_and(|most| attempt >= most);
        match load {
            [sequence] if is_exhausted => self.window.set(*sequence, Stage::Exhausted),
            _ if is_exhausted => {
                tracing::warn!(id = %self.id, sequence, event_id, trace_id, events = load.len(), "delivery.batch_taken_apart");
                failure.attempts = 0;
                self.window.take_apart();
            }
            load => load.iter().for_each(|sequence| self.window.set(*sequence, Stage::Waiting(Some(now.at + wait)))),
        }
        self.window.failed(failure);
        if let Some(first) = self.window.first_failure() {
            self.lane.failed(first.clone());
        }
        self.changed();
        if self.held_written_at.is_none_or(|at| now.at.duration_since(at) >= HELD_WRITE_INTERVAL) {
            self.held_written_at = Some(now.at);
            self.write();
        }
    }
}

fn attempt_of(landed: &Landed, outcome: &PushOutcome, is_delivered: bool) -> Attempt {
    let sequence = landed.load.first().copied().unwrap_or(0);
    Attempt {
        to_sequence: landed.load.last().filter(|last| **last != sequence).copied(),
        ..attempt(sequence, landed.at, landed.attempt, landed.duration, outcome, is_delivered)
    }
}

/// One attempt as it is shown.
pub(crate) fn attempt(
    sequence: u64,
    at: Stamp,
    attempt: u32,
    duration: Duration,
    outcome: &PushOutcome,
    is_delivered: bool,
) -> Attempt {
    Attempt {
        sequence,
        to_sequence: None,
        at,
        attempt,
        code: outcome.code(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error: (!is_delivered).then(|| outcome.to_string()),
        answer: outcome.said().filter(|_| !is_delivered).map(str::to_owned),
    }
}
