//! What every lane's worker shares: made once by the supervisor.

use std::sync::Arc;

use broker::Broker;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::lanes::Lanes;
use domain::{SealingKeys, Subscription};
use spans::Tracer;
use tokio::sync::{Semaphore, watch};

use crate::attempts::Attempts;
use crate::log_watch::LogWatch;
use crate::metrics::Metrics;
use crate::ownership::lease::Lease;
use crate::push::backoff::Backoff;
use crate::push::permits::Permits;
use crate::push::target_client::Pusher;
use crate::source::known_log::KnownLog;
use crate::source::log_bounds::KnownBounds;
use crate::source::position_log::PositionLog;
use crate::source::shared_catch_up::SharedCatchUp;
use crate::source::tail::Tail;
use crate::source::transactions::Transactions;

/// What every lane's worker shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) log: EventLog,
    pub(crate) lanes: Lanes,
    pub(crate) feeds: Feeds,
    pub(crate) pusher: Pusher,
    pub(crate) secret_keys: Option<SealingKeys>,
    pub(crate) backoff: Backoff,
    pub(crate) permits: Permits,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) setting_up: Arc<Semaphore>,
    pub(crate) log_bounds: watch::Receiver<KnownBounds>,
    pub(crate) known_log: Arc<KnownLog>,
    pub(crate) log_watch: Arc<LogWatch>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) lease: Lease,
    pub(crate) tail: Arc<Tail>,
    pub(crate) shared_catch_up: Arc<SharedCatchUp>,
    pub(crate) position_log: Arc<PositionLog>,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
}

/// What a lane is to deliver; `None`: nothing any more.
pub(crate) type Spec = Option<Arc<Subscription>>;
