//! Having the target take an event, however often it must be tried; and trying the target out.

use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use broker::Unavailable;
use domain::delivery_settings::OnExhausted;
use domain::lane::{Attempt, Failure, Lane, TestOutcome, Why};
use domain::subscription::Test;
use domain::{DeadLetter, Event, Stamp, Subscription};
use futures_util::StreamExt;
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::source::fresh_epoch;
use super::window::{Load, Stage};
use super::{Next, Run, Worker, interruption};
use crate::push::delivery_request::{DeliveryRequest, Item};
use crate::push::span::{self, Trial};
use crate::push::verdict::{PushOutcome, Verdict};

/// A held lane writes its state at most this often.
const HELD_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long somebody waits for a test that was asked for, in microseconds.
const TEST_WAITED_FOR_MICROS: i64 = 60_000_000;

/// What came of a request.
pub(super) struct Landed {
    /// The sequences of its events.
    pub(super) load: Vec<u64>,
    /// Which attempt at them it was.
    attempt: u32,
    /// `None`: it was not made, because this dispatcher may not push any more.
    outcome: Option<PushOutcome>,
    pub(super) at: Stamp,
    pub(super) duration: Duration,
}

/// What a worker remembers of its target between deliveries.
#[derive(Default)]
pub(super) struct Manners {
    /// Where the target has said that it is, since it took an event last; and how often.
    resumed_after: Option<(u64, u32)>,
    /// How many deliveries a second it gets, and who counts.
    limiter: Option<(NonZeroU32, DefaultDirectRateLimiter)>,
}

impl Worker {
    /// Begins the requests that may begin now, and deals with what was tried as often as was asked for. Answers what is
    /// next, where that is not to wait for what comes of it.
    pub(super) async fn send_what_may_go(&mut self, run: &mut Run) -> Result<Option<Next>, Unavailable> {
        while let Some(exhausted) = run.window.exhausted().map(|slot| slot.sequence) {
            if let Some(next) = Box::pin(self.give_up(run, exhausted)).await? {
                return Ok(Some(next));
            }
            if run.window.exhausted().is_some_and(|slot| slot.sequence == exhausted) {
                break;
            }
        }
        run.turn_at = None;
        while let Some(load) = run.window.next_load(Instant::now()) {
            run.turn_at = self.next_turn(run.asked.delivery.rate_per_second);
            if run.turn_at.is_some() {
                break;
            }
            self.send(run, load);
        }
        Ok(None)
    }

    /// Takes the next turn of the rate that was asked for; where it is not due yet, answers when it is.
    fn next_turn(&mut self, rate: Option<u32>) -> Option<Instant> {
        let rate = rate.and_then(NonZeroU32::new)?;
        if self.manners.limiter.as_ref().is_none_or(|(known, _)| *known != rate) {
            self.manners.limiter =
                Some((rate, RateLimiter::direct(Quota::per_second(rate).allow_burst(NonZeroU32::MIN))));
        }
        let (_, limiter) = self.manners.limiter.as_ref()?;
        let not_yet = limiter.check().err()?;
        Some(Instant::now() + not_yet.wait_time_from(limiter.clock().now()))
    }

    /// Begins a request.
    fn send(&self, run: &mut Run, load: Vec<u64>) {
        run.window.send(&load);
        let slots = load.iter().filter_map(|sequence| run.window.get(*sequence));
        let attempt = slots.clone().map(|slot| slot.attempts).max().unwrap_or(1);
        let items = slots.filter_map(|slot| slot.load.as_ref()).filter_map(Load::item);
        let items: Vec<Item<'_>> = items.collect();
        let priority = items.iter().map(|(_, due, _)| due.priority).fold(f64::INFINITY, f64::min);
        let is_batch = run.window.is_batched();
        let mut request = match items.as_slice() {
            [item] if !is_batch => DeliveryRequest::of_event(*item),
            items => DeliveryRequest::of_batch(items),
        };
        let (id, asked) = (&self.id, &*run.asked);
        let span = span::of(&self.shared.tracer, &Trial { id, asked, number: attempt, items: &items, is_batch });
        let (permits, lease, client) = (self.shared.permits.clone(), self.shared.lease.clone(), run.client.clone());
        let request = async move {
            let permit = permits.get(priority).await;
            let began = Instant::now();
            // Where it is over somebody else may be at work on this by now.
            let outcome = match lease.is_valid() {
                true => {
                    let span = span.and_then(|span| span.begin(&mut request.headers));
                    let outcome = permit.run(pin!(client.push(request))).await;
                    if let Some(span) = span {
                        span::end(span, &outcome);
                    }
                    Some(outcome)
                }
                false => None,
            };
            Landed { load, attempt, outcome, at: Stamp::now(), duration: began.elapsed() }
        };
        run.under_way.push(Box::pin(request));
    }

