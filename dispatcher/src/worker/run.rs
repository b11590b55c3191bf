//! One session at work: what it reads from, and what is under way for it.

use std::sync::Arc;

use broker::feed::Delivery;
use domain::{Lane, Stamp, Subscription, TypePattern};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use tokio::time::Instant;

use super::Worker;
use super::chore::Chore;
use super::source::Source;
use super::under_way::UnderWay;
use crate::push::target_client::TargetClient;
use crate::session::window::Load;
use crate::session::{Begin, Landed, NOTE_INTERVAL, Now, Reads, Session};
use crate::source::known_log::{Era, Known};

/// A session, and what is done for it.
pub(super) struct Run {
    pub(super) session: Session<Delivery>,
    pub(super) source: Source,
    pub(super) client: Arc<TargetClient>,
    /// The requests to the target.
    pub(super) under_way: UnderWay<Landed>,
    /// What else was begun for the session.
    pub(super) chores: FuturesUnordered<BoxFuture<'static, Chore>>,
    /// The consumer is being shown where the lane is. It may hold a permit that others wait for.
    pub(super) showing: FuturesUnordered<BoxFuture<'static, ()>>,
    /// The connection and the log that the source was opened on.
    pub(super) era: Era,
    /// Whether its source gives every event: a sequence that it does not give holds none.
    pub(super) reads_all: bool,
    /// With which sequence the log began.
    pub(super) begins_with: u64,
    /// The log's name, as deliveries carry it.
    pub(super) log_epoch: Option<HeaderValue>,
    /// The lane's epoch as it is written in the position log.
    pub(super) epoch: String,
    /// What the source and the meter were told last: position, how many are in the window, how many are settled.
    pub(super) told: (u64, usize, u64),
}

/// This moment.
pub(super) fn now() -> Now {
    Now { at: Instant::now().into_std(), utc: Stamp::now() }
}

impl Run {
    pub(super) fn begin(
        worker: &mut Worker,
        spec: Arc<Subscription>,
        lane: Lane,
        source: Source,
        (known, begins_with): (&Known, u64),
    ) -> Self {
        let (position, backlog, reads) = (lane.position, source.backlog(), source.reads());
        tracing::debug!(id = %worker.id, position, backlog, ?reads, "lane.reading");
        worker.meter.waits(backlog, None);
        let client = Arc::new(worker.client(&spec));
        let epoch = lane.epoch.to_string();
        let reads_all = lane.filters.iter().any(TypePattern::is_everything) && reads != Reads::Tail;
        let begin = Begin {
            id: worker.id.clone(),
            spec,
            lane,
            reads,
            holes: worker.shared.log_watch.holes(),
            backlog,
            target: std::mem::take(&mut worker.target),
            backoff: worker.shared.backoff,
            first_note: NOTE_INTERVAL.mul_f64(0.5 + rand::random::<f64>()),
        };
        // The session has the truth while it lasts.
        worker.lane = None;
        Self {
            session: Session::new(begin, now()),
            source,
            client,
            under_way: UnderWay::new(),
            chores: FuturesUnordered::new(),
            showing: FuturesUnordered::new(),
            era: known.era,
            reads_all,
            begins_with,
            log_epoch: known.epoch().and_then(|epoch| HeaderValue::from_str(epoch.as_str()).ok()),
            epoch,
            told: (0, 0, 0),
        }
    }

    /// Another source is told how far the lane has come.
    pub(super) fn tells_anew(&mut self) {
        self.told.1 = usize::MAX;
    }

    /// What shows where the lane is has ended.
    pub(super) async fn has_shown(&mut self) {
        // It must not make the consumer that is about to be removed.
        while self.showing.next().await.is_some() {}
    }
}

/// When an event that is to be delivered was stored, and whether it comes because somebody asked for the past.
pub(super) fn told(load: &Load) -> Option<(Stamp, bool)> {
    Some((load.event.stored_at, load.due.as_ref()?.is_of_the_past()))
}
