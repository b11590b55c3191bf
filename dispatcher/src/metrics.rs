//! What the dispatcher counts, and what its lanes show of themselves.
//!
//! - `group`: what is counted for all lanes of a group. Workers hold what they count with, so counting an attempt looks
//!   nothing up. `groups`: which there are, so many at most.
//! - `meter`: what one lane shows: numbers that its worker writes without a lock, added up by group when somebody asks.
//! - `survey`: asking NATS now and then how much waits for lanes that stand still.
//!
//! Nothing here has a URL or an id for a label.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use domain::log_epoch::LogRecord;
use domain::{Stamp, SubscriptionId};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::ownership::lease::Lease;
use crate::ownership::owned::Owned;
use group::{Group, OUTCOMES};
use groups::Groups;
use meter::{Figures, SHOWN};

pub(crate) use meter::Meter;

mod group;
mod groups;
mod meter;
pub(crate) mod survey;

/// What the dispatcher counts. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    groups: Groups,
    /// Those whose workers have gone go when somebody looks.
    lanes: Mutex<Vec<Weak<Figures>>>,
    deaths: Counter,
    /// How many names the log has had, and when it was last found to be another one, in seconds since 1970.
    log_epochs: AtomicU64,
    log_forked_at: AtomicU64,
    /// How many events the log has lost, and how many more are missing in it.
    log_lost: AtomicU64,
    log_missing_earlier: AtomicU64,
    log_holes_found: Counter,
    /// How many subscriptions are gone that nobody has removed.
    subscriptions_lost: AtomicU64,
    ownership: Mutex<Option<(watch::Receiver<Owned>, Lease)>>,
}

/// What the lanes of a group show, added up.
#[derive(Debug, Default)]
struct Sum {
    lanes: [u64; SHOWN.len()],
    replays: u64,
    waiting: u64,
    /// How long the oldest one has been waiting, in seconds.
    oldest: f64,
    /// The same of those of which it is no event of the past.
    oldest_live: f64,
}

impl Metrics {
    /// Registers all of it.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// What a lane's new worker counts with.
    pub(crate) fn meter(&self, id: &SubscriptionId) -> Meter {
        let meter = Meter::new(id.clone(), self.clone());
        self.lanes().push(meter.weak());
        meter
    }

    /// What is counted for a group.
    fn group(&self, name: Option<&str>) -> Arc<Group> {
        self.0.groups.get(name)
    }

    /// Where it is to be seen what this dispatcher works on.
    pub(crate) fn shows(&self, owned: watch::Receiver<Owned>, lease: Lease) {
        // There is one dispatcher in a process, and one that has begun anew takes its place.
        *self.0.ownership.lock().unwrap_or_else(PoisonError::into_inner) = Some((owned, lease));
    }

    /// This is recorded of the log.
    pub(crate) fn log_is(&self, record: &LogRecord) {
        let forked_at = record.epochs().iter().rfind(|epoch| epoch.is_fork).map_or(0, |epoch| epoch.at.as_micros());
        let forked_at = u64::try_from(forked_at / 1_000_000).unwrap_or(0);
        self.0.log_epochs.store(record.epochs().len() as u64, Ordering::Relaxed);
        self.0.log_forked_at.store(forked_at, Ordering::Relaxed);
    }

    /// So many events are missing in the middle of the log: lost ones, and those that are only reported.
    pub(crate) fn holes_are(&self, lost: u64, reported: u64) {
        self.0.log_lost.store(lost, Ordering::Relaxed);
        self.0.log_missing_earlier.store(reported, Ordering::Relaxed);
    }

    /// A hole in the log was found that was not known.
    pub(crate) fn hole_found(&self) {
        self.0.log_holes_found.inc();
    }

    /// So many subscriptions are gone that nobody has removed.
    pub(crate) fn subscriptions_lost(&self, subscriptions: usize) {
        self.0.subscriptions_lost.store(subscriptions as u64, Ordering::Relaxed);
    }

