//! What one lane shows of itself: written by its worker, read by `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use domain::lane::{Lane, Phase, State, Why, Word};
use domain::{Stamp, Subscription, SubscriptionId};

use super::Metrics;
use super::group::{Group, seconds};
use crate::push::verdict::{PushOutcome, Verdict};

/// What a lane is shown as. Each stands where [`index_of`] says.
pub(super) const SHOWN: [&str; 9] =
    ["starting", "active", "held", "paused", "gap", "gone", "completed", "forked", "disabled"];
/// Paused because too many attempts failed, and not by anybody: that is to be told sooner.
const DISABLED: u8 = 8;

/// A worker's end of what its lane shows.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: Metrics,
    group: Arc<Group>,
    figures: Arc<Figures>,
    /// Since when what it replays has been asked for.
    asked_at: Stamp,
}

/// What a lane shows.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) id: SubscriptionId,
    group: Mutex<Arc<Group>>,
    shown: AtomicU8,
    is_replaying: AtomicBool,
    /// How many events wait, as far as the worker knows: what the server had when it sent the newest one.
    waiting: AtomicU64,
    /// Since when the oldest of them has been waiting, in microseconds; 0 where it is not known, or nothing waits.
    waiting_since: AtomicI64,
    /// Whether that one is of the past, or of a redelivery.
    oldest_is_replay: AtomicBool,
    /// How many events are settled, since the worker began.
    settled: AtomicU64,
    /// How many will be when all that the server had is, when it was asked last.
    will_be_settled: AtomicU64,
    /// When it was asked last: a number that grows.
    pub(super) surveyed: AtomicU64,
}

impl Meter {
    pub(super) fn new(id: SubscriptionId, metrics: Metrics) -> Self {
        let group = metrics.group(None);
        let figures = Figures {
            id,
            group: Mutex::new(group.clone()),
            shown: AtomicU8::new(0),
            is_replaying: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            waiting_since: AtomicI64::new(0),
            oldest_is_replay: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            will_be_settled: AtomicU64::new(0),
            surveyed: AtomicU64::new(0),
        };
        Self { metrics, group, figures: Arc::new(figures), asked_at: Stamp::from_micros(0) }
    }

    pub(super) fn weak(&self) -> Weak<Figures> {
        Arc::downgrade(&self.figures)
    }

    /// This is asked of the lane from now on.
    pub(crate) fn is_asked(&mut self, asked: &Subscription) {
        let name = asked.group.as_deref();
        self.group = self.metrics.group(name);
        self.figures.group.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.group);
        let registered = asked.entries.values().map(|entry| entry.registered_at);
        let replayed = asked.redelivery.as_ref().map(|replay| replay.asked_at);
        self.asked_at = registered.chain(replayed).max().unwrap_or(self.asked_at);
    }

    /// The lane is like this.
    pub(crate) fn shows(&self, lane: &Lane) {
        let shown = match &lane.state {
            State::Stopped(stop) if stop.why == Why::Exhausted => DISABLED,
            state => index_of(state.word()),
        };
        self.figures.shown.store(shown, Ordering::Relaxed);
        self.figures.is_replaying.store(lane.phase == Phase::Replaying, Ordering::Relaxed);
    }

    /// So many events wait, and that is the oldest: when it was stored, and whether it is a replay. Where something
    /// waits and the oldest has not been read yet, it is no older than the one before.
    pub(crate) fn waits(&self, events: u64, oldest: Option<(Stamp, bool)>) {
        let since = match oldest {
            Some((stored_at, true)) => stored_at.max(self.asked_at).as_micros(),
            Some((stored_at, false)) => stored_at.as_micros(),
            None if events > 0 => self.figures.waiting_since.load(Ordering::Relaxed),
            None => 0,
        };
        if let Some((_, is_replay)) = oldest {
            self.figures.oldest_is_replay.store(is_replay, Ordering::Relaxed);
        }
        self.figures.waiting.store(events, Ordering::Relaxed);
        self.figures.waiting_since.store(since, Ordering::Relaxed);
    }

    /// So many more messages are settled.
    pub(crate) fn settled(&self, messages: u32) {
        self.figures.settled.fetch_add(u64::from(messages), Ordering::Relaxed);
    }

    /// A request came to its end.
    pub(crate) fn attempted(&self, outcome: &PushOutcome, verdict: &Verdict, duration: Duration) {
        self.group.attempted(outcome, verdict, duration);
    }

    /// The target took an event.
    pub(crate) fn delivered(&self, stored_at: Stamp, is_replay: bool, at: Stamp) {
        self.group.delivered.inc();
        if !is_replay {
            self.group.arrived(stored_at, at);
        }
    }

    /// An event has become a dead letter.
    pub(crate) fn buried(&self) {
        self.group.dead_letters.inc();
    }
}

