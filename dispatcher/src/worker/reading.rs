//! Reading the feed into the window, and taking into the lane what is settled there.

use std::sync::Arc;
use std::time::Duration;

use broker::Unavailable;
use broker::feed::{ACK_WAIT, Delivery, FeedError, MAX_OUT};
use domain::lane::Phase;
use domain::{Event, Stamp};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::source::Source;
use super::waiting::{Calls, Came};
use super::window::{Load, Slot, Stage};
use super::{Next, Run, Worker, instant_of};
use crate::failpoints;
use crate::source::log_bounds::KnownBounds;

/// How long a position may have moved before it is written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How many events may be passed over before the position is written and they are acknowledged: half of what may be out
/// at once, so that the server never waits for it.
const MAX_PASSED_OVER: u32 = MAX_OUT / 2;
/// How many events may be settled before they are acknowledged, while there are more to come: after a crash they may come
/// again. An acknowledgement of each costs nats-server as much as sending the event.
const MAX_UNACKNOWLEDGED: u32 = 32;
/// For how long, where events take longer.
const LONGEST_UNACKNOWLEDGED: Duration = Duration::from_millis(10);
/// What the server has for a lane that waits comes sooner than this, or is missed sooner (see `consumer::pull`): a request may
/// get lost, what is lost on the way comes again after [`ACK_WAIT`], and on a cluster the consumer may be without a leader for
/// a while, or its leader behind the stream's.
const LONG_ENOUGH: Duration = Duration::from_secs(ACK_WAIT.as_secs() + 15);
/// How often a lane to which nothing comes writes that it has missed nothing.
const NOTE_INTERVAL: Duration = Duration::from_secs(600);
/// How many sequences in a row may be of no concern to a lane before it looks whether they are still in the log.
const MAX_SKIPPED: u64 = 100;
/// How often a lane that reads its consumer looks whether it has caught up with the tail.
const JOIN_INTERVAL: Duration = Duration::from_secs(5);
/// How often one that follows the tail and is among the past looks whether that has caught up with the log.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// For how long the consumer of a lane that follows the tail may show where the lane was.
const SHOW_INTERVAL: Duration = Duration::from_secs(15);
/// How long to wait before looking again whether a feed has been read to its end.
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Run {
    /// Notes that there was nothing for this lane in the log, where it has been waiting long enough to say so: what the
    /// server has for it comes at once.
    fn note_what_was_not_there(&mut self, log_bounds: KnownBounds) {
        if let Source::Tail(follower) = &self.source {
            if let Some(to) = follower.has_all_to().filter(|_| self.window.is_empty()) {
                self.lane.is_clear_to(to);
            }
            return;
        }
        if self.window.is_empty() && log_bounds.settled_at.is_some_and(|at| at >= self.waiting_since + LONG_ENOUGH) {
            self.lane.is_clear_to(log_bounds.settled_to);
        }
    }

    /// Says when to look again whether the lane has caught up, if it has not.
    fn look_again(&mut self) {
        let interval = match &self.source {
            Source::Consumer(_) | Source::Past(_) => Some(JOIN_INTERVAL),
            Source::Tail(_) => self.lane.awaits_the_end(&self.asked).then_some(END_INTERVAL),
        };
        self.look_at = interval.map(|interval| Instant::now() + interval);
    }

    /// The newest sequence that has been read, or else settled.
    pub(super) fn read_to(&self) -> u64 {
        self.window.newest().unwrap_or(self.lane.position)
    }
}