    /// Records an attempt. Answers what it means, where it was made.
    pub(super) fn take_note(&mut self, run: &mut Run, landed: &Landed) -> Option<Verdict> {
        let (Some(outcome), Some(sequence)) = (&landed.outcome, landed.load.first()) else {
            run.window.landed(&landed.load, Stage::Waiting(None));
            return None;
        };
        let verdict = outcome.verdict(landed.at);
        self.count(run, landed, outcome, &verdict);
        let attempt = Attempt {
            to_sequence: landed.load.last().filter(|last| *last != sequence).copied(),
            ..attempt_of(*sequence, landed.at, landed.attempt, landed.duration, outcome)
        };
        let (sequence, attempts, duration_ms) = (attempt.sequence, attempt.attempt, attempt.duration_ms);
        self.shared.attempts.add(&self.attempts, attempt.clone());
        run.lane.last_attempt = Some(attempt);
        if verdict == Verdict::Delivered {
            let events = landed.load.len();
            let event = || run.window.event(sequence);
            tracing::debug!(
                id = %self.id, sequence, event_id = event().map(Event::id), trace_id = event().and_then(Event::trace_id),
                events, attempts, %outcome, duration_ms, "delivery.attempted"
            );
            self.manners.resumed_after = None;
            run.window.landed(&landed.load, Stage::Taken);
            for sequence in &landed.load {
                run.lane.delivered_early(*sequence);
            }
        } else {
            run.window.landed(&landed.load, Stage::Waiting(None));
        }
        Some(verdict)
    }

