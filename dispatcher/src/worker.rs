//! One lane at work: what `domain::Lane` decides, carried out.
//!
//! Its states are methods: [`Worker::set_up`] brings what was asked for, what was written and the consumer together;
//! `Worker::deliver` (in `reading`) reads the feed into a `window` and settles what the target has; `trying` has it take
//! what is in the window, however often that must be tried; `source` is where it reads; [`Worker::rest`] waits while
//! nothing is to be done; [`Worker::clear_away`] ends it all. Whatever goes wrong with NATS, the worker sets up again from
//! its position.

use std::sync::Arc;
use std::time::Duration;

use broker::feed::Delivery;
use broker::{Link, Unavailable};
use domain::lane::gap::{Beginning, Loss};
use domain::lane::{Epoch, Gap, Lane, State};
use domain::{Stamp, Subscription, SubscriptionId};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::attempts::Collected;
use crate::failpoints;
use crate::metrics::Meter;
use crate::ownership::owned::Takeover;
use crate::push::signer::Signer;
use crate::push::target_client::TargetClient;
use crate::shared::{Shared, Spec};

mod metering;
mod reading;
mod source;
mod trying;
mod under_way;
mod waiting;
mod window;

use source::Source;
use trying::{Landed, Manners};
use under_way::UnderWay;
use window::Window;

/// How long to wait before setting up again after a failure.
const SET_UP_RETRY: Duration = Duration::from_millis(250);
pub(crate) struct Worker {
    id: SubscriptionId,
    shared: Shared,
    asked: watch::Receiver<Spec>,
    shutdown: CancellationToken,
    /// The truth, once it has been loaded.
    lane: Option<Lane>,
    /// What is known to be in the bucket, and its revision.
    written: Option<Lane>,
    revision: u64,
    /// Whether somebody else has written there: it is to be read again.
    is_stale: bool,
    takeover: Takeover,
    /// When it began: what others have done of this lane was done before.
    began: Instant,
    manners: Manners,
    attempts: Arc<Collected>,
    meter: Meter,
}

/// Why a state was left.
enum Next {
    /// Something changed: set up again.
    SetUp,
    /// The dispatcher stops, or nothing is asked of this lane any more.
    End,
}

/// What reading one lane from one source needs.
struct Run {
    asked: Arc<Subscription>,
    client: Arc<TargetClient>,
    source: Source,
    lane: Lane,
    /// The lane as it will be when all that is in the window is settled, where that may be more than one event.
    ahead: Option<Lane>,
    window: Window<Delivery>,
    /// The requests to the target.
    under_way: UnderWay<Landed>,
    /// The link's generation that the source was opened on.
    generation: u64,
    /// Passed over and not acknowledged yet: the newest of them, and how many.
    passed_over: Option<Delivery>,
    passed_over_count: u32,
    /// When the position has to be written, while there is something to write.
    checkpoint_at: Option<Instant>,
    /// Settled and not acknowledged yet: the newest of them, and how many.
    unacknowledged: Option<Delivery>,
    unacknowledged_count: u32,
    acknowledged_at: Instant,
    /// When to look whether the lane has caught up, while it has not: with the tail, or that with the log.
    look_at: Option<Instant>,
    /// When the consumer has to show where the lane is, while it follows the tail.
    show_at: Option<Instant>,
    /// That, while it is under way.
    showing: FuturesUnordered<BoxFuture<'static, ()>>,
    /// When it has to be looked whether an entry's end is over, while one has an end.
    end_check_at: Option<Instant>,
    /// When it is written that nothing was missed.
    note_at: Instant,
    /// When it was last written that an event is held.
    held_written_at: Option<Instant>,
    /// When the rate that was asked for lets the next delivery begin, while one waits for that.
    turn_at: Option<Instant>,
    /// Since when it has been waiting for the next message.
    waiting_since: Instant,
}