impl Figures {
    pub(super) fn group(&self) -> Arc<Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where what it is shown as stands in [`SHOWN`].
    pub(super) fn shown(&self) -> usize {
        usize::from(self.shown.load(Ordering::Relaxed))
    }

    /// Whether it delivers, or tries to: what waits for others waits because it is to.
    pub(super) fn is_at_work(&self) -> bool {
        let shown = self.shown.load(Ordering::Relaxed);
        shown == index_of(Word::Active) || shown == index_of(Word::Held)
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.is_replaying.load(Ordering::Relaxed)
    }

    /// How many events wait: as many as the worker knows of, or as NATS has said, less what is settled since.
    pub(super) fn waiting(&self) -> u64 {
        match self.waiting.load(Ordering::Relaxed) {
            // It has had everything: what comes now it would know of at once.
            0 => 0,
            known => {
                let will_be = self.will_be_settled.load(Ordering::Relaxed);
                known.max(will_be.saturating_sub(self.settled.load(Ordering::Relaxed)))
            }
        }
    }

    /// How long the oldest event has been waiting, in seconds.
    pub(super) fn waiting_seconds(&self, now: Stamp) -> f64 {
        match self.waiting_since.load(Ordering::Relaxed) {
            0 => 0.0,
            since => seconds(Stamp::from_micros(since), now),
        }
    }

    /// The same, where that one is neither of the past nor of a redelivery.
    pub(super) fn live_waiting_seconds(&self, now: Stamp) -> f64 {
        if self.oldest_is_replay.load(Ordering::Relaxed) { 0.0 } else { self.waiting_seconds(now) }
    }

    /// How many messages are settled: what is to be told when NATS has said what waits.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// NATS has said how many messages wait, when so many were settled.
    pub(super) fn has_behind(&self, settled: u64, waiting: u64) {
        self.will_be_settled.store(settled + waiting, Ordering::Relaxed);
    }
}

fn index_of(state: Word) -> u8 {
    match state {
        Word::Active => 1,
        Word::Held => 2,
        Word::Paused => 3,
        Word::Gap => 4,
        Word::Gone => 5,
        Word::Completed => 6,
        Word::Forked => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::TargetUrl;

    #[test]
    fn what_nats_has_said_counts_until_it_is_settled_or_nothing_waits() {
        let url = TargetUrl::parse("http://h/").unwrap();
        let meter = Metrics::default().meter(&url.subscription_id());
        let figures = meter.weak().upgrade().unwrap();
        meter.waits(1, None);
        assert_eq!(figures.waiting(), 1, "what the worker knows");
        figures.has_behind(figures.settled(), 10);
        assert_eq!(figures.waiting(), 10);
        meter.settled(4);
        assert_eq!(figures.waiting(), 6);
        meter.waits(8, None);
        assert_eq!(figures.waiting(), 8, "the worker knows of more");
        meter.waits(0, None);
        assert_eq!(figures.waiting(), 0, "NATS may have been asked before the worker had it all");
    }

    #[test]
    fn an_event_waits_since_it_was_stored_and_a_replay_since_it_was_asked_for() {
        let mut subscription = Subscription::new(TargetUrl::parse("http://h/").unwrap());
        let at = |secs: i64| Stamp::from_micros(secs * 1_000_000);
        let replay = domain::subscription::Redelivery {
            id: String::new(),
            asked_at: at(100),
            from_sequence: 1,
            to_sequence: 9,
            from: at(0),
            to: None,
            only: None,
        };
        subscription.redelivery = Some(replay);
        let mut meter = Metrics::default().meter(&subscription.url.subscription_id());
        let figures = meter.weak().upgrade().unwrap();
        meter.is_asked(&subscription);
        for (oldest, waits) in [
            (Some((at(50), false)), 70.0),
            (Some((at(50), true)), 20.0),
            (Some((at(110), true)), 10.0),
            (None, 10.0),
            (Some((at(130), false)), 0.0),
        ] {
            meter.waits(1, oldest);
            assert_eq!(figures.waiting_seconds(at(120)), waits, "{oldest:?}");
        }
        meter.waits(0, None);
        assert_eq!(figures.waiting_seconds(at(120)), 0.0);
    }
}
