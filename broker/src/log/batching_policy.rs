//! The batching policy: whether events are published one by one or written as batches. It compares how long the server takes
//! over one event and over a batch, for the events that are under way.
//!
//! Nothing of it is a setting: both times are measured all the time, from the writes themselves. The way to the server counts
//! on both sides, so a server that is far away makes no difference.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Fewer events than these are never a batch. The time of one event among fewer says more of the way to the server than of
/// the server, so it is not measured.
const FEWEST: u32 = 8;
/// The times before anything is measured. A server that flushes its files now and then takes 10 to 70 µs over an event, one
/// that flushes them for each event 230 to 1,800 µs. Over a batch both take 3 to 20 ms, and gathering its events takes a
/// moment.
const PER_EVENT: Duration = Duration::from_micros(20);
const PER_BATCH: Duration = Duration::from_millis(5);
/// Over about how many events, and how many batches, the averages are taken.
const EVENTS_REMEMBERED: u32 = 64;
const BATCHES_REMEMBERED: u32 = 2;
/// Batching begins where it is faster by half, and goes on while it is faster, so that it does not begin and end all the time.
const TO_BEGIN: (u32, u32) = (3, 2);
const TO_GO_ON: (u32, u32) = (1, 1);

/// What has been measured, and how events are written now.
pub(crate) struct BatchingPolicy(Mutex<PolicyState>);

struct PolicyState {
    /// How many events have come and are not answered yet.
    under_way: u32,
    /// How many of them are being published by themselves.
    alone: u32,
    is_batch_under_way: bool,
    is_together: bool,
    per_event: Duration,
    per_batch: Duration,
    /// When a batch was last measured, or given up.
    batch_seen: Instant,
}

/// An event that has come and is not answered yet.
pub(crate) struct PendingEvent<'a> {
    policy: &'a BatchingPolicy,
    /// Whether it waits for a batch.
    pub(crate) waits: bool,
}

/// An event that is being published by itself.
pub(crate) struct SingleWrite<'a> {
    policy: &'a BatchingPolicy,
    since: Instant,
    /// How many were being published when it was sent, itself included; `None` where its time is not measured.
    among: Option<u32>,
}

/// A batch that is being written.
pub(crate) struct BatchWrite<'a> {
    policy: &'a BatchingPolicy,
    since: Instant,
}

impl BatchingPolicy {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(PolicyState {
            under_way: 0,
            alone: 0,
            is_batch_under_way: false,
            is_together: false,
            per_event: PER_EVENT,
            per_batch: PER_BATCH,
            batch_seen: Instant::now(),
        }))
    }

    /// An event has come. It never waits where it is the only one.
    pub(crate) fn arrive(&self) -> PendingEvent<'_> {
        let mut state = self.state();
        state.under_way += 1;
        state.is_together = state.is_together || state.batch_pays(Instant::now());
        PendingEvent { policy: self, waits: state.is_together && state.under_way > 1 }
    }

    /// An event is about to be published by itself.
    pub(crate) fn begin_single(&self) -> SingleWrite<'_> {
        let mut state = self.state();
        state.alone += 1;
        let is_telling = state.alone >= FEWEST && !state.is_batch_under_way;
        SingleWrite { policy: self, since: Instant::now(), among: is_telling.then_some(state.alone) }
    }

    /// A batch is about to be written, whose events have been gathered since `since`.
    pub(crate) fn begin_batch(&self, since: Instant) -> BatchWrite<'_> {
        self.state().is_batch_under_way = true;
        BatchWrite { policy: self, since }
    }

    /// Whether the events that have waited are still to be a batch. If not, the next event does not wait.
    pub(crate) fn keeps_batching(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        state.is_together = state.batch_pays(now);
        if !state.is_together {
            state.batch_seen = now;
        }
        state.is_together
    }

    /// Whether so many events are written sooner as a batch than one by one.
    pub(crate) fn batch_pays_for(&self, count: usize) -> bool {
        self.state().batch_pays_for(u32::try_from(count).unwrap_or(u32::MAX), TO_GO_ON, Instant::now())
    }

    /// How long a batch takes, with the gathering of its events.
    pub(crate) fn per_batch(&self) -> Duration {
        self.state().per_batch
    }

    fn state(&self) -> MutexGuard<'_, PolicyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PolicyState {
    /// Whether all events that are under way are written sooner as a batch.
    fn batch_pays(&self, now: Instant) -> bool {
        self.batch_pays_for(self.under_way, if self.is_together { TO_GO_ON } else { TO_BEGIN }, now)
    }

    /// Whether so many events take longer one by one than as a batch, by more than this ratio.
    fn batch_pays_for(&self, count: u32, (batches, singles): (u32, u32), now: Instant) -> bool {
        let one_by_one = self.per_event.saturating_mul(count);
        count >= FEWEST && one_by_one.saturating_mul(singles) > self.per_batch_by(now) * batches
    }

    /// How long a batch takes. An older measurement counts for less, so that one slow batch does not end batching for good.
    fn per_batch_by(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.batch_seen).as_secs();
        self.per_batch / u32::try_from(age).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// The average with one more measurement. One that is far above it counts for little: it may be a hiccup.
fn average(known: Duration, measured: Duration, remembered: u32) -> Duration {
    (known * (remembered - 1) + measured.min(known * 2)) / remembered
}

impl Drop for PendingEvent<'_> {
    fn drop(&mut self) {
        self.policy.state().under_way -= 1;
    }
}

