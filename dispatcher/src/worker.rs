//! One lane at work: what `domain::Lane` decides, carried out.
//!
//! Its states are methods: [`Worker::set_up`] brings what was asked for, what was written and the consumer together;
//! [`Worker::deliver`] reads the feed; [`Worker::push`] has one event taken by the target, however often it must be
//! tried; [`Worker::rest`] waits while nothing is to be done; [`Worker::clear_away`] ends it all. Whatever goes wrong
//! with NATS, the worker sets up again from its position.

use std::sync::Arc;
use std::time::Duration;

use broker::feed::{Delivery, Feed, FeedError, MAX_OUT, Want};
use broker::{Link, Unavailable};
use domain::lane::gap::{Beginning, Loss};
use domain::lane::{Attempt, Due, Failure, Gap, Lane, Phase, State, TestOutcome};
use domain::subscription::Test;
use domain::{Event, Stamp, Subscription, SubscriptionId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::extent::Extent;
use crate::fleet::{Asked, Shared};
use crate::verdict::{Outcome, Verdict};

/// How long to wait before setting up again after a failure.
const SET_UP_RETRY: Duration = Duration::from_millis(250);
/// How long a position may have moved before it is written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How many events may be passed over before the position is written and they are acknowledged: half of what may be out
/// at once, so that the server never waits for it.
const MAX_PASSED_OVER: u32 = MAX_OUT / 2;
/// A held lane writes its state at most this often.
const HELD_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How long somebody waits for a test that was asked for, in microseconds.
const TEST_WAITED_FOR_MICROS: i64 = 60_000_000;
/// How often a lane to which nothing comes writes that it has missed nothing.
const NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// How many sequences in a row may be of no concern to a lane before it looks whether they are still in the log.
const MAX_SKIPPED: u64 = 100;
/// How long to wait before looking again whether a feed has been read to its end.
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    id: SubscriptionId,
    shared: Shared,
    asked: watch::Receiver<Asked>,
    shutdown: CancellationToken,
    /// The truth, once it has been loaded.
    lane: Option<Lane>,
    /// What is known to be in the bucket.
    written: Option<Lane>,
}

/// Why a state was left.
enum Next {
    /// Something changed: set up again.
    SetUp,
    /// The dispatcher stops, or nothing is asked of this lane any more.
    End,
}

/// What reading one lane over one feed needs.
struct Run {
    asked: Arc<Subscription>,
    feed: Feed,
    lane: Lane,
    /// The link's generation that the feed was opened on.
    generation: u64,
    /// Passed over and not acknowledged yet: the newest of them, and how many.
    passed_over: Option<Delivery>,
    passed_over_count: u32,
    /// When the position has to be written, while there is something to write.
    checkpoint_at: Option<Instant>,
    /// Whether the server had nothing behind what it gave last: what comes next comes as it is stored.
    is_drained: bool,
}

