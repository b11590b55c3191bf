//! How far lanes that follow the tail have come, written together at once or a few milliseconds later, so that a crash
//! repeats little. For them it is what acknowledgements are for a lane that reads its consumer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::Unavailable;
use broker::event_log::EventLog;
use broker::positions::{Newest, Noted, Positions};
use domain::log_epoch::Mark;
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
    pending: Mutex<Pending>,
    news: Notify,
    /// By who wrote it; without a name, what anybody did.
    known: Mutex<HashMap<Option<String>, Known>>,
    /// Whether events that were noted as the newest are in the log, and as of when.
    are_in: Mutex<HashMap<Newest, (Instant, bool)>>,
}

/// What is known of what one dispatcher wrote. It is locked while it is read.
type Known = Arc<tokio::sync::Mutex<Option<LastRead>>>;

/// What is to be written: positions by epoch, and the newest event that any lane has had.
#[derive(Default)]
struct Pending {
    positions: HashMap<String, u64>,
    newest: Option<Newest>,
}

/// What stood in the stream.
struct LastRead {
    as_of: Instant,
    positions: Arc<HashMap<String, Noted>>,
}

impl PositionLog {
    /// Of the dispatcher with a name.
    pub(crate) fn new(positions: Positions, name: String) -> Self {
        Self {
            positions,
            name,
            pending: Mutex::default(),
            news: Notify::new(),
            known: Mutex::default(),
            are_in: Mutex::default(),
        }
    }

    /// Takes note that the lane of an epoch has had everything up to an event that it has delivered, and what the newest event
    /// is that it has had.
    pub(crate) fn note(&self, epoch: &str, position: u64, newest: Option<&Mark>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = pending.positions.is_empty();
        match pending.positions.get_mut(epoch) {
            Some(known) => *known = position,
            None => drop(pending.positions.insert(epoch.to_owned(), position)),
        }
        if let Some(mark) = newest.filter(|mark| pending.newest.is_none_or(|known| known.sequence < mark.sequence)) {
            pending.newest = Some(Newest { sequence: mark.sequence, stored_at: mark.stored_at });
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
    pub(crate) async fn position(&self, epoch: &str, writer: Option<&str>, moment: Instant) -> Option<Noted> {
        self.positions(writer, moment).await.get(epoch).copied()
    }

    async fn positions(&self, writer: Option<&str>, moment: Instant) -> Arc<HashMap<String, Noted>> {
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

    /// Whether an event that was noted as the newest was in the log at `moment` or a little later: then the positions that were
    /// noted with it are of this log. Where it was removed, nothing says that they are not.
    pub(crate) async fn is_in(&self, newest: Newest, log: &EventLog, moment: Instant) -> Result<bool, Unavailable> {
        let known = self.are_in.lock().unwrap_or_else(PoisonError::into_inner).get(&newest).copied();
        if let Some((_, is_in)) = known.filter(|(as_of, _)| *as_of >= moment) {
            return Ok(is_in);
        }
        let (as_of, bounds) = (Instant::now(), log.bounds().await?);
        let is_in = if newest.sequence < bounds.first_sequence || newest.sequence > bounds.last_sequence {
            newest.sequence < bounds.first_sequence
        } else {
            log.mark_at(newest.sequence).await?.is_none_or(|found| found.stored_at == newest.stored_at)
        };
        let mut are_in = self.are_in.lock().unwrap_or_else(PoisonError::into_inner);
        are_in.retain(|_, (as_of, _)| as_of.elapsed() < KEPT);
        are_in.insert(newest, (as_of, is_in));
        Ok(is_in)
    }

    /// Where what somebody wrote is kept. What was read long ago is dropped.
    fn known_of(&self, writer: Option<&str>) -> Known {
        let is_recent = |known: &Option<LastRead>| known.as_ref().is_none_or(|known| known.as_of.elapsed() < KEPT);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.try_lock().map_or(true, |known| is_recent(&known)));
        known.entry(writer.map(str::to_owned)).or_default().clone()
    }

    /// `None`: a dispatcher has written nothing.
    async fn read(&self, writer: Option<&str>) -> Option<HashMap<String, Noted>> {
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
        let Pending { positions, newest } =
            std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut pending, mut lanes) = (positions.into_iter(), 0);
        loop {
            let some: HashMap<String, u64> = pending.by_ref().take(LANES_PER_MESSAGE).collect();
            if some.is_empty() {
                return lanes;
            }
            lanes += u32::try_from(some.len()).unwrap_or(u32::MAX);
            if let Err(error) = self.positions.add(&subject_name(&self.name), &some, newest).await {
                tracing::debug!(%error, "positions.lost");
            }
        }
    }
}

/// A dispatcher's name as it stands in a subject: without hyphens.
fn subject_name(name: &str) -> String {
    name.replace('-', "")
}
