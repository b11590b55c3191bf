//! Whether it pays to write events together: how long the server takes over one, how long over a batch, and how many
//! events are under way.
//!
//! Neither is set anywhere: both are measured all the time, of what is written anyway. How far away the server is makes no
//! difference, as it counts on both sides.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Fewer than these are never written together; and how long one takes among fewer says more of the way to the server than
/// of the server.
const FEWEST: u32 = 8;
/// What is taken for true before anything was measured. A server that flushes its files now and then takes 10 to 70 µs
/// over an event, one that flushes them for each 230 to 1,800 µs; over a batch, either takes 3 to 20 ms, and its events take
/// a moment to gather.
const PER_EVENT: Duration = Duration::from_micros(20);
const PER_BATCH: Duration = Duration::from_millis(5);
/// Of how many events, and of how many batches, the average is, more or less.
const EVENTS_REMEMBERED: u32 = 64;
const BATCHES_REMEMBERED: u32 = 2;
/// Writing together begins where it is half as fast again, so that it does not begin and end all the time.
const TO_BEGIN: (u32, u32) = (3, 2);
const TO_GO_ON: (u32, u32) = (1, 1);

/// What has been measured, and how events are written now.
pub(crate) struct Pace(Mutex<State>);

struct State {
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
pub(crate) struct Entry<'a> {
    pace: &'a Pace,
    /// Whether it waits for others.
    pub(crate) waits: bool,
}

/// An event that is being published by itself.
pub(crate) struct Publishing<'a> {
    pace: &'a Pace,
    since: Instant,
    /// How many were when it was sent, itself included; `None` where that says nothing.
    among: Option<u32>,
}

/// A batch that is being written.
pub(crate) struct Writing<'a> {
    pace: &'a Pace,
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            under_way: 0,
            alone: 0,
            is_batch_under_way: false,
            is_together: false,
            per_event: PER_EVENT,
            per_batch: PER_BATCH,
            batch_seen: Instant::now(),
        }))
    }

    /// An event has come. Who is the only one never waits.
    pub(crate) fn enter(&self) -> Entry<'_> {
        let mut state = self.state();
        state.under_way += 1;
        state.is_together = state.is_together || state.together_pays(Instant::now());
        Entry { pace: self, waits: state.is_together && state.under_way > 1 }
    }

    /// An event is about to be published by itself.
    pub(crate) fn publishing(&self) -> Publishing<'_> {
        let mut state = self.state();
        state.alone += 1;
        let is_telling = state.alone >= FEWEST && !state.is_batch_under_way;
        Publishing { pace: self, since: Instant::now(), among: is_telling.then_some(state.alone) }
    }

    /// A batch is about to be written, whose events have been gathered since then.
    pub(crate) fn writing(&self, since: Instant) -> Writing<'_> {
        self.state().is_batch_under_way = true;
        Writing { pace: self, since }
    }

    /// Whether those that have waited are to be written together after all. If not, whoever comes next does not wait.
    pub(crate) fn goes_on(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        state.is_together = state.together_pays(now);
        if !state.is_together {
            state.batch_seen = now;
        }
        state.is_together
    }

    /// Whether so many are sooner written together than one by one.
    pub(crate) fn pays_for(&self, count: usize) -> bool {
        self.state().pays_for(u32::try_from(count).unwrap_or(u32::MAX), TO_GO_ON, Instant::now())
    }

    /// How long a batch takes, with the gathering of its events: who posts again has to be heard, whichever way is taken.
    pub(crate) fn per_batch(&self) -> Duration {
        self.state().per_batch
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether all that are under way are sooner written together.
    fn together_pays(&self, now: Instant) -> bool {
        self.pays_for(self.under_way, if self.is_together { TO_GO_ON } else { TO_BEGIN }, now)
    }

    /// Whether so many take longer one by one than as a batch, and by more than this ratio.
    fn pays_for(&self, count: u32, (batches, singles): (u32, u32), now: Instant) -> bool {
        let one_by_one = self.per_event.saturating_mul(count);
        count >= FEWEST && one_by_one.saturating_mul(singles) > self.per_batch_by(now) * batches
    }

    /// How long a batch takes. The longer ago that was measured the less it counts, so that one which took long for some
    /// reason does not settle the matter.
    fn per_batch_by(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.batch_seen).as_secs();
        self.per_batch / u32::try_from(age).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// The average with one more measurement in it. One that is far above counts for little: anything may hiccup.
fn average(known: Duration, measured: Duration, remembered: u32) -> Duration {
    (known * (remembered - 1) + measured.min(known * 2)) / remembered
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.pace.state().under_way -= 1;
    }
}