impl Worker {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Shared,
        asked: watch::Receiver<Spec>,
        shutdown: CancellationToken,
        takeover: Takeover,
    ) -> Self {
        let (attempts, meter) = (Collected::of(id.clone()), shared.metrics.meter(&id));
        Self {
            id,
            shared,
            asked,
            shutdown,
            lane: None,
            written: None,
            revision: 0,
            is_stale: false,
            takeover,
            began: Instant::now(),
            manners: Manners::default(),
            attempts,
            meter,
        }
    }

    /// Works until the dispatcher stops or nothing is asked of this lane.
    pub(crate) async fn run(&mut self) {
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
            Box::pin(self.clear_away()).await?;
            return Ok(Next::End);
        };
        self.meter.is_asked(&asked);
        let (mut lane, first_sequence) = Box::pin(self.set_up(&asked)).await?;
        if let Some(test) = lane.test_due(&asked) {
            drop(permit);
            Box::pin(self.test(lane.clone(), &asked, test)).await?;
            return Ok(Next::SetUp);
        }
        if lane.state == State::Completed {
            self.shared.feeds.remove(&self.id).await?;
            drop(permit);
            return Ok(self.rest().await);
        }
        if !lane.state.is_at_work() {
            drop(permit);
            self.show(&lane).await;
            return Ok(self.rest().await);
        }
        // What is done seldom is boxed: a lane that waits, of which there are thousands, holds no room for it.
        let source = Box::pin(self.open(&mut lane, first_sequence, generation)).await?;
        drop(permit);
        let (position, backlog, follows) = (lane.position, source.backlog(), source.is_tail());
        tracing::debug!(id = %self.id, position, backlog, follows, "lane.reading");
        let mut window = Window::new(&asked.delivery);
        window.is_behind(backlog);
        self.meter.waits(backlog, None);
        let mut run = Run {
            client: Arc::new(self.client(&asked)),
            window,
            asked,
            source,
            lane,
            ahead: None,
            under_way: UnderWay::new(),
            generation,
            passed_over: None,
            passed_over_count: 0,
            checkpoint_at: None,
            unacknowledged: None,
            unacknowledged_count: 0,
            acknowledged_at: Instant::now(),
            look_at: None,
            show_at: None,
            showing: FuturesUnordered::new(),
            end_check_at: None,
            note_at: Instant::now(),
            held_written_at: None,
            turn_at: None,
            waiting_since: Instant::now(),
        };
        // Until this ends the truth is in there.
        self.lane = None;
        let next = self.deliver(&mut run).await;
        let next = Box::pin(self.wind_up(&mut run, next)).await;
        self.lane = Some(run.lane);
        next
    }

    /// Brings together what is asked for and what is, and writes the outcome before anything is done about it. Answers
    /// it, and with which sequence the log begins.
    async fn set_up(&mut self, asked: &Subscription) -> Result<(Lane, u64), Unavailable> {
        if self.lane.is_none() || self.is_stale {
            if self.is_stale {
                self.began = Instant::now();
            }
            self.load().await?;
            self.is_stale = false;
        }
        let fresh_epoch = source::fresh_epoch();
        let mut lane = Lane::reconcile(self.lane.as_ref(), asked, Epoch::WithoutConsumer(fresh_epoch.clone()));
        failpoints::misplace(&mut lane, self.lane.as_ref(), asked);
        let span = self.shared.log.bounds().await?;
        let (position, last_sequence) = (lane.position, span.last_sequence);
        if lane.follow_log_back(last_sequence, &fresh_epoch) {
            tracing::error!(id = %self.id, position, last_sequence, "lane.log_was_rolled_back");
        }
        if self
            .lane
            .as_ref()
            .is_some_and(|before| before.state.gap().is_some() && before.resumption != asked.resumption)
        {
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
        Ok((lane, span.first_sequence))
    }

    /// Goes on where an earlier worker left off.
    async fn load(&mut self) -> Result<(), Unavailable> {
        let (revision, written) = self.shared.lanes.get(&self.id).await?;
        let mut lane = written.clone();
        if let Some(lane) = &mut lane
            && let Some(floor) = self.floor(lane).await?
        {
            lane.adopt_floor(floor);
        }
        if let (Some(lane), Takeover::Fenced) = (&mut lane, self.takeover)
            && !failpoints::has_no_fencing()
        {
            // Another consumer: what the dispatcher before may still read from the old one is nobody's.
            lane.epoch = Epoch::WithoutConsumer(source::fresh_epoch());
        }
        (self.written, self.revision, self.lane) = (written, revision, lane);
        Ok(())
    }

    /// What a lane has delivered beyond what is written of it, as far as is known.
    async fn floor(&self, lane: &Lane) -> Result<Option<u64>, Unavailable> {
        if !lane.epoch.has_consumer() {
            return Ok(self.shared.position_log.position(&lane.epoch.to_string(), self.began).await);
        }
        let standing =
            self.shared.feeds.standing(&self.id).await?.filter(|standing| standing.epoch == lane.epoch.to_string());
        let Some(floor) = standing.map(|standing| standing.floor).filter(|floor| *floor > lane.position) else {
            return Ok(None);
        };
        Ok(self.shared.log.get(floor).await?.map(|_| floor))
    }

    fn client(&self, asked: &Subscription) -> TargetClient {
        self.shared.pusher.to(asked, Signer::open(&self.id, asked, self.shared.secret_keys.as_ref()))
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
        if let Err(error) = self.shared.attempts.remove(&self.attempts).await {
            tracing::warn!(id = %self.id, %error, "attempts.left_behind");
        }
        tracing::info!(id = %self.id, "lane.cleared_away");
        Ok(())
    }

    /// Writes a lane's state, if it is not what is written already.
    async fn write(&mut self, lane: &mut Lane) -> Result<(), Unavailable> {
        self.meter.shows(lane);
        if self.written.as_ref() != Some(lane) {
            lane.updated = Stamp::now();
            if failpoints::has_no_fencing() {
                (self.revision, _) = self.shared.lanes.get(&self.id).await?;
            }
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
    asked: &mut watch::Receiver<Spec>,
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
