//! Reading the feed into the window, and taking into the lane what is settled there.

use std::sync::Arc;
use std::time::Duration;

use broker::Unavailable;
use broker::feed::{Delivery, FeedError, MAX_OUT};
use domain::lane::{Phase, State};
use domain::{Event, Stamp};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::window::{Load, Slot, Stage};
use super::{Next, Run, Worker, at, instant_of, interruption};
use crate::extent::Extent;
use crate::sabotage;

/// How long a position may have moved before it is written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How many events may be passed over before the position is written and they are acknowledged: half of what may be out
/// at once, so that the server never waits for it.
const MAX_PASSED_OVER: u32 = MAX_OUT / 2;
/// What the server has for a lane that waits comes sooner than this.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// How often a lane to which nothing comes writes that it has missed nothing.
const NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// How many sequences in a row may be of no concern to a lane before it looks whether they are still in the log.
const MAX_SKIPPED: u64 = 100;
/// How long to wait before looking again whether a feed has been read to its end.
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Run {
    /// Notes that there was nothing for this lane in the log, where it has been waiting long enough to say so: what the
    /// server has for it comes at once.
    fn note_what_was_not_there(&mut self, extent: Extent) {
        if self.window.is_empty() && extent.settled_at.is_some_and(|at| at >= self.waiting_since + LONG_ENOUGH) {
            self.lane.is_clear_to(extent.settled_to);
        }
    }

    /// The newest sequence that has been read, or else settled.
    fn read_to(&self) -> u64 {
        self.window.newest().unwrap_or(self.lane.position)
    }

    /// When to look again whether something may be sent.
    fn next_look(&self) -> Option<Instant> {
        self.turn_at.into_iter().chain(self.window.next_look(Instant::now())).min()
    }
}