impl Publishing<'_> {
    /// It was acknowledged: what that took is shared among all that were under way.
    pub(crate) fn acknowledged(self) {
        if let Some(among) = self.among {
            let mut state = self.pace.state();
            state.per_event = average(state.per_event, self.since.elapsed() / among, EVENTS_REMEMBERED);
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.pace.state().alone -= 1;
    }
}

impl Writing<'_> {
    /// All of it was answered, be it that its events had to be published by themselves in the end.
    pub(crate) fn answered(self) {
        let mut state = self.pace.state();
        state.per_batch = average(state.per_batch, self.since.elapsed(), BATCHES_REMEMBERED);
        state.batch_seen = Instant::now();
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.pace.state().is_batch_under_way = false;
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
        async fn take_one_by_one(self, pace: &Pace, count: usize) {
            let all: Vec<_> = (0..count).map(|_| pace.publishing()).collect();
            for one in all {
                advance(self.per_event).await;
                one.acknowledged();
            }
        }

        async fn take_batch(self, pace: &Pace) {
            let writing = pace.writing(Instant::now());
            advance(self.per_batch).await;
            writing.answered();
        }

        /// So many times, so many events come at once, and are written as the pace says. Answers how many were written
        /// together.
        async fn serve(self, pace: &Pace, times: usize, at_once: usize) -> usize {
            let mut together = 0;
            for _ in 0..times {
                let entries: Vec<_> = (0..at_once).map(|_| pace.enter()).collect();
                let waiting = entries.iter().filter(|entry| entry.waits).count();
                self.take_one_by_one(pace, at_once - waiting).await;
                if waiting > 0 && pace.goes_on() && pace.pays_for(waiting) {
                    self.take_batch(pace).await;
                    together += waiting;
                } else {
                    self.take_one_by_one(pace, waiting).await;
                }
            }
            together
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_written_together_only_where_that_is_faster() {
        let pace = Pace::new();
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&pace, 1000, 64).await, 0);
        assert!(FLUSHES_FOR_EACH.serve(&pace, 100, 64).await > 90 * 63, "soon nearly all are");
        assert_eq!(FLUSHES_FOR_EACH.serve(&pace, 100, 4).await, 0, "few are not");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_never_waits_whatever_was_measured() {
        let pace = Pace::new();
        FLUSHES_FOR_EACH.serve(&pace, 100, 512).await;
        assert!(!pace.enter().waits);
        let (_first, second) = (pace.enter(), pace.enter());
        assert!(second.waits, "until it is seen that they are few");
        assert!(!pace.goes_on());
        assert!(!pace.enter().waits);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_become_fast_is_written_to_one_by_one_after_a_few_probes() {
        let pace = Pace::new();
        FLUSHES_FOR_EACH.serve(&pace, 100, 64).await;
        for _ in 0..6 {
            FLUSHES_NOW_AND_THEN.take_one_by_one(&pace, 32).await;
        }
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&pace, 1, 64).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hiccup_decides_nothing() {
        let pace = Pace::new();
        let stalls = Server { per_event: Duration::from_millis(10), per_batch: Duration::from_secs(3) };
        FLUSHES_NOW_AND_THEN.serve(&pace, 100, 64).await;
        stalls.take_one_by_one(&pace, 32).await;
        assert_eq!(FLUSHES_NOW_AND_THEN.serve(&pace, 1, 64).await, 0);

        FLUSHES_FOR_EACH.serve(&pace, 100, 64).await;
        stalls.take_batch(&pace).await;
        assert_eq!(FLUSHES_FOR_EACH.serve(&pace, 1, 64).await, 63);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_that_took_long_are_tried_again_in_time() {
        let pace = Pace::new();
        let slow_disk = Server { per_batch: Duration::from_millis(100), ..FLUSHES_FOR_EACH };
        FLUSHES_FOR_EACH.serve(&pace, 100, 64).await;
        assert!(slow_disk.serve(&pace, 100, 64).await < 10 * 64, "given up");
        let began = Instant::now();
        while FLUSHES_FOR_EACH.serve(&pace, 100, 64).await < 90 * 63 {}
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_far_away_is_not_slow() {
        let pace = Pace::new();
        let send = || (Instant::now(), pace.enter(), pace.publishing());
        let mut under_way: VecDeque<_> = (0..64).map(|_| send()).collect();
        for _ in 0..1000 {
            let (sent, _entry, publishing) = under_way.pop_front().unwrap();
            tokio::time::sleep_until(sent + Duration::from_millis(6)).await;
            publishing.acknowledged();
            assert!(!pace.enter().waits);
            under_way.push_back(send());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_is_not_under_way_any_more() {
        let pace = Pace::new();
        for _ in 0..100 {
            drop((pace.enter(), pace.publishing()));
        }
        let state = pace.state();
        assert_eq!((state.under_way, state.alone), (0, 0));
    }
}
