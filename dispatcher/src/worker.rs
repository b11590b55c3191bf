//! One lane at work: carries out what [`crate::session`] decides.
//!
//! [`Worker::run`] goes from session to session. `set_up` brings the spec, what was written and the source together; `deliver`
//! reads the source, hands what comes to the session, and has its actions carried out (`carry_out`, `requests`); `waiting`
//! waits for what comes next; `log` compares what the lane has had with the log; `source` is where it reads; `trial` tries a
//! target out. Whatever goes wrong with NATS, the worker sets up again from its position. No rule of delivery stands here.

use std::sync::Arc;
use std::time::Duration;

use broker::{Reminder, Unavailable};
use domain::{Lane, Subscription, SubscriptionId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::attempts::Collected;
use crate::metrics::Meter;
use crate::ownership::owned::Takeover;
use crate::push::signer::Signer;
use crate::push::target_client::TargetClient;
use crate::session::{Leave, TargetState};
use crate::shared::{Shared, Spec};

mod carry_out;
mod chore;
mod deliver;
mod log;
mod requests;
mod run;
mod set_up;
mod source;
mod trial;
mod under_way;
mod waiting;

use run::Run;

/// How long to wait before setting up again after a failure.
const SET_UP_RETRY: Duration = Duration::from_millis(250);

/// The same while NATS has no room to write: the next write would most likely fail too.
const NO_ROOM_RETRY: Duration = Duration::from_secs(2);

/// How often what is not written yet is tried to be written at the end.
const LAST_WRITES: u32 = 3;

/// How a worker comes to its lane.
#[derive(Debug, Clone)]
pub(crate) enum Begins {
    /// As the first one of this dispatcher, since the shard was taken.
    First(Takeover),
    /// After another worker of this dispatcher, which may have died.
    Again(Takeover),
}

impl Begins {
    fn takeover(&self) -> &Takeover {
        match self {
            Self::First(takeover) | Self::Again(takeover) => takeover,
        }
    }
}

pub(crate) struct Worker {
    id: SubscriptionId,
    shared: Shared,
    spec: watch::Receiver<Spec>,
    shutdown: CancellationToken,
    /// The truth, once it has been loaded; a session has it while it lasts.
    lane: Option<Lane>,
    /// Whether that is what is in the bucket.
    is_written: bool,
    /// The revision of what is in the bucket.
    revision: u64,
    /// Whether somebody else has written there: it is to be read again.
    is_stale: bool,
    begins: Begins,
    /// When it began: what others have done of this lane was done before.
    began: Instant,
    target: TargetState,
    attempts: Arc<Collected>,
    meter: Meter,
    /// What was told of what interrupts it, again and again.
    told: Reminder,
}

impl Worker {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Shared,
        spec: watch::Receiver<Spec>,
        shutdown: CancellationToken,
        begins: Begins,
    ) -> Self {
        let (attempts, meter) = (Collected::of(id.clone()), shared.metrics.meter(&id));
        Self {
            id,
            shared,
            spec,
            shutdown,
            lane: None,
            is_written: false,
            revision: 0,
            is_stale: false,
            begins,
            began: Instant::now(),
            target: TargetState::default(),
            attempts,
            meter,
            told: Reminder::default(),
        }
    }

    /// Works until the dispatcher stops or nothing is wanted of this lane.
    pub(crate) async fn run(&mut self) {
        self.work().await;
        for _ in 0..LAST_WRITES {
            // A dispatcher that takes the shard over in good order goes by what is written alone.
            let Some(mut lane) = self.lane.clone().filter(|_| !self.is_written && !self.is_stale) else { return };
            if !self.shared.lease.is_valid() || self.write(&mut lane).await.is_ok() {
                return;
            }
            sleep(SET_UP_RETRY).await;
        }
    }

    async fn work(&mut self) {
        loop {
            match self.session().await {
                Ok(Leave::End) => return,
                Ok(Leave::SetUp) => {}
                Err(error) => {
                    let has_no_room = self.shared.broker.storage().is_short_of_room();
                    if self.told.fails(&error) {
                        tracing::warn!(id = %self.id, %error, has_no_room, "lane.interrupted");
                    }
                    tokio::select! {
                        biased;
                        () = self.shutdown.cancelled() => return,
                        () = sleep(if has_no_room { NO_ROOM_RETRY } else { SET_UP_RETRY }) => {}
                    }
                }
            }
        }
    }

    /// From setting up until something changes.
    async fn session(&mut self) -> Result<Leave, Unavailable> {
        let mut link = self.shared.broker.link();
        let generation = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(Leave::End),
            up = link.wait_for(|link| link.is_up) => match up {
                Ok(link) => link.generation,
                Err(_) => return Ok(Leave::End),
            },
        };
        let setting_up = self.shared.setting_up.clone();
        let permit = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(Leave::End),
            permit = setting_up.acquire() => permit,
        };
        let Ok(permit) = permit else { return Ok(Leave::End) };
        if !self.shared.lease.is_valid() {
            return Ok(Leave::End);
        }
        let Some(spec) = self.spec.borrow_and_update().clone() else {
            Box::pin(self.clear_away()).await?;
            return Ok(Leave::End);
        };
        self.meter.is_asked(&spec);
        let (lane, first_sequence, known) = Box::pin(self.set_up(&spec, generation)).await?;
        if let Some(test) = lane.test_due(&spec) {
            drop(permit);
            Box::pin(self.test(lane.clone(), &spec, test)).await?;
            return Ok(Leave::SetUp);
        }
        if !lane.state.is_at_work() {
            let is_completed = lane.state == domain::lane::State::Completed;
            if is_completed {
                self.shared.feeds.remove(&self.id).await?;
            }
            drop(permit);
            if !is_completed {
                self.show(&lane).await;
            }
            return Ok(self.rest().await);
        }
        // What is done seldom is boxed: a lane that waits, of which there are thousands, holds no room for it.
        let (lane, source) = Box::pin(self.open(lane, first_sequence, known.era)).await?;
        drop(permit);
        let mut run = Run::begin(self, spec, lane, source, (&known, first_sequence));
        let left = self.deliver(&mut run).await;
        if left.is_err() {
            self.let_land(&mut run).await;
        }
        let is_written = run.session.is_written();
        if self.spec.borrow().is_none() {
            run.has_shown().await;
        }
        let (lane, target) = run.session.into_parts();
        (self.lane, self.target) = (Some(lane), target);
        self.is_written = is_written && left.is_ok();
        left
    }

    fn client(&self, spec: &Subscription) -> TargetClient {
        self.shared.pusher.to(spec, Signer::open(&self.id, spec, self.shared.secret_keys.as_ref()))
    }

    /// Nothing is to be delivered for now: waits for another spec.
    async fn rest(&mut self) -> Leave {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Leave::End,
            changed = self.spec.changed() => if changed.is_ok() { Leave::SetUp } else { Leave::End },
        }
    }

    /// Nothing is registered any more: leaves nothing behind.
    async fn clear_away(&mut self) -> Result<(), Unavailable> {
        self.shared.feeds.remove(&self.id).await?;
        // By its revision, so that what comes late does not remove what a dispatcher after this one has written.
        let revision = self.shared.lanes.revision(&self.id).await?;
        if !self.shared.lease.is_valid() {
            return Ok(());
        }
        if let Some(revision) = revision
            && !self.shared.lanes.remove(&self.id, revision).await?
        {
            return Err(Unavailable::new("removing a lane's state", "somebody else has written it"));
        }
        self.lane = None;
        if let Err(error) = self.shared.attempts.remove(&self.attempts).await {
            tracing::warn!(id = %self.id, %error, "attempts.left_behind");
        }
        tracing::info!(id = %self.id, "lane.cleared_away");
        Ok(())
    }
}