    /// Deals with what came of a request. Answers what is next, where that is not simply to go on.
    pub(super) async fn landed(&mut self, run: &mut Run, landed: Landed) -> Result<Option<Next>, Unavailable> {
        let Some(verdict) = self.take_note(run, &landed) else { return Ok(Some(Next::End)) };
        let Some(sequence) = landed.load.first().copied() else { return Ok(None) };
        let after = match verdict {
            Verdict::Delivered => return self.settle(run).await,
            Verdict::Gone => return self.stop(run, Why::Gone, sequence).await.map(Some),
            Verdict::ResumeAfter(to) if !self.is_known_to_be_at(to) => {
                return Box::pin(self.resume_after(run, sequence, to)).await.map(Some);
            }
            Verdict::ResumeAfter(_) => None,
            Verdict::Retry { after } => after,
        };
        self.acknowledge(run).await?;
        let wait = self.shared.backoff.wait(landed.attempt, rand::random()).max(after.unwrap_or_default());
        let error = landed.outcome.as_ref().map(ToString::to_string).unwrap_or_default();
        let event = || run.window.event(sequence);
        tracing::warn!(
            id = %self.id, sequence, event_id = event().map(Event::id), trace_id = event().and_then(Event::trace_id), events = landed.load.len(), attempts = landed.attempt, outcome = error,
            duration_ms = landed.duration.as_millis(), retry_in_ms = wait.as_millis(), "delivery.attempted"
        );
        let mut failure = Failure {
            sequence,
            attempts: landed.attempt,
            error,
            next_attempt: Some(landed.at.plus_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))),
            letter: None,
        };
        let until = Stage::Waiting(Some(Instant::now() + wait));
        let is_exhausted = run.asked.delivery.max_attempts.is_some_and(|most| landed.attempt >= most);
        match landed.load.as_slice() {
            [sequence] if is_exhausted => run.window.set(*sequence, Stage::Exhausted),
            _ if is_exhausted => {
                tracing::warn!(
                    id = %self.id, sequence, event_id = event().map(Event::id),
                    trace_id = event().and_then(Event::trace_id), events = landed.load.len(), "delivery.batch_taken_apart"
                );
                failure.attempts = 0;
                run.window.take_apart();
            }
            load => load.iter().for_each(|sequence| run.window.set(*sequence, until)),
        }
        run.window.failed(failure);
        if let Some(first) = run.window.first_failure() {
            run.lane.failed(first.clone());
        }
        self.meter.shows(&run.lane);
        if run.held_written_at.is_none_or(|at| at.elapsed() >= HELD_WRITE_INTERVAL) {
            run.held_written_at = Some(Instant::now());
            // For whoever looks; the lane itself does not depend on it.
            if let Err(error) = self.write(&mut run.lane).await {
                tracing::debug!(id = %self.id, %error, "lane.state_not_written");
            }
        }
        Ok(None)
    }

    /// Waits, with everything. Answers what is next if something changes before.
    async fn hold(&mut self, run: &mut Run, until: Instant) -> Option<Next> {
        let mut link = self.shared.broker.link();
        let mut log_bounds = self.shared.log_bounds.clone();
        tokio::select! {
            next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => Some(next),
            // What waits to be delivered has been removed from the log.
            Ok(_) = log_bounds.wait_for(|log_bounds| run.lane.may_lack(log_bounds.first_sequence)) => Some(Next::SetUp),
            () = sleep_until(until) => None,
        }
    }

    /// What becomes of an event that was tried as often as was asked for. Answers what is next, where that is not to go
    /// on with others.
    async fn give_up(&mut self, run: &mut Run, sequence: u64) -> Result<Option<Next>, Unavailable> {
        let on_exhausted = run.asked.delivery.on_exhausted;
        let is_first = run.window.first().is_some_and(|slot| slot.sequence == sequence);
        match on_exhausted {
            OnExhausted::Disable => return self.stop(run, Why::Exhausted, sequence).await.map(Some),
            // Those before it come first: there is one position, and one letter at a time.
            OnExhausted::DeadLetter if is_first => return self.bury(run, sequence).await,
            OnExhausted::DeadLetter => {}
            OnExhausted::Hold => {
                if let Some(failure) = run.lane.failure_mut().filter(|failure| failure.sequence == sequence) {
                    failure.next_attempt = None;
                }
                self.write(&mut run.lane).await?;
            }
        }
        Ok(None)
    }

    /// Makes a dead letter of the first event of the window: however often that must be tried, and once, whatever is
    /// killed meanwhile. So the letter is given a name, which is written before it is used.
    async fn bury(&mut self, run: &mut Run, sequence: u64) -> Result<Option<Next>, Unavailable> {
        let event = run.window.get(sequence).and_then(|slot| slot.load.as_ref()).map(|load| load.event.clone());
        let code = run.lane.last_attempt.as_ref().filter(|attempt| attempt.sequence == sequence);
        let code = code.and_then(|attempt| attempt.code);
        let failure = run.lane.failure_mut().filter(|failure| failure.sequence == sequence);
        let (Some(event), Some(failure)) = (event, failure) else { return Ok(Some(Next::SetUp)) };
        failure.next_attempt = None;
        let mut may_be_there = failure.letter.is_some();
        let name = failure.letter.get_or_insert_with(|| Uuid::now_v7().to_string()).clone();
        let letter = DeadLetter {
            subscription: self.id.clone(),
            event: Event::clone(&event),
            attempts: failure.attempts,
            code,
            error: failure.error.clone(),
            at: Stamp::now(),
        };
        self.write(&mut run.lane).await?;
        for tries in 1.. {
            if !self.shared.lease.is_valid() {
                return Ok(Some(Next::End));
            }
            let Err(error) = self.shared.dead_letters.add(&letter, &name, may_be_there).await else { break };
            tracing::error!(
                id = %self.id, sequence, event_id = event.id(), trace_id = event.trace_id(), %error,
                "dead_letter.not_written"
            );
            may_be_there = true;
            let until = Instant::now() + self.shared.backoff.wait(tries, rand::random());
            if let Some(next) = self.hold(run, until).await {
                return Ok(Some(next));
            }
        }
        tracing::error!(
            id = %self.id, sequence, event_id = event.id(), trace_id = event.trace_id(), attempts = letter.attempts,
            "dead_letter.written"
        );
        self.meter.buried();
        run.window.set(sequence, Stage::Buried);
        self.settle(run).await
    }

    async fn stop(&mut self, run: &mut Run, why: Why, sequence: u64) -> Result<Next, Unavailable> {
        run.lane.stop(&run.asked, why, sequence, Stamp::now());
        let event = || run.window.event(sequence);
        tracing::warn!(
            id = %self.id, sequence, event_id = event().map(Event::id), trace_id = event().and_then(Event::trace_id), ?why,
            "lane.stopped"
        );
        self.write(&mut run.lane).await?;
        Ok(Next::SetUp)
    }

    /// Whether deliveries went on behind this sequence already, and the target has taken nothing since.
    fn is_known_to_be_at(&self, sequence: u64) -> bool {
        self.manners.resumed_after.is_some_and(|(at, _)| at == sequence)
    }

    /// The target has had everything up to a sequence: deliveries go on behind it. One that keeps changing its mind
    /// without taking anything is given time.
    async fn resume_after(&mut self, run: &mut Run, at: u64, sequence: u64) -> Result<Next, Unavailable> {
        let times = self.manners.resumed_after.map_or(0, |(_, times)| times);
        if times > 0 {
            let until = Instant::now() + self.shared.backoff.wait(times, rand::random());
            if let Some(next) = self.hold(run, until).await {
                return Ok(next);
            }
        }
        // What else is under way lands before the lane is elsewhere.
        while let Some(landed) = run.under_way.next().await {
            self.take_note(run, &landed);
        }
        self.settle(run).await?;
        self.manners.resumed_after = Some((sequence, times.saturating_add(1)));
        // Beyond the end of the log nobody can be.
        let sequence = sequence.min(self.shared.log.last_sequence().await?);
        tracing::warn!(id = %self.id, at, resumes_after = sequence, "lane.target_is_elsewhere");
        run.window.clear();
        run.lane.resume_after(sequence, &fresh_epoch());
        self.write(&mut run.lane).await?;
        Ok(Next::SetUp)
    }

    /// Tries the target out, and writes what came of it. What was asked for long ago nobody waits for any more.
    pub(super) async fn test(&mut self, mut lane: Lane, asked: &Subscription, test: &Test) -> Result<(), Unavailable> {
        let mut attempt = None;
        if Stamp::now() < test.asked_at.plus_micros(TEST_WAITED_FOR_MICROS) {
            let (at, began) = (Stamp::now(), Instant::now());
            let outcome = self.client(asked).push(DeliveryRequest::of_test(&self.id, test)).await;
            tracing::info!(id = %self.id, %outcome, "target.tested");
            attempt = Some(attempt_of(0, at, 1, began.elapsed(), &outcome));
        }
        lane.test = Some(TestOutcome { id: test.id.clone(), attempt });
        self.write(&mut lane).await?;
        self.lane = Some(lane);
        Ok(())
    }
}

fn attempt_of(sequence: u64, at: Stamp, attempt: u32, duration: Duration, outcome: &PushOutcome) -> Attempt {
    let has_failed = outcome.verdict(at) != Verdict::Delivered;
    Attempt {
        sequence,
        to_sequence: None,
        at,
        attempt,
        code: outcome.code(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error: has_failed.then(|| outcome.to_string()),
        answer: outcome.said().filter(|_| has_failed).map(str::to_owned),
    }
}