impl Worker {
    /// Reads the feed and has each event taken, until something changes.
    pub(super) async fn deliver(&mut self, run: &mut Run) -> Result<Next, Unavailable> {
        let mut link = self.shared.broker.link();
        if run.feed.backlog == 0 && run.lane.read_to_the_end(&run.asked) {
            run.checkpoint_at = Some(Instant::now());
        }
        let mut end_check = run.lane.next_over(&run.asked).map(instant_of);
        let mut extent = self.shared.extent.clone();
        let mut note_at = Instant::now() + NOTE_INTERVAL.mul_f64(0.5 + rand::random::<f64>());
        loop {
            // A batch takes in what has come already before it goes.
            let has_come = if run.window.is_batched() && !run.window.is_empty() && run.window.wants_more() {
                run.feed.next().now_or_never()
            } else {
                None
            };
            if has_come.is_none()
                && let Some(next) = self.send_what_may_go(run).await?
            {
                return Ok(next);
            }
            let look_at = if has_come.is_none() { run.next_look() } else { None };
            let delivery = match has_come {
                Some(delivery) => delivery,
                None => tokio::select! {
                    next = interruption(&mut self.asked, &mut link, run.generation, &self.shutdown) => {
                        run.note_what_was_not_there(*self.shared.extent.borrow());
                        return Ok(next);
                    }
                    Some(landed) = run.under_way.next() => {
                        if let Some(next) = self.landed(run, landed).await? {
                            return Ok(next);
                        }
                        continue;
                    }
                    () = at(look_at) => continue,
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
                    () = sleep_until(note_at) => {
                        run.note_what_was_not_there(*self.shared.extent.borrow());
                        self.checkpoint(run).await?;
                        note_at = Instant::now() + NOTE_INTERVAL;
                        continue;
                    }
                    delivery = run.feed.next(), if run.window.wants_more() => delivery,
                },
            };
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(FeedError::Unavailable(error)) => return Err(error),
                Err(gap @ FeedError::Gap { .. }) => {
                    tracing::info!(id = %self.id, %gap, "lane.reads_again");
                    return Ok(Next::SetUp);
                }
            };
            if self.asked.has_changed().unwrap_or(true) {
                // Not by words that are not the last ones.
                return Ok(Next::SetUp);
            }
            if self.skips_what_was_removed(run, &delivery).await? {
                return Ok(Next::SetUp);
            }
            self.take_in(run, delivery).await?;
            if let Some(next) = self.settle(run).await? {
                return Ok(next);
            }
        }
    }

    /// Takes in, while it waits for more, that the log is cut. Answers whether that may have cut off something which this
    /// lane has not been given.
    async fn is_cut_short(&mut self, run: &mut Run, extent: Extent) -> Result<bool, Unavailable> {
        run.note_what_was_not_there(extent);
        let lacks = run.lane.may_lack(extent.first_sequence);
        if !lacks && self.written.as_ref().is_some_and(|written| written.may_lack(extent.first_sequence)) {
            self.checkpoint(run).await?;
        }
        Ok(lacks)
    }

    /// Whether something may have been removed from the log between what was read last and what came next, while the
    /// server still had it to give.
    async fn skips_what_was_removed(&self, run: &mut Run, delivery: &Delivery) -> Result<bool, Unavailable> {
        let skipped = delivery.sequence.saturating_sub(run.read_to() + 1);
        if skipped == 0 || run.waiting_since.elapsed() >= LONG_ENOUGH {
            return Ok(false);
        }
        let known = self.shared.extent.borrow().first_sequence;
        let first = if skipped > MAX_SKIPPED { self.shared.log.span().await?.first_sequence } else { known };
        Ok(run.lane.may_lack(first))
    }

    /// Decides about one message of the feed, and puts it into the window.
    async fn take_in(&mut self, run: &mut Run, delivery: Delivery) -> Result<(), Unavailable> {
        let sequence = delivery.sequence;
        run.waiting_since = Instant::now();
        if run.window.newest().is_some_and(|newest| sequence <= newest) {
            // It comes again because it has been out for long; it is in the window.
            return Ok(());
        }
        if run.window.is_empty() {
            run.lane.is_clear_to(sequence - 1);
            run.ahead = run.window.reads_ahead().then(|| run.lane.clone());
        }
        let backlog = delivery.backlog;
        let mut slot = Slot {
            sequence,
            backlog,
            load: None,
            reached_end: false,
            stage: Stage::Passed,
            attempts: 0,
            failure: None,
            delivery,
        };
        match slot.delivery.event.take() {
            Some(event) => self.decide(run, &mut slot, event).await?,
            None => tracing::warn!(id = %self.id, sequence, "lane.illegal_type_passed_over"),
        }
        if sabotage::acknowledges_early() {
            slot.delivery.acknowledge().await?;
        }
        run.window.add(slot);
        Ok(())
    }

    /// Decides whether and how an event is to be delivered, where all before it will have been.
    async fn decide(&mut self, run: &mut Run, slot: &mut Slot<Delivery>, event: Event) -> Result<(), Unavailable> {
        let lane = run.ahead.as_mut().unwrap_or(&mut run.lane);
        slot.reached_end = lane.complete_over(&run.asked, event.sequence, event.stored_at);
        let lacks = lane.lacks(&run.asked, &event);
        let found = self.shared.transactions.find(&event, &lacks).await?;
        let due = lane.due(&run.asked, &event, &found);
        let previous = lane.last_delivered;
        if due.is_some() {
            slot.stage = if lane.had.contains(&event.sequence) { Stage::Taken } else { Stage::Waiting(None) };
        }
        if let Some(ahead) = &mut run.ahead {
            let active = ahead.active_entries();
            if due.is_some() {
                ahead.delivered(&run.asked, &event, &found);
            } else {
                ahead.skipped(&run.asked, &event, &found);
            }
            if slot.reached_end || ahead.active_entries() < active {
                run.window.close();
            }
        }
        let failure = run.lane.failure.as_ref().filter(|failure| failure.sequence == event.sequence);
        if let (Some(failure), Stage::Waiting(_)) = (failure, slot.stage) {
            slot.attempts = failure.attempts;
            slot.failure = Some(failure.clone());
            slot.stage = match run.asked.delivery.max_attempts {
                Some(most) if slot.attempts >= most => Stage::Exhausted,
                _ => Stage::Waiting(failure.next_attempt.map(instant_of)),
            };
        }
        slot.load = Some(Load { event: Arc::new(event), found, due, previous });
        Ok(())
    }

    /// Takes into the lane what is settled at the front of the window, and acknowledges it. Answers what is next, where
    /// that is not simply the next message.
    pub(super) async fn settle(&mut self, run: &mut Run) -> Result<Option<Next>, Unavailable> {
        if !run.window.first().is_some_and(|slot| slot.stage.is_settled()) {
            return Ok(None);
        }
        let (was_held, active) = (run.lane.state == State::Held, run.lane.active_entries());
        let (mut acknowledged, mut must_write, mut reached_end, mut is_last) = (None, false, false, false);
        while let Some(slot) = run.window.pop_settled() {
            is_last = slot.backlog == 0;
            reached_end |= slot.reached_end;
            if let Some(next) = run.window.first() {
                run.lane.is_clear_to(next.sequence - 1);
            }
            let Some(Load { event, found, .. }) = &slot.load else {
                run.lane.passed_over(slot.sequence);
                run.pass_over(slot.delivery);
                continue;
            };
            run.lane.complete_over(&run.asked, event.sequence, event.stored_at);
            match slot.stage {
                Stage::Passed => {
                    run.lane.skipped(&run.asked, event, found);
                    run.pass_over(slot.delivery);
                    continue;
                }
                Stage::Buried => {
                    run.lane.dead_lettered(&run.asked, event, found);
                    must_write = true;
                }
                _ => must_write |= run.lane.delivered(&run.asked, event, found),
            }
            if event.sequence >= run.lane.live_from(&run.asked) {
                run.lane.phase = Phase::Live;
            }
            acknowledged = Some(slot.delivery);
            (run.passed_over, run.passed_over_count) = (None, 0);
        }
        if run.lane.failure.is_none()
            && let Some(failure) = run.window.first_failure()
        {
            run.lane.failed(failure.clone());
        }
        if let Some(acknowledged) = acknowledged {
            if must_write || was_held {
                self.write(&mut run.lane).await?;
            }
            self.acknowledge(&acknowledged).await?;
        }
        if run.passed_over_count >= MAX_PASSED_OVER {
            self.checkpoint(run).await?;
        }
        if is_last && run.window.is_empty() && run.lane.read_to_the_end(&run.asked) {
            run.checkpoint_at = Some(Instant::now());
        }
        run.waiting_since = Instant::now();
        run.checkpoint_at.get_or_insert_with(|| Instant::now() + CHECKPOINT_INTERVAL);
        let is_narrower = reached_end || run.lane.active_entries() < active;
        Ok(is_narrower.then_some(Next::SetUp))
    }

    /// Acknowledges a message and all before it. A dispatcher whose lease is over does not: the consumer of that name may be
    /// its successor's by now.
    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), Unavailable> {
        if self.shared.lease.is_valid() { delivery.acknowledge().await } else { Ok(()) }
    }

    /// Waits for the requests that are under way, and writes what came of them if nobody reads on here.
    pub(super) async fn wind_up(
        &mut self,
        run: &mut Run,
        next: Result<Next, Unavailable>,
    ) -> Result<Next, Unavailable> {
        while let Some(landed) = run.under_way.next().await {
            self.take_note(run, &landed);
        }
        self.settle(run).await?;
        if matches!(next, Ok(Next::End)) {
            self.checkpoint(run).await?;
        }
        next
    }

    /// Completes what has come to its end, if the lane has had all that was stored before it.
    async fn complete_at_end(&mut self, run: &mut Run) -> Result<bool, Unavailable> {
        let now = Stamp::now();
        if !run.window.is_empty() || !self.shared.feeds.is_read_to_the_end(&self.id, &run.feed).await? {
            return Ok(false);
        }
        Ok(run.lane.complete_over(&run.asked, u64::MAX, now))
    }

    /// Writes the position, and acknowledges what was passed over up to it.
    async fn checkpoint(&mut self, run: &mut Run) -> Result<(), Unavailable> {
        self.write(&mut run.lane).await?;
        if let Some(passed_over) = run.passed_over.take() {
            self.acknowledge(&passed_over).await?;
        }
        run.passed_over_count = 0;
        run.checkpoint_at = None;
        Ok(())
    }
}

impl Run {
    /// Nobody wants this one. It is acknowledged with the next delivery or checkpoint, so that what the consumer has
    /// acknowledged beyond the written position was always delivered.
    fn pass_over(&mut self, delivery: Delivery) {
        self.passed_over = Some(delivery);
        self.passed_over_count += 1;
    }
}