impl Worker {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Shared,
        asked: watch::Receiver<Asked>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { id, shared, asked, shutdown, lane: None, written: None }
    }

    /// Works until the dispatcher stops or nothing is asked of this lane.
    pub(crate) async fn run(mut self) {
        loop {
            match self.session().await {
                Ok(Next::End) => return,
                Ok(Next::SetUp) => {}
                Err(error) => {
                    tracing::warn!(id = %self.id, %error, "lane.interrupted");
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        () = sleep(SET_UP_RETRY) => {}
                    }
                }
            }
        }
    }

    /// From setting up until something changes.
    async fn session(&mut self) -> Result<Next, Unavailable> {
        let mut link = self.shared.broker.link();
        let generation = tokio::select! {
            () = self.shutdown.cancelled() => return Ok(Next::End),
            up = link.wait_for(|link| link.is_up) => match up {
                Ok(link) => link.generation,
                Err(_) => return Ok(Next::End),
            },
        };
        let setting_up = self.shared.setting_up.clone();
        let Ok(permit) = setting_up.acquire().await else { return Ok(Next::End) };
        let Some(asked) = self.asked.borrow_and_update().clone() else {
            self.clear_away().await?;
            return Ok(Next::End);
        };
        let lane = self.set_up(&asked).await?;
        if let Some(test) = lane.test_due(&asked) {
            drop(permit);
            self.test(lane.clone(), &asked, test).await?;
            return Ok(Next::SetUp);
        }
        if lane.state == State::Completed {
            self.shared.feeds.remove(&self.id).await?;
            drop(permit);
            return Ok(self.rest().await);
        }
        if matches!(lane.state, State::Paused | State::Gap) {
            drop(permit);
            return Ok(self.rest().await);
        }
        let want = Want {
            id: &self.id,
            target: &lane.url,
            epoch: &lane.epoch,
            filters: &lane.filters,
            position: lane.position,
        };
        let feed = self.shared.feeds.open(&want).await?;
        drop(permit);
        tracing::debug!(id = %self.id, position = lane.position, backlog = feed.backlog, "lane.reading");
        let is_drained = feed.backlog == 0;
        let mut run = Run {
            asked,
            feed,
            lane,
            generation,
            passed_over: None,
            passed_over_count: 0,
            checkpoint_at: None,
            is_drained,
        };
        let next = self.deliver(&mut run).await;
        self.lane = Some(run.lane);
        next
    }

    /// Brings together what is asked for and what is, and writes the outcome before anything is done about it.
    async fn set_up(&mut self, asked: &Subscription) -> Result<Lane, Unavailable> {
        if self.lane.is_none() {
            self.load().await?;
        }
        let fresh_epoch = Uuid::now_v7().to_string();
        let mut lane = Lane::reconcile(self.lane.as_ref(), asked, &fresh_epoch);
        let span = self.shared.log.span().await?;
        let (position, last_sequence) = (lane.position, span.last_sequence);
        if lane.follow_log_back(last_sequence, &fresh_epoch) {
            tracing::error!(id = %self.id, position, last_sequence, "lane.log_was_rolled_back");
        }
        let begins = Beginning { sequence: span.first_sequence, stored_at: span.first_stored_at };
        match lane.take_in_beginning(asked, begins, Stamp::now()) {
            Loss::None => {}
            Loss::Allowed(Gap { from_sequence, to_sequence, .. }) => {
                tracing::warn!(id = %self.id, from_sequence, to_sequence, "lane.gap_allowed");
            }
            Loss::Stops(Gap { from_sequence, to_sequence, .. }) => {
                tracing::error!(id = %self.id, from_sequence, to_sequence, "lane.gap");
            }
        }
        self.write(&mut lane).await?;
        self.lane = Some(lane.clone());
        Ok(lane)
    }

    /// Goes on where an earlier worker left off.
    async fn load(&mut self) -> Result<(), Unavailable> {
        let written = self.shared.lanes.get(&self.id).await?;
        let mut lane = written.clone();
        let standing = self.shared.feeds.standing(&self.id).await?;
        if let (Some(lane), Some(standing)) = (&mut lane, standing)
            && standing.epoch == lane.epoch
            && standing.floor > lane.position
            && self.shared.log.get(standing.floor).await?.is_some()
        {
            lane.adopt_floor(standing.floor);
        }
        (self.written, self.lane) = (written, lane);
        Ok(())
    }

    /// Tries the target out, and writes what came of it. What was asked for long ago nobody waits for any more.
    async fn test(&mut self, mut lane: Lane, asked: &Subscription, test: &Test) -> Result<(), Unavailable> {
        let mut attempt = None;
        if Stamp::now() < test.asked_at.plus_micros(TEST_WAITED_FOR_MICROS) {
            let (at, began) = (Stamp::now(), Instant::now());
            let outcome = self.shared.pusher.push_test(&self.id, asked, test).await;
            tracing::info!(id = %self.id, %outcome, "target.tested");
            attempt = Some(attempt_of(0, at, 1, began.elapsed(), &outcome));
        }
        lane.test = Some(TestOutcome { id: test.id.clone(), attempt });
        self.write(&mut lane).await?;
        self.lane = Some(lane);
        Ok(())
    }

    /// Nothing is to be delivered for now: waits for something else to be asked.
    async fn rest(&mut self) -> Next {
        tokio::select! {
            () = self.shutdown.cancelled() => Next::End,
            changed = self.asked.changed() => if changed.is_ok() { Next::SetUp } else { Next::End },
        }
    }

    /// Nothing is asked for any more: leaves nothing behind.
    async fn clear_away(&mut self) -> Result<(), Unavailable> {
        self.shared.feeds.remove(&self.id).await?;
        self.shared.lanes.remove(&self.id).await?;
        tracing::info!(id = %self.id, "lane.cleared_away");
        Ok(())
    }

    /// Reads the feed and has each event taken, until something changes.
    async fn deliver(&mut self, run: &mut Run) -> Result<Next, Unavailable> {
        let mut link = self.shared.broker.link();
        if run.feed.backlog == 0 && run.lane.read_to_the_end(&run.asked) {
            run.checkpoint_at = Some(Instant::now());
        }
        let mut end_check = run.lane.next_over(&run.asked).map(instant_of);
        let mut extent = self.shared.extent.clone();
        let mut note_at = Instant::now() + NOTE_INTERVAL.mul_f64(0.5 + rand::random::<f64>());
        loop {
            let delivery = tokio::select! {
                next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => {
                    if matches!(next, Next::End) {
                        self.checkpoint(run).await?;
                    }
                    return Ok(next);
                }
                () = at(run.checkpoint_at) => {
                    self.checkpoint(run).await?;
                    continue;
                }
                () = at(end_check) => {
                    if self.complete_at_end(run).await? {
                        return Ok(Next::SetUp);
                    }
                    end_check = Some(Instant::now() + END_CHECK_INTERVAL);
                    continue;
                }
                Ok(()) = extent.changed() => {
                    let extent = *extent.borrow_and_update();
                    if self.is_cut_short(run, extent).await? {
                        return Ok(Next::SetUp);
                    }
                    continue;
                }
                () = sleep_until(note_at), if run.is_drained => {
                    run.lane.is_clear_to(self.shared.extent.borrow().settled_to);
                    self.checkpoint(run).await?;
                    note_at = Instant::now() + NOTE_INTERVAL;
                    continue;
                }
                delivery = run.feed.next() => match delivery {
                    Ok(delivery) => delivery,
                    Err(FeedError::Unavailable(error)) => return Err(error),
                    Err(gap @ FeedError::Gap { .. }) => {
                        tracing::info!(id = %self.id, %gap, "lane.reads_again");
                        return Ok(Next::SetUp);
                    }
                },
            };
            if self.skips_what_was_removed(run, &delivery).await? {
                return Ok(Next::SetUp);
            }
            run.lane.is_clear_to(delivery.sequence - 1);
            run.is_drained = delivery.backlog == 0;
            if let Some(next) = self.take(run, delivery).await? {
                return Ok(next);
            }
            if run.is_drained && run.lane.read_to_the_end(&run.asked) {
                run.checkpoint_at = Some(Instant::now());
            }
            run.checkpoint_at.get_or_insert_with(|| Instant::now() + CHECKPOINT_INTERVAL);
        }
    }

    /// Takes in, while it waits for more, that the log is cut. Answers whether that may have cut off something which this
    /// lane has not been given.
    async fn is_cut_short(&mut self, run: &mut Run, extent: Extent) -> Result<bool, Unavailable> {
        if !run.is_drained {
            return Ok(run.lane.may_lack(extent.first_sequence));
        }
        run.lane.is_clear_to(extent.settled_to.max(extent.first_sequence.saturating_sub(1)));
        if self.written.as_ref().is_some_and(|written| written.may_lack(extent.first_sequence)) {
            self.checkpoint(run).await?;
        }
        Ok(false)
    }

    /// Whether something may have been removed from the log between the position and what came next, while the server
    /// still had it to give.
    async fn skips_what_was_removed(&self, run: &Run, delivery: &Delivery) -> Result<bool, Unavailable> {
        let skipped = delivery.sequence.saturating_sub(run.lane.position + 1);
        if run.is_drained || skipped == 0 {
            return Ok(false);
        }
        let known = self.shared.extent.borrow().first_sequence;
        let first = if skipped > MAX_SKIPPED { self.shared.log.span().await?.first_sequence } else { known };
        Ok(run.lane.may_lack(first))
    }

    /// Deals with one message of the feed. Answers what is next, where that is not simply the next message.
    async fn take(&mut self, run: &mut Run, delivery: Delivery) -> Result<Option<Next>, Unavailable> {
        let Some(event) = &delivery.event else {
            tracing::warn!(id = %self.id, sequence = delivery.sequence, "lane.illegal_type_passed_over");
            self.pass_over(run, delivery).await?;
            return Ok(None);
        };
        let reached_end = run.lane.complete_over(&run.asked, event.sequence, event.stored_at);
        let lacks = run.lane.lacks(&run.asked, event);
        let found = self.shared.transactions.find(event, &lacks).await?;
        let Some(due) = run.lane.due(&run.asked, event, &found) else {
            run.lane.skipped(&run.asked, event, &found);
            self.pass_over(run, delivery).await?;
            return Ok(reached_end.then_some(Next::SetUp));
        };
        if let Some(next) = self.push(run, event, &due).await {
            return Ok(Some(next));
        }
        let was_held = run.lane.state == State::Held;
        let active = run.lane.active_entries();
        let must_write = run.lane.delivered(&run.asked, event, &found);
        if event.sequence >= run.lane.live_from(&run.asked) {
            run.lane.phase = Phase::Live;
        }
        if must_write || was_held {
            self.write(&mut run.lane).await?;
        }
        delivery.acknowledge().await?;
        (run.passed_over, run.passed_over_count) = (None, 0);
        let is_narrower = reached_end || run.lane.active_entries() < active;
        Ok(is_narrower.then_some(Next::SetUp))
    }

    /// Nobody wants this one. It is acknowledged with the next delivery or checkpoint, so that what the consumer has
    /// acknowledged beyond the written position was always delivered.
    async fn pass_over(&mut self, run: &mut Run, delivery: Delivery) -> Result<(), Unavailable> {
        run.lane.passed_over(delivery.sequence);
        run.passed_over = Some(delivery);
        run.passed_over_count += 1;
        if run.passed_over_count >= MAX_PASSED_OVER {
            self.checkpoint(run).await?;
        }
        Ok(())
    }

    /// Has the target take an event, however often it must be tried. Answers what is next if it must be left before.
    async fn push(&mut self, run: &mut Run, event: &Event, due: &Due) -> Option<Next> {
        let earlier = run.lane.failure.clone().filter(|failure| failure.sequence == event.sequence);
        let mut attempts = earlier.as_ref().map_or(0, |failure| failure.attempts);
        if let Some(next) = self.hold(run, earlier.map(|failure| instant_of(failure.next_attempt))).await {
            return Some(next);
        }
        let mut last_write: Option<Instant> = None;
        loop {
            attempts = attempts.saturating_add(1);
            let permit = self.shared.permits.get(due.priority).await;
            let began = Instant::now();
            let push = self.shared.pusher.push(&run.asked, event, due, run.lane.last_delivered);
            let outcome = permit.run(push).await;
            let verdict = outcome.verdict();
            let attempt = attempt_of(event.sequence, Stamp::now(), attempts, began.elapsed(), &outcome);
            let duration_ms = attempt.duration_ms;
            self.shared.attempts.add(&self.id, attempt.clone());
            run.lane.last_attempt = Some(attempt);
            if verdict == Verdict::Delivered {
                tracing::debug!(id = %self.id, sequence = event.sequence, attempts, %outcome, duration_ms, "delivery.attempted");
                return None;
            }
            let wait = self.shared.backoff.wait(attempts, rand::random());
            let (try_again_at, retry_in_ms) = (Instant::now() + wait, wait.as_millis());
            tracing::warn!(
                id = %self.id, sequence = event.sequence, attempts, %outcome, duration_ms, retry_in_ms,
                "delivery.attempted"
            );
            run.lane.failed(Failure {
                sequence: event.sequence,
                attempts,
                error: outcome.to_string(),
                next_attempt: Stamp::now().plus_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)),
            });
            if last_write.is_none_or(|at| at.elapsed() >= HELD_WRITE_INTERVAL) {
                last_write = Some(Instant::now());
                // For whoever looks; the lane itself does not depend on it.
                if let Err(error) = self.write(&mut run.lane).await {
                    tracing::debug!(id = %self.id, %error, "lane.state_not_written");
                }
            }
            if let Some(next) = self.hold(run, Some(try_again_at)).await {
                return Some(next);
            }
        }
    }

    /// Waits until an event may be tried again. Answers what is next if something changes before.
    async fn hold(&mut self, run: &mut Run, until: Option<Instant>) -> Option<Next> {
        let until = until?;
        let mut link = self.shared.broker.link();
        let mut extent = self.shared.extent.clone();
        tokio::select! {
            next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => Some(next),
            // What waits to be delivered has been removed from the log.
            Ok(_) = extent.wait_for(|extent| run.lane.may_lack(extent.first_sequence)) => Some(Next::SetUp),
            () = sleep_until(until) => None,
        }
    }

    /// Completes what has come to its end, if the lane has had all that was stored before it.
    async fn complete_at_end(&mut self, run: &mut Run) -> Result<bool, Unavailable> {
        let now = Stamp::now();
        if !self.shared.feeds.is_read_to_the_end(&self.id, &run.feed).await? {
            return Ok(false);
        }
        Ok(run.lane.complete_over(&run.asked, u64::MAX, now))
    }

    /// Writes the position, and acknowledges what was passed over up to it.
    async fn checkpoint(&mut self, run: &mut Run) -> Result<(), Unavailable> {
        self.write(&mut run.lane).await?;
        if let Some(passed_over) = run.passed_over.take() {
            passed_over.acknowledge().await?;
        }
        run.passed_over_count = 0;
        run.checkpoint_at = None;
        Ok(())
    }

    /// Writes a lane's state, if it is not what is written already.
    async fn write(&mut self, lane: &mut Lane) -> Result<(), Unavailable> {
        if self.written.as_ref() != Some(lane) {
            lane.updated = Stamp::now();
            self.shared.lanes.put(&self.id, lane).await?;
            self.written = Some(lane.clone());
        }
        Ok(())
    }
}

/// Waits for what makes a lane leave what it is doing.
async fn interruption(
    asked: &mut watch::Receiver<Asked>,
    link: &mut watch::Receiver<Link>,
    generation: u64,
    shutdown: &CancellationToken,
) -> Next {
    let goes_on = tokio::select! {
        () = shutdown.cancelled() => false,
        changed = asked.changed() => changed.is_ok(),
        renewed = link.wait_for(|link| link.generation != generation) => renewed.is_ok(),
    };
    if goes_on { Next::SetUp } else { Next::End }
}

fn attempt_of(sequence: u64, at: Stamp, attempt: u32, duration: Duration, outcome: &Outcome) -> Attempt {
    let has_failed = outcome.verdict() != Verdict::Delivered;
    Attempt {
        sequence,
        at,
        attempt,
        code: outcome.code(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error: has_failed.then(|| outcome.to_string()),
        answer: outcome.answer().filter(|_| has_failed).map(str::to_owned),
    }
}

/// The moment of this process's clock that a moment in UTC is; now for one that has passed.
fn instant_of(moment: Stamp) -> Instant {
    let micros = moment.as_micros().saturating_sub(Stamp::now().as_micros());
    Instant::now() + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
