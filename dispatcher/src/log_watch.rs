//! Whether the log is the one that it was: looked at after every connect, before anything is delivered, and again and again.
//!
//! What stood where is recorded in the bucket `LOG` while the log grows; lanes and the tail remember what they had last. Where
//! something of that is not in the log, the log has become another one: a new epoch is declared, and every lane is set up anew,
//! behind what both logs share. Holes are looked for as well: on every connect, every minute, and where something is missing that
//! was not. The decision is `domain::log_epoch::judge`'s; `look` carries it out, `holes` that of `domain::log_holes`; `scan`
//! reads all of the log for holes that nats-server does not count. Of several dispatchers each
//! looks for itself; who writes first has declared it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use broker::event_log::EventLog;
use broker::lanes::Lanes;
use broker::log_records::LogRecords;
use broker::log_scan::LogScans;
use broker::positions::Positions;
use broker::{Broker, Unavailable};
use domain::log_epoch::{LogRecord, Mark};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

mod holes;
mod look;
mod scan;

use holes::Holes;
use look::Looking;

use crate::metrics::Metrics;
use crate::source::known_log::KnownLog;
use crate::source::log_bounds::KnownBounds;
use crate::source::tail::Tail;

/// How often the newest event that was read is taken note of.
const NOTE_INTERVAL: Duration = Duration::from_millis(200);
/// How often the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After how many looks in a row that failed it is told.
const FAILED_TO_BE_TOLD: u32 = 5;
/// How many events that were read are remembered until the next look.
const MAX_NOTED: usize = 64;

/// Looks at the log.
pub(crate) struct LogWatch {
    broker: Broker,
    log: EventLog,
    records: LogRecords,
    lanes: Lanes,
    positions: Positions,
    tail: Arc<Tail>,
    metrics: Metrics,
    log_bounds: Arc<watch::Sender<KnownBounds>>,
    known: Arc<KnownLog>,
    holes: Holes,
    scans: LogScans,
    /// One look at a time.
    looking: tokio::sync::Mutex<Looking>,
}

impl LogWatch {
    pub(crate) fn new(
        broker: &Broker,
        log: EventLog,
        tail: Arc<Tail>,
        metrics: Metrics,
        (known, log_bounds): (Arc<KnownLog>, Arc<watch::Sender<KnownBounds>>),
    ) -> Arc<Self> {
        Arc::new(Self {
            broker: broker.clone(),
            log,
            records: LogRecords::new(broker.clone()),
            lanes: Lanes::new(broker.clone()),
            positions: Positions::new(broker.clone()),
            tail,
            metrics,
            log_bounds,
            known,
            holes: Holes::default(),
            scans: LogScans::new(broker),
            looking: tokio::sync::Mutex::default(),
        })
    }

    /// Somebody had an event that is not in the log with this number: looks whether that is so, and declares another epoch where
    /// it is. Where the log was found to be another one since, that is no news.
    pub(crate) async fn lacks(&self, mark: Mark, log: u64) -> Result<(), Unavailable> {
        self.look(log, &[mark]).await
    }

    /// Looks at the log for ever.
    pub(crate) async fn keep_looking(&self) -> Infallible {
        let mut link = self.broker.link();
        let mut tick = interval(NOTE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut noted, mut noted_in, mut looked_at, mut failed) = (VecDeque::new(), 0, None::<Instant>, 0_u32);
        self.broker.until_ready().await;
        loop {
            let log = self.known.now().era.log;
            if std::mem::replace(&mut noted_in, log) != log {
                // Somebody has found the log to be another one meanwhile.
                noted.clear();
            }
            if let Some(newest) = self.tail.newest_of(log).filter(|newest| noted.back() != Some(newest)) {
                noted.push_back(newest);
                noted.drain(..noted.len().saturating_sub(MAX_NOTED));
            }
            let now = *link.borrow_and_update();
            let is_new = !self.known.is_of(now.generation);
            let is_due = is_new || looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
            if now.is_up && is_due {
                looked_at = Some(Instant::now());
                // Before lanes are told that the log was looked at.
                self.keep_holes_known(now.generation).await;
                match self.look(log, noted.make_contiguous()).await {
                    Ok(()) => {
                        failed = 0;
                        // The newest one stays: it is looked at once more, after what comes next was read.
                        noted.drain(..noted.len().saturating_sub(1));
                    }
                    Err(error) => {
                        failed = failed.saturating_add(1);
                        if failed == FAILED_TO_BE_TOLD {
                            tracing::warn!(%error, failed, "log.look_failed");
                        } else {
                            tracing::debug!(%error, failed, "log.look_failed");
                        }
                    }
                }
            }
            tokio::select! {
                _ = tick.tick() => {}
                changed = link.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    }

    /// Tells what is known from now on.
    fn publish(&self, generation: u64, record: Option<LogRecord>) {
        if let Some(record) = &record {
            self.metrics.log_is(record);
        }
        let known = self.known.after(generation, record);
        KnownBounds::is_of_log(&self.log_bounds, known.era.log);
        self.known.is(known);
        self.broker.log_gate().is_looked_at(generation);
    }
}