    /// A worker has died.
    pub(crate) fn lane_died(&self) {
        self.0.deaths.inc();
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Figures>>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the lanes that there are show.
    fn figures(&self) -> Vec<Arc<Figures>> {
        let mut lanes = self.lanes();
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.iter().filter_map(Weak::upgrade).collect()
    }

    /// The lanes by group; of groups without lanes nothing.
    fn sums(&self, now: Stamp) -> BTreeMap<Arc<str>, Sum> {
        let mut sums: BTreeMap<Arc<str>, Sum> = BTreeMap::new();
        for figures in self.figures() {
            let sum = sums.entry(figures.group().name.clone()).or_default();
            sum.lanes[figures.shown()] += 1;
            if figures.is_at_work() {
                sum.replays += u64::from(figures.is_replaying());
                sum.waiting += figures.waiting();
                sum.oldest = sum.oldest.max(figures.waiting_seconds(now));
                sum.oldest_live = sum.oldest_live.max(figures.live_waiting_seconds(now));
            }
        }
        sums
    }
}

impl Metrics {
    /// Which log it is.
    fn encode_log(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let epochs = ConstGauge::new(self.0.log_epochs.load(Ordering::Relaxed));
        let help = "Names that the log has had; 0 where it has none.";
        epochs.encode(encoder.encode_descriptor("log_epochs", help, None, MetricType::Gauge)?)?;
        let forked_at = ConstGauge::new(self.0.log_forked_at.load(Ordering::Relaxed));
        let help = "When the log was last found to be another one than before, since 1970; 0: never.";
        let unit = Some(&Unit::Seconds);
        forked_at.encode(encoder.encode_descriptor("log_forked_timestamp", help, unit, MetricType::Gauge)?)?;
        let help = "Events that are missing in the middle of the log. reported: they were when mer first looked, or a limit \
                    for each type removed them.";
        let mut family = encoder.encode_descriptor("log_missing_events", help, None, MetricType::Gauge)?;
        for (kind, missing) in [("lost", &self.0.log_lost), ("reported", &self.0.log_missing_earlier)] {
            ConstGauge::new(missing.load(Ordering::Relaxed)).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let help = "Holes in the log that this dispatcher was the first to see.";
        self.0.log_holes_found.encode(encoder.encode_descriptor("log_holes_found", help, None, MetricType::Counter)?)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        // Sums before groups: a lane that comes in between is missing, and its group is not.
        let sums = self.sums(Stamp::now());
        let groups = self.0.groups.all();
        let nothing = Sum::default();
        let sum_of = |group: &Group| sums.get(&group.name).unwrap_or(&nothing);

        let mut counts = |name, help, of: fn(&Group) -> &Counter| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            each(family, &groups, |group, encoder| of(group).encode(encoder))
        };
        let help = "Events that targets have taken, each time one of them took one.";
        counts("events_delivered", help, |group| &group.delivered)?;
        counts("dead_letters", "Events that were given up, and are dead letters.", |group| &group.dead_letters)?;

        let help = "Requests that were made to targets, by what came of them.";
        let mut family = encoder.encode_descriptor("delivery_attempts", help, None, MetricType::Counter)?;
        for group in &groups {
            for (outcome, counter) in OUTCOMES.iter().zip(&group.attempts) {
                counter.encode(family.encode_family(&[("group", &*group.name), ("outcome", outcome)])?)?;
            }
        }
        let help = "How long one request to a target took.";
        let family =
            encoder.encode_descriptor("delivery_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        each(family, &groups, |group, encoder| group.delivery.encode(encoder))?;
        let help = "From storing an event until its target took it, for those that are no replay.";
        let family =
            encoder.encode_descriptor("end_to_end_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        each(family, &groups, |group, encoder| group.end_to_end.encode(encoder))?;

        let mut family = encoder.encode_descriptor("lanes", "Lanes, by state.", None, MetricType::Gauge)?;
        for group in &groups {
            for (state, lanes) in SHOWN.iter().zip(sum_of(group).lanes) {
                let labels = [("group", &*group.name), ("state", state)];
                ConstGauge::new(lanes).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut gauges = |name, help, of: fn(&Sum) -> u64| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            each(family, &groups, |group, encoder| ConstGauge::new(of(sum_of(group))).encode(encoder))
        };
        let help = "Lanes among events from before a registration, or of a replay.";
        gauges("replays_in_progress", help, |sum| sum.replays)?;
        gauges("lag_events", "Events that wait to be delivered, once for each lane.", |sum| sum.waiting)?;
        let help = "How long the one that has been waiting longest has been.";
        let family = encoder.encode_descriptor("lag", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        each(family, &groups, |group, encoder| ConstGauge::new(sum_of(group).oldest).encode(encoder))?;
        let help = "The same, of lanes of which it is no event from before a registration, or of a replay.";
        let family = encoder.encode_descriptor("live_lag", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        each(family, &groups, |group, encoder| ConstGauge::new(sum_of(group).oldest_live).encode(encoder))?;

        let mut gauge = |name, help, value: u64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let ownership = self.0.ownership.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shards = ownership.as_ref().map_or(0, |(owned, _)| owned.borrow().len());
        gauge("lease_shards", "Shards, of 64, that this dispatcher works on.", shards as u64)?;
        let is_valid = ownership.is_some_and(|(_, lease)| lease.is_valid());
        gauge("lease_valid", "Whether this dispatcher's lease lasts, so that it may push.", u64::from(is_valid))?;
        let lost = self.0.subscriptions_lost.load(Ordering::Relaxed);
        gauge(
            "subscriptions_lost",
            "Lanes of this dispatcher whose subscriptions are gone, and were not removed.",
            lost,
        )?;
        self.encode_log(&mut encoder)?;
        let help = "Workers that died, and were started again.";
        self.0.deaths.encode(encoder.encode_descriptor("lane_deaths", help, None, MetricType::Counter)?)
    }
}

fn each(
    mut family: MetricEncoder<'_>,
    groups: &[Arc<Group>],
    encode: impl Fn(&Group, MetricEncoder<'_>) -> Result<(), std::fmt::Error>,
) -> Result<(), std::fmt::Error> {
    groups.iter().try_for_each(|group| encode(group, family.encode_family(&[("group", &*group.name)])?))
}