impl SingleWrite<'_> {
    /// It was acknowledged. The time it took is shared among all that were being published.
    pub(crate) fn acknowledged(self) {
        if let Some(among) = self.among {
            let mut state = self.policy.state();
            state.per_event = average(state.per_event, self.since.elapsed() / among, EVENTS_REMEMBERED);
        }
    }
}

impl Drop for SingleWrite<'_> {
    fn drop(&mut self) {
        self.policy.state().alone -= 1;
    }
}

impl BatchWrite<'_> {
    /// All of it was answered, even if its events had to be published by themselves in the end.
    pub(crate) fn answered(self) {
        let mut state = self.policy.state();
        state.per_batch = average(state.per_batch, self.since.elapsed(), BATCHES_REMEMBERED);
        state.batch_seen = Instant::now();
    }
}

impl Drop for BatchWrite<'_> {
    fn drop(&mut self) {
        self.policy.state().is_batch_under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::time::advance;

    /// A server that takes so long over an event, and over a batch.
    #[derive(Clone, Copy)]
    struct Server {
        per_event: Duration,
        per_batch: Duration,
    }

    const FLUSHES_FOR_EACH: Server =
        Server { per_event: Duration::from_micros(230), per_batch: Duration::from_micros(3500) };
    const FLUSHES_NOW_AND_THEN: Server = Server { per_event: Duration::from_micros(15), ..FLUSHES_FOR_EACH };

    impl Server {
        async fn take_one_by_one(self, policy: &BatchingPolicy, count: usize) {
            let all: Vec<_> = (0..count).map(|_| policy.begin_single()).collect();
            for one in all {
                advance(self.per_event).await;
                one.acknowledged();
            }
        }

        async fn take_batch(self, policy: &BatchingPolicy) {
            let writing = policy.begin_batch(Instant::now());
            advance(self.per_batch).await;
            writing.answered();
        }

        /// So many times, so many events come at once, and are written as the policy says. Answers how many were
        /// written as batches.
        async fn serve(self, policy: &BatchingPolicy, times: usize, at_once: usize) -> usize {
            let mut together = 0;
            for _ in 0..times {
                let entries: Vec<_> = (0..at_once).map(|_| policy.arrive()).collect();
                let waiting = entries.iter().filter(|entry| entry.waits).count();
                self.take_one_by_one(policy, at_once - waiting).await;
                if waiting > 0 && policy.keeps_batching() && policy.batch_pays_for(waiting) {
                    self.take_batch(policy).await;
                    together += waiting;
                } else {
                    self.take_one_by_one(policy, waiting).await;
                }
            }
            together
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_written_together_only_where_that_is_faster() {
        let policy = BatchingPolicy::new();
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&policy, 1000, 64).await, 0);
        assert!(FLUSHES_FOR_EACH.serve(&policy, 100, 64).await > 90 * 63, "soon nearly all are");
        assert_eq!(FLUSHES_FOR_EACH.serve(&policy, 100, 4).await, 0, "few are not");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_alone_never_waits_whatever_was_measured() {
        let policy = BatchingPolicy::new();
        FLUSHES_FOR_EACH.serve(&policy, 100, 512).await;
        assert!(!policy.arrive().waits);
        let (_first, second) = (policy.arrive(), policy.arrive());
        assert!(second.waits, "until it is seen that they are few");
        assert!(!policy.keeps_batching());
        assert!(!policy.arrive().waits);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_become_fast_is_written_to_one_by_one_after_a_few_probes() {
        let policy = BatchingPolicy::new();
        FLUSHES_FOR_EACH.serve(&policy, 100, 64).await;
        for _ in 0..6 {
            FLUSHES_NOW_AND_THEN.take_one_by_one(&policy, 32).await;
        }
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&policy, 1, 64).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hiccup_decides_nothing() {
        let policy = BatchingPolicy::new();
        let stalls = Server { per_event: Duration::from_millis(10), per_batch: Duration::from_secs(3) };
        FLUSHES_NOW_AND_THEN.serve(&policy, 100, 64).await;
        stalls.take_one_by_one(&policy, 32).await;
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&policy, 1, 64).await, 0);

        FLUSHES_FOR_EACH.serve(&policy, 100, 64).await;
        stalls.take_batch(&policy).await;
        assert_eq!(FLUSHES_FOR_EACH.serve(&policy, 1, 64).await, 63);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_that_took_long_are_tried_again_in_time() {
        let policy = BatchingPolicy::new();
        let slow_disk = Server { per_batch: Duration::from_millis(100), ..FLUSHES_FOR_EACH };
        FLUSHES_FOR_EACH.serve(&policy, 100, 64).await;
        assert!(slow_disk.serve(&policy, 100, 64).await < 10 * 64, "given up");
        let began = Instant::now();
        while FLUSHES_FOR_EACH.serve(&policy, 100, 64).await < 90 * 63 {}
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_far_away_is_not_slow() {
        let policy = BatchingPolicy::new();
        let send = || (Instant::now(), policy.arrive(), policy.begin_single());
        let mut under_way: VecDeque<_> = (0..64).map(|_| send()).collect();
        for _ in 0..1000 {
            let (sent, _entry, publishing) = under_way.pop_front().unwrap();
            tokio::time::sleep_until(sent + Duration::from_millis(6)).await;
            publishing.acknowledged();
            assert!(!policy.arrive().waits);
            under_way.push_back(send());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_given_up_is_not_under_way_any_more() {
        let policy = BatchingPolicy::new();
        for _ in 0..100 {
            drop((policy.arrive(), policy.begin_single()));
        }
        let state = policy.state();
        assert_eq!((state.under_way, state.alone), (0, 0));
    }
}
