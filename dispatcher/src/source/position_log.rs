//! How far lanes that follow the tail have come, written together at once or a few milliseconds later, so that a crash
//! repeats little. For them it is what acknowledgements are for a lane that reads its consumer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::positions::Positions;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How often it is written within `INTERVAL`, at most: a lane with little to do is written at once, and where there is much
/// to do nats-server is not woken up for each of the lanes.
const AT_MOST: u32 = 2;
const INTERVAL: Duration = Duration::from_millis(10);
/// How long to wait for each lane that was written, before the next time.
const PER_LANE: Duration = Duration::from_micros(20);
/// Timers are no finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// How long reading what was written may take, the first time and the times after.
const READ_DEADLINES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// For how long what was read is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How many lanes go into one message: some 60 bytes each.
const LANES_PER_MESSAGE: usize = 4_096;

/// What is to be written, and what others have written.
pub(crate) struct PositionLog {
    positions: Positions,
    /// The name of this dispatcher, for as long as it runs.
    name: String,
    pending: Mutex<HashMap<String, u64>>,
    news: Notify,
    /// By who wrote it; without a name, what anybody did.
    known: Mutex<HashMap<Option<String>, Known>>,
}

/// What is known of what somebody wrote. Whoever reads it has it locked.
type Known = Arc<tokio::sync::Mutex<Option<LastRead>>>;

/// What stood in the stream.
struct LastRead {
    as_of: Instant,
    positions: Arc<HashMap<String, u64>>,
}

impl PositionLog {
    /// Of the dispatcher with a name.
    pub(crate) fn new(positions: Positions, name: String) -> Self {
        Self { positions, name, pending: Mutex::default(), news: Notify::new(), known: Mutex::default() }
    }

    /// Takes note that the lane of an epoch has had everything up to an event that it has delivered.
    pub(crate) fn note(&self, epoch: &str, position: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = pending.is_empty();
        match pending.get_mut(epoch) {
            Some(known) => *known = position,
            None => drop(pending.insert(epoch.to_owned(), position)),
        }
        drop(pending);
        if is_first {
            self.news.notify_one();
        }
    }

    /// The name of this dispatcher.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How far the lane of an epoch had come, as far as a dispatcher (`None`: any) wrote before `moment` or a little later.
    /// Where that cannot be read, it is not known: the lane then repeats what it delivered since its state was written.
    pub(crate) async fn position(&self, epoch: &str, writer: Option<&str>, moment: Instant) -> Option<u64> {
        self.positions(writer, moment).await.get(epoch).copied()
    }

    async fn positions(&self, writer: Option<&str>, moment: Instant) -> Arc<HashMap<String, u64>> {
        // One look-up serves all lanes that come to this dispatcher together, whatever comes of it.
        let known = self.known_of(writer);
        let mut known = known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.as_of >= moment) {
            return known.positions.clone();
        }
        let as_of = Instant::now();
        let positions = match self.read(writer).await {
            Some(positions) => Arc::new(positions),
            // It has written nothing, as one does that had only just taken over, or one that knows no names.
            None => Box::pin(self.positions(None, moment)).await,
        };
        *known = Some(LastRead { as_of, positions: positions.clone() });
        positions
    }

    /// Where what somebody wrote is kept. What was read long ago is dropped.
    fn known_of(&self, writer: Option<&str>) -> Known {
        let is_recent = |known: &Option<LastRead>| known.as_ref().is_none_or(|known| known.as_of.elapsed() < KEPT);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.try_lock().map_or(true, |known| is_recent(&known)));
        known.entry(writer.map(str::to_owned)).or_default().clone()
    }

    /// `None`: a dispatcher has written nothing.
    async fn read(&self, writer: Option<&str>) -> Option<HashMap<String, u64>> {
        // Of several replicas one may hang: another one may be asked the next time.
        for deadline in READ_DEADLINES {
            let reading = async {
                match writer {
                    Some(name) => self.positions.read_of(&subject_name(name)).await,
                    None => self.positions.read().await.map(Some),
                }
            };
            match timeout(deadline, reading).await {
                Ok(Ok(positions)) => return positions,
                Ok(Err(error)) => tracing::warn!(%error, "positions.not_read"),
                Err(error) => tracing::warn!(%error, "positions.not_read"),
            }
        }
        Some(HashMap::new())
    }

    /// Writes what is noted, again and again.
    pub(crate) async fn keep_writing(&self) -> Infallible {
        loop {
            let began = Instant::now();
            for _ in 0..AT_MOST {
                self.news.notified().await;
                let wait = PER_LANE * self.write().await;
                if wait >= SHORTEST_WAIT {
                    sleep(wait).await;
                }
                if began.elapsed() > INTERVAL {
                    break;
                }
            }
            sleep_until(began + INTERVAL).await;
        }
    }

    /// Writes what is noted now; answers of how many lanes. What cannot be written is lost: a crash then repeats what was
    /// delivered meanwhile.
    pub(crate) async fn write(&self) -> u32 {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut pending, mut lanes) = (pending.into_iter(), 0);
        loop {
            let some: HashMap<String, u64> = pending.by_ref().take(LANES_PER_MESSAGE).collect();
            if some.is_empty() {
                return lanes;
            }
            lanes += u32::try_from(some.len()).unwrap_or(u32::MAX);
            if let Err(error) = self.positions.add(&subject_name(&self.name), &some).await {
                tracing::debug!(%error, "positions.lost");
            }
        }
    }
}

/// A dispatcher's name as it stands in a subject: without hyphens.
fn subject_name(name: &str) -> String {
    name.replace('-', "")
}
