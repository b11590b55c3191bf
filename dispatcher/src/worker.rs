//! One lane at work: what `domain::Lane` decides, carried out.
//!
//! Its states are methods: [`Worker::set_up`] brings what was asked for, what was written and the consumer together;
//! [`Worker::deliver`] reads the feed; `Worker::push` (in `trying`) has one event taken by the target, however often it
//! must be tried; [`Worker::rest`] waits while nothing is to be done; [`Worker::clear_away`] ends it all. Whatever goes wrong
//! with NATS, the worker sets up again from its position.

use std::sync::Arc;
use std::time::Duration;

use broker::feed::{Delivery, Feed, FeedError, MAX_OUT, Want};
use broker::{Link, Unavailable};
use domain::lane::gap::{Beginning, Loss};
use domain::lane::{Gap, Lane, Phase, State};
use domain::{Stamp, Subscription, SubscriptionId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::extent::Extent;
use crate::fleet::{Asked, Shared};
use crate::signer::Signer;
use crate::tenure::Takeover;

mod trying;

use trying::{Left, Manners};

/// How long to wait before setting up again after a failure.
const SET_UP_RETRY: Duration = Duration::from_millis(250);
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

pub(crate) struct Worker {
    id: SubscriptionId,
    shared: Shared,
    asked: watch::Receiver<Asked>,
    shutdown: CancellationToken,
    /// The truth, once it has been loaded.
    lane: Option<Lane>,
    /// What is known to be in the bucket, and its revision.
    written: Option<Lane>,
    revision: u64,
    /// Whether somebody else has written there: it is to be read again.
    is_stale: bool,
    takeover: Takeover,
    manners: Manners,
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
    signer: Signer,
    feed: Feed,
    lane: Lane,
    /// The link's generation that the feed was opened on.
    generation: u64,
    /// Passed over and not acknowledged yet: the newest of them, and how many.
    passed_over: Option<Delivery>,
    passed_over_count: u32,
    /// When the position has to be written, while there is something to write.
    checkpoint_at: Option<Instant>,
    /// Since when it has been waiting for the next message.
    waiting_since: Instant,
}

impl Run {
    /// Notes that there was nothing for this lane in the log, where it has been waiting long enough to say so: what the
    /// server has for it comes at once.
    fn note_what_was_not_there(&mut self, extent: Extent) {
        if extent.settled_at.is_some_and(|at| at >= self.waiting_since + LONG_ENOUGH) {
            self.lane.is_clear_to(extent.settled_to);
        }
    }
}

impl Worker {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Shared,
        asked: watch::Receiver<Asked>,
        shutdown: CancellationToken,
        takeover: Takeover,
    ) -> Self {
        let manners = Manners::default();
        Self { id, shared, asked, shutdown, lane: None, written: None, revision: 0, is_stale: false, takeover, manners }
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
        if !self.shared.lease.is_valid() {
            return Ok(Next::End);
        }
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
        if matches!(lane.state, State::Paused | State::Gap | State::Gone) {
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
        let mut run = Run {
            signer: self.signer(&asked),
            asked,
            feed,
            lane,
            generation,
            passed_over: None,
            passed_over_count: 0,
            checkpoint_at: None,
            waiting_since: Instant::now(),
        };
        let next = self.deliver(&mut run).await;
        self.lane = Some(run.lane);
        next
    }

    /// Brings together what is asked for and what is, and writes the outcome before anything is done about it.
    async fn set_up(&mut self, asked: &Subscription) -> Result<Lane, Unavailable> {
        if self.lane.is_none() || self.is_stale {
            self.load().await?;
            self.is_stale = false;
        }
        let fresh_epoch = Uuid::now_v7().to_string();
        let mut lane = Lane::reconcile(self.lane.as_ref(), asked, &fresh_epoch);
        let span = self.shared.log.span().await?;
        let (position, last_sequence) = (lane.position, span.last_sequence);
        if lane.follow_log_back(last_sequence, &fresh_epoch) {
            tracing::error!(id = %self.id, position, last_sequence, "lane.log_was_rolled_back");
        }
        if self.lane.as_ref().is_some_and(|before| before.gap.is_some() && before.resumption != asked.resumption) {
            // The log may have been cut further since the gap was noticed: whoever resumes wants to go on.
            lane.go_on_at(span.first_sequence);
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
        let (revision, written) = self.shared.lanes.get(&self.id).await?;
        let mut lane = written.clone();
        let standing = self.shared.feeds.standing(&self.id).await?;
        if let (Some(lane), Some(standing)) = (&mut lane, standing)
            && standing.epoch == lane.epoch
            && standing.floor > lane.position
            && self.shared.log.get(standing.floor).await?.is_some()
        {
            lane.adopt_floor(standing.floor);
        }
        if let (Some(lane), Takeover::Fenced) = (&mut lane, self.takeover) {
            // Another consumer: what the dispatcher before may still read from the old one is nobody's.
            lane.epoch = Uuid::now_v7().to_string();
        }
        (self.written, self.revision, self.lane) = (written, revision, lane);
        Ok(())
    }

    fn signer(&self, asked: &Subscription) -> Signer {
        Signer::open(&self.id, asked, self.shared.secret_keys.as_ref())
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
        if let Err(error) = self.shared.attempts.remove(&self.id).await {
            tracing::warn!(id = %self.id, %error, "attempts.left_behind");
        }
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
                    run.note_what_was_not_there(*self.shared.extent.borrow());
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
                () = sleep_until(note_at) => {
                    run.note_what_was_not_there(*self.shared.extent.borrow());
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
            if self.asked.has_changed().unwrap_or(true) {
                // Not by words that are not the last ones.
                return Ok(Next::SetUp);
            }
            if self.skips_what_was_removed(run, &delivery).await? {
                return Ok(Next::SetUp);
            }
            run.lane.is_clear_to(delivery.sequence - 1);
            let is_last = delivery.backlog == 0;
            if let Some(next) = self.take(run, delivery).await? {
                return Ok(next);
            }
            if is_last && run.lane.read_to_the_end(&run.asked) {
                run.checkpoint_at = Some(Instant::now());
            }
            run.waiting_since = Instant::now();
            run.checkpoint_at.get_or_insert_with(|| Instant::now() + CHECKPOINT_INTERVAL);
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

    /// Whether something may have been removed from the log between the position and what came next, while the server
    /// still had it to give.
    async fn skips_what_was_removed(&self, run: &Run, delivery: &Delivery) -> Result<bool, Unavailable> {
        let skipped = delivery.sequence.saturating_sub(run.lane.position + 1);
        if skipped == 0 || run.waiting_since.elapsed() >= LONG_ENOUGH {
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
        let left = self.push(run, event, &due).await?;
        let was_held = run.lane.state == State::Held;
        let active = run.lane.active_entries();
        let must_write = match left {
            Left::For(next) => return Ok(Some(next)),
            Left::Taken => run.lane.delivered(&run.asked, event, &found),
            Left::Buried => {
                run.lane.dead_lettered(&run.asked, event, &found);
                true
            }
        };
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
            match self.shared.lanes.put(&self.id, lane, self.revision).await? {
                Some(revision) => (self.revision, self.written) = (revision, Some(lane.clone())),
                None => {
                    self.is_stale = true;
                    return Err(Unavailable::new("writing a lane's state", "somebody else has written it"));
                }
            }
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