impl Worker {
    /// Reads the feed and has each event taken, until something changes.
    pub(super) async fn deliver(&mut self, run: &mut Run) -> Result<Next, Unavailable> {
        let mut calls = Calls::of(self, run.generation);
        if run.source.backlog() == 0 && run.lane.read_to_the_end(&run.asked) {
            run.checkpoint_at = Some(Instant::now());
        }
        run.end_check_at = run.lane.next_over(&run.asked).map(instant_of);
        run.note_at = Instant::now() + NOTE_INTERVAL.mul_f64(0.5 + rand::random::<f64>());
        run.look_again();
        run.show_by(Instant::now());
        loop {
            let came = match run.at_hand(&calls) {
                Some(message) => Came::Message(message),
                None => match self.send_what_may_go(run).await? {
                    Some(next) => return Ok(next),
                    None => run.what_comes(&mut calls).await,
                },
            };
            let next = match came {
                Came::Message(message) => self.read(run, message).await?,
                Came::Landed(landed) => self.landed(run, landed).await?,
                Came::KnownBounds(log_bounds) => self.is_cut_short(run, log_bounds).await?.then_some(Next::SetUp),
                Came::Alarm => self.do_what_is_due(run).await?,
                Came::Change(next) => {
                    run.note_what_was_not_there(*self.shared.log_bounds.borrow());
                    Some(next)
                }
            };
            self.show_waiting(run);
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// Takes in a message. Answers what is next, where that is not simply the next message.
    async fn read(&mut self, run: &mut Run, message: Result<Delivery, FeedError>) -> Result<Option<Next>, Unavailable> {
        let delivery = match message {
            Ok(delivery) => delivery,
            Err(FeedError::Unavailable(error)) => return Err(error),
            Err(FeedError::Unreadable) if !run.window.is_empty() => {
                // It is passed over by a feed that is opened right before it: so all before it is settled first.
                run.window.close();
                return Ok(None);
            }
            Err(why @ (FeedError::Gap { .. } | FeedError::Behind | FeedError::Ended | FeedError::Unreadable)) => {
                tracing::info!(id = %self.id, %why, "lane.reads_again");
                return Ok(Some(Next::SetUp));
            }
        };
        // Not by words that are not the last ones.
        let is_asked_anew = self.asked.has_changed().unwrap_or(true);
        if is_asked_anew || self.skips_what_was_removed(run, &delivery).await? {
            return Ok(Some(Next::SetUp));
        }
        self.take_in(run, delivery).await?;
        self.settle(run).await
    }

    /// Does what it is time for.
    async fn do_what_is_due(&mut self, run: &mut Run) -> Result<Option<Next>, Unavailable> {
        let now = Instant::now();
        if run.note_at <= now {
            run.note_what_was_not_there(*self.shared.log_bounds.borrow());
            run.note_at = now + NOTE_INTERVAL;
            run.checkpoint_at = Some(now);
        }
        if run.checkpoint_at.is_some_and(|at| at <= now) {
            self.checkpoint(run).await?;
        }
        if run.look_at.is_some_and(|at| at <= now) {
            if !run.source.is_tail() {
                Box::pin(self.go_over_to_tail(run)).await?;
            }
            if run.source.is_tail() && run.source.backlog() == 0 && run.window.is_empty() {
                run.lane.read_to_the_end(&run.asked);
                run.checkpoint_at = Some(now);
            }
            run.look_again();
        }
        if run.show_at.is_some_and(|at| at <= now) {
            run.show_at = None;
            self.checkpoint(run).await?;
            if !run.source.is_consumer() {
                run.showing.push(self.show(&run.lane));
            }
        }
        if run.end_check_at.is_some_and(|at| at <= now) {
            run.end_check_at = Some(now + END_CHECK_INTERVAL);
            return Ok(self.complete_at_end(run).await?.then_some(Next::SetUp));
        }
        Ok(None)
    }

    /// Takes in, while it waits for more, that the log is cut. Answers whether that may have cut off something which this
    /// lane has not been given.
    async fn is_cut_short(&mut self, run: &mut Run, log_bounds: KnownBounds) -> Result<bool, Unavailable> {
        run.note_what_was_not_there(log_bounds);
        let lacks = run.lane.may_lack(log_bounds.first_sequence);
        if !lacks && self.written.as_ref().is_some_and(|written| written.may_lack(log_bounds.first_sequence)) {
            self.checkpoint(run).await?;
        }
        Ok(lacks)
    }

    /// Whether something may have been removed from the log between what was read last and what came next, while the
    /// server still had it to give.
    async fn skips_what_was_removed(&self, run: &mut Run, delivery: &Delivery) -> Result<bool, Unavailable> {
        let skipped = delivery.sequence.saturating_sub(run.read_to() + 1);
        if run.source.is_tail() || skipped == 0 || run.waiting_since.elapsed() >= LONG_ENOUGH {
            return Ok(false);
        }
        let known = self.shared.log_bounds.borrow().first_sequence;
        let first = if skipped > MAX_SKIPPED { self.shared.log.bounds().await?.first_sequence } else { known };
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
            run.lane.comes(sequence);
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
            None => tracing::warn!(id = %self.id, sequence, "lane.no_event_passed_over"),
        }
        if failpoints::acknowledges_early() {
            slot.delivery.acknowledge().await?;
            if !run.source.is_consumer() {
                self.shared.position_log.note(&run.lane.epoch.to_string(), sequence);
            }
        }
        run.window.add(slot);
        Ok(())
    }

    /// Decides whether and how an event is to be delivered, where all before it will have been.
    async fn decide(&mut self, run: &mut Run, slot: &mut Slot<Delivery>, event: Arc<Event>) -> Result<(), Unavailable> {
        let lane = run.ahead.as_mut().unwrap_or(&mut run.lane);
        slot.reached_end = lane.complete_over(&run.asked, event.sequence, event.stored_at);
        let lacks = lane.lacks(&run.asked, &event);
        let found = self.shared.transactions.find(&event, &lacks).await?;
        let due = lane.due(&run.asked, &event, &found);
        let previous = lane.last_delivered;
        if due.is_some() {
            slot.stage = if lane.has_taken(&run.asked, &event) { Stage::Taken } else { Stage::Waiting(None) };
        }
        if let Some(ahead) = &mut run.ahead {
            let active = ahead.active_entries();
            if due.is_some() {
                ahead.delivered(&run.asked, &event, &found);
            } else {
                ahead.skipped(&run.asked, &event);
            }
            if slot.reached_end || ahead.active_entries() < active {
                run.window.close();
            }
        }
        let failure = run.lane.failure().filter(|failure| failure.sequence == event.sequence);
        if let (Some(failure), Stage::Waiting(_)) = (failure, slot.stage) {
            slot.attempts = failure.attempts;
            slot.failure = Some(failure.clone());
            slot.stage = match run.asked.delivery.max_attempts {
                Some(most) if slot.attempts >= most => Stage::Exhausted,
                _ => Stage::Waiting(failure.next_attempt.map(instant_of)),
            };
        }
        slot.load = Some(Load { event, found, due, previous });
        Ok(())
    }

    /// Takes into the lane what is settled at the front of the window, and acknowledges it. Answers what is next, where
    /// that is not simply the next message.
    pub(super) async fn settle(&mut self, run: &mut Run) -> Result<Option<Next>, Unavailable> {
        if !run.window.first().is_some_and(|slot| slot.stage.is_settled()) {
            return Ok(None);
        }
        let (was_held, active) = (run.lane.failure().is_some(), run.lane.active_entries());
        let (mut acknowledged, mut must_write, mut reached_end, mut is_last) = (None, false, false, false);
        let mut settled = 0;
        while let Some(slot) = run.window.pop_settled() {
            is_last = slot.backlog == 0;
            settled += 1;
            reached_end |= slot.reached_end;
            if let Some(next) = run.window.first() {
                run.lane.comes(next.sequence);
            }
            let Some(Load { event, found, .. }) = &slot.load else {
                run.lane.passed_over(slot.sequence);
                run.pass_over(slot.delivery);
                continue;
            };
            run.lane.complete_over(&run.asked, event.sequence, event.stored_at);
            match slot.stage {
                Stage::Passed => {
                    must_write |= run.lane.skipped(&run.asked, event);
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
        self.meter.settled(settled);
        if run.lane.failure().is_none()
            && let Some(failure) = run.window.first_failure()
        {
            run.lane.failed(failure.clone());
        }
        if acknowledged.is_some() {
            if must_write || was_held {
                self.write(&mut run.lane).await?;
            }
            run.unacknowledged = acknowledged;
            run.unacknowledged_count += settled;
            let is_due = run.unacknowledged_count >= MAX_UNACKNOWLEDGED
                || run.acknowledged_at.elapsed() >= LONGEST_UNACKNOWLEDGED;
            if must_write || is_last || is_due {
                self.acknowledge(run).await?;
            }
        }
        if run.passed_over_count >= MAX_PASSED_OVER {
            self.checkpoint(run).await?;
        }
        let now = Instant::now();
        if is_last && run.window.is_empty() {
            if run.lane.read_to_the_end(&run.asked) {
                run.checkpoint_at = Some(now);
            }
            if !run.source.is_tail() {
                run.look_at = Some(now);
            }
        }
        run.note_standing();
        run.show_by(now + SHOW_INTERVAL);
        run.waiting_since = now;
        run.checkpoint_at.get_or_insert(now + CHECKPOINT_INTERVAL);
        let is_narrower = reached_end || run.lane.active_entries() < active;
        Ok(is_narrower.then_some(Next::SetUp))
    }

    /// Acknowledges what is settled. A dispatcher whose lease is over does not: the consumer of that name may be its
    /// successor's by now.
    pub(super) async fn acknowledge(&self, run: &mut Run) -> Result<(), Unavailable> {
        (run.unacknowledged_count, run.acknowledged_at) = (0, Instant::now());
        match (run.unacknowledged.take(), &run.source) {
            (Some(_), _) if !self.shared.lease.is_valid() => Ok(()),
            (Some(delivery), Source::Consumer(_)) => delivery.acknowledge().await,
            (Some(delivery), Source::Past(_) | Source::Tail(_)) => {
                self.shared.position_log.note(&run.lane.epoch.to_string(), delivery.sequence);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Waits for the requests that are under way, and writes what came of them if nobody reads on here.
    pub(super) async fn wind_up(
        &mut self,
        run: &mut Run,
        next: Result<Next, Unavailable>,
    ) -> Result<Next, Unavailable> {
        if self.asked.borrow().is_none() {
            // It must not make the consumer that is about to be removed.
            while run.showing.next().await.is_some() {}
        }
        run.showing.clear();
        while let Some(landed) = run.under_way.next().await {
            self.take_note(run, &landed);
        }
        self.settle(run).await?;
        self.acknowledge(run).await?;
        if matches!(next, Ok(Next::End)) {
            self.checkpoint(run).await?;
        }
        next
    }

    /// Completes what has come to its end, if the lane has had all that was stored before it.
    async fn complete_at_end(&mut self, run: &mut Run) -> Result<bool, Unavailable> {
        let now = Stamp::now();
        if !run.window.is_empty() {
            return Ok(false);
        }
        let is_read_to_the_end = match &run.source {
            Source::Consumer(own) => self.shared.feeds.is_read_to_the_end(&self.id, &own.feed).await?,
            // It goes over to the tail first.
            Source::Past(_) => false,
            Source::Tail(follower) => {
                let end = self.shared.log.last_sequence().await?;
                follower.has_all_to().is_some_and(|to| to >= end)
            }
        };
        if !is_read_to_the_end {
            return Ok(false);
        }
        Ok(run.lane.complete_over(&run.asked, u64::MAX, now))
    }

    /// Writes the position, and acknowledges what was passed over up to it.
    async fn checkpoint(&mut self, run: &mut Run) -> Result<(), Unavailable> {
        self.write(&mut run.lane).await?;
        if let Some(passed_over) = run.passed_over.take() {
            run.unacknowledged = Some(passed_over);
        }
        self.acknowledge(run).await?;
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
