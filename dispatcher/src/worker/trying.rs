//! Having the target take an event, however often it must be tried; and trying the target out.

use std::num::NonZeroU32;
use std::time::Duration;

use broker::Unavailable;
use domain::delivery_settings::OnExhausted;
use domain::lane::{Attempt, Due, Failure, Lane, TestOutcome, Why};
use domain::subscription::Test;
use domain::{DeadLetter, Event, Stamp, Subscription};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Next, Run, Worker, instant_of, interruption};
use crate::verdict::{Outcome, Verdict};

/// A held lane writes its state at most this often.
const HELD_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long somebody waits for a test that was asked for, in microseconds.
const TEST_WAITED_FOR_MICROS: i64 = 60_000_000;

/// How an event was left.
pub(super) enum Left {
    /// The target has it.
    Taken,
    /// It is among the dead letters.
    Buried,
    /// Something changed before it had.
    For(Next),
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
    /// Has the target take an event.
    pub(super) async fn push(&mut self, run: &mut Run, event: &Event, due: &Due) -> Result<Left, Unavailable> {
        let earlier = run.lane.failure.clone().filter(|failure| failure.sequence == event.sequence);
        let mut attempts = earlier.as_ref().map_or(0, |failure| failure.attempts);
        if let Some(next_attempt) = earlier.and_then(|failure| failure.next_attempt)
            && let Some(next) = self.hold(run, Some(instant_of(next_attempt))).await
        {
            return Ok(Left::For(next));
        }
        let mut last_write: Option<Instant> = None;
        loop {
            if is_exhausted(run, attempts) {
                return self.give_up(run, event, attempts).await;
            }
            if let Some(next) = self.wait_for_turn(run).await {
                return Ok(Left::For(next));
            }
            attempts = attempts.saturating_add(1);
            let permit = self.shared.permits.get(due.priority).await;
            if !self.shared.lease.is_valid() {
                // Somebody else may be at work on this by now.
                return Ok(Left::For(Next::End));
            }
            let began = Instant::now();
            let push = self.shared.pusher.push(&run.asked, &run.signer, event, due, run.lane.last_delivered);
            let outcome = permit.run(push).await;
            let now = Stamp::now();
            let attempt = attempt_of(event.sequence, now, attempts, began.elapsed(), &outcome);
            let duration_ms = attempt.duration_ms;
            self.shared.attempts.add(&self.id, attempt.clone());
            run.lane.last_attempt = Some(attempt);
            let after = match outcome.verdict(now) {
                Verdict::Delivered => {
                    tracing::debug!(id = %self.id, sequence = event.sequence, attempts, %outcome, duration_ms, "delivery.attempted");
                    self.manners.resumed_after = None;
                    return Ok(Left::Taken);
                }
                Verdict::Gone => return self.stop(run, Why::Gone, event).await,
                Verdict::ResumeAfter(sequence) if !self.is_known_to_be_at(sequence) => {
                    return self.resume_after(run, event, sequence).await;
                }
                Verdict::ResumeAfter(_) => None,
                Verdict::Retry { after } => after,
            };
            let wait = self.shared.backoff.wait(attempts, rand::random()).max(after.unwrap_or_default());
            let (try_again_at, retry_in_ms) = (Instant::now() + wait, wait.as_millis());
            tracing::warn!(
                id = %self.id, sequence = event.sequence, attempts, %outcome, duration_ms, retry_in_ms,
                "delivery.attempted"
            );
            run.lane.failed(Failure {
                sequence: event.sequence,
                attempts,
                error: outcome.to_string(),
                next_attempt: Some(now.plus_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))),
                letter: None,
            });
            if is_exhausted(run, attempts) {
                continue;
            }
            if last_write.is_none_or(|at| at.elapsed() >= HELD_WRITE_INTERVAL) {
                last_write = Some(Instant::now());
                // For whoever looks; the lane itself does not depend on it.
                if let Err(error) = self.write(&mut run.lane).await {
                    tracing::debug!(id = %self.id, %error, "lane.state_not_written");
                }
            }
            if let Some(next) = self.hold(run, Some(try_again_at)).await {
                return Ok(Left::For(next));
            }
        }
    }

    /// Waits until an event may be tried again; without a moment, until something changes. Answers what is next if
    /// something changes before.
    async fn hold(&mut self, run: &mut Run, until: Option<Instant>) -> Option<Next> {
        let mut link = self.shared.broker.link();
        let mut extent = self.shared.extent.clone();
        tokio::select! {
            next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => Some(next),
            // What waits to be delivered has been removed from the log.
            Ok(_) = extent.wait_for(|extent| run.lane.may_lack(extent.first_sequence)) => Some(Next::SetUp),
            () = super::at(until) => None,
        }
    }

    /// Waits until the rate that was asked for lets one more delivery begin.
    async fn wait_for_turn(&mut self, run: &mut Run) -> Option<Next> {
        let rate = run.asked.delivery.rate_per_second.and_then(NonZeroU32::new)?;
        if self.manners.limiter.as_ref().is_none_or(|(known, _)| *known != rate) {
            self.manners.limiter =
                Some((rate, RateLimiter::direct(Quota::per_second(rate).allow_burst(NonZeroU32::MIN))));
        }
        let (_, limiter) = self.manners.limiter.as_ref()?;
        let mut link = self.shared.broker.link();
        tokio::select! {
            biased;
            () = limiter.until_ready() => None,
            next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => Some(next),
        }
    }

    /// It was tried as often as was asked for.
    async fn give_up(&mut self, run: &mut Run, event: &Event, attempts: u32) -> Result<Left, Unavailable> {
        tracing::error!(id = %self.id, sequence = event.sequence, attempts, then = ?run.asked.delivery.on_exhausted, "delivery.exhausted");
        match run.asked.delivery.on_exhausted {
            OnExhausted::DeadLetter => self.bury(run, event).await,
            OnExhausted::Disable => self.stop(run, Why::Exhausted, event).await,
            OnExhausted::Hold => {
                if let Some(failure) = &mut run.lane.failure {
                    failure.next_attempt = None;
                }
                self.write(&mut run.lane).await?;
                Ok(Left::For(self.hold(run, None).await.unwrap_or(Next::SetUp)))
            }
        }
    }

    /// Makes a dead letter of an event: however often that must be tried, and once, whatever is killed meanwhile. So the
    /// letter is given a name, which is written before it is used.
    async fn bury(&mut self, run: &mut Run, event: &Event) -> Result<Left, Unavailable> {
        let Some(failure) = &mut run.lane.failure else { return Ok(Left::For(Next::SetUp)) };
        failure.next_attempt = None;
        let mut may_be_there = failure.letter.is_some();
        let name = failure.letter.get_or_insert_with(|| Uuid::now_v7().to_string()).clone();
        let last_attempt = run.lane.last_attempt.as_ref().filter(|attempt| attempt.sequence == event.sequence);
        let letter = DeadLetter {
            subscription: self.id.clone(),
            event: event.clone(),
            attempts: failure.attempts,
            code: last_attempt.and_then(|attempt| attempt.code),
            error: failure.error.clone(),
            at: Stamp::now(),
        };
        self.write(&mut run.lane).await?;
        for tries in 1.. {
            if !self.shared.lease.is_valid() {
                return Ok(Left::For(Next::End));
            }
            let Err(error) = self.shared.dead_letters.add(&letter, &name, may_be_there).await else { break };
            tracing::error!(id = %self.id, sequence = event.sequence, %error, "dead_letter.not_written");
            may_be_there = true;
            let until = Instant::now() + self.shared.backoff.wait(tries, rand::random());
            if let Some(next) = self.hold(run, Some(until)).await {
                return Ok(Left::For(next));
            }
        }
        tracing::warn!(id = %self.id, sequence = event.sequence, attempts = letter.attempts, "dead_letter.written");
        Ok(Left::Buried)
    }

    async fn stop(&mut self, run: &mut Run, why: Why, event: &Event) -> Result<Left, Unavailable> {
        run.lane.stop(&run.asked, why, event.sequence, Stamp::now());
        tracing::warn!(id = %self.id, sequence = event.sequence, ?why, "lane.stopped");
        self.write(&mut run.lane).await?;
        Ok(Left::For(Next::SetUp))
    }

    /// Whether deliveries went on behind this sequence already, and the target has taken nothing since.
    fn is_known_to_be_at(&self, sequence: u64) -> bool {
        self.manners.resumed_after.is_some_and(|(at, _)| at == sequence)
    }

    /// The target has had everything up to a sequence: deliveries go on behind it. One that keeps changing its mind
    /// without taking anything is given time.
    async fn resume_after(&mut self, run: &mut Run, event: &Event, sequence: u64) -> Result<Left, Unavailable> {
        let times = self.manners.resumed_after.map_or(0, |(_, times)| times);
        if times > 0 {
            let until = Instant::now() + self.shared.backoff.wait(times, rand::random());
            if let Some(next) = self.hold(run, Some(until)).await {
                return Ok(Left::For(next));
            }
        }
        self.manners.resumed_after = Some((sequence, times.saturating_add(1)));
        // Beyond the end of the log nobody can be.
        let sequence = sequence.min(self.shared.log.last_sequence().await?);
        tracing::warn!(id = %self.id, at = event.sequence, resumes_after = sequence, "lane.target_is_elsewhere");
        run.lane.resume_after(&run.asked, sequence, &Uuid::now_v7().to_string());
        self.write(&mut run.lane).await?;
        Ok(Left::For(Next::SetUp))
    }

    /// Tries the target out, and writes what came of it. What was asked for long ago nobody waits for any more.
    pub(super) async fn test(&mut self, mut lane: Lane, asked: &Subscription, test: &Test) -> Result<(), Unavailable> {
        let mut attempt = None;
        if Stamp::now() < test.asked_at.plus_micros(TEST_WAITED_FOR_MICROS) {
            let (at, began) = (Stamp::now(), Instant::now());
            let outcome = self.shared.pusher.push_test(&self.id, asked, &self.signer(asked), test).await;
            tracing::info!(id = %self.id, %outcome, "target.tested");
            attempt = Some(attempt_of(0, at, 1, began.elapsed(), &outcome));
        }
        lane.test = Some(TestOutcome { id: test.id.clone(), attempt });
        self.write(&mut lane).await?;
        self.lane = Some(lane);
        Ok(())
    }
}

/// Whether an event was tried as often as was asked for.
fn is_exhausted(run: &Run, attempts: u32) -> bool {
    run.asked.delivery.max_attempts.is_some_and(|most| attempts >= most)
}

fn attempt_of(sequence: u64, at: Stamp, attempt: u32, duration: Duration, outcome: &Outcome) -> Attempt {
    let has_failed = outcome.verdict(at) != Verdict::Delivered;
    Attempt {
        sequence,
        at,
        attempt,
        code: outcome.code(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error: has_failed.then(|| outcome.to_string()),
        answer: outcome.said().filter(|_| has_failed).map(str::to_owned),
    }
}
