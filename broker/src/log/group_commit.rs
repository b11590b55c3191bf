//! Group commit: events that come in at the same time are written as one batch, where that is faster.
//!
//! Where the server takes events fast, or few come at a time, each event is published at once, by itself. Where the server
//! takes long over each event (it flushes its files for each, say), the events wait in a queue and are stored as an atomic
//! batch; `batching_policy` decides. The events that wait while a batch is being written are the next batch: no event waits
//! for a batch to become full. Only the senders that have just been answered get a moment to post again. Now and then a few
//! events are published one by one, to measure how long that takes now.
//!
//! An event that is not stored in its batch, for any reason, is published by itself, as without group commit. The server
//! refuses a batch as a whole where it knows one of its events. So events with and without an idempotency key are never in
//! one batch, and an event whose key is in the batch already waits until the batch is written.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::error::Unavailable;
use crate::log::batch::{CommitError, MAX_BATCH};
use crate::log::batching_policy::BatchingPolicy;
use crate::log::event_log::EventLog;
use crate::log::store::{
    IDEMPOTENT_ATTEMPT, NewEvent, OutgoingMessage, STORE_DEADLINE, StoreError, Stored, UntriedError,
};

/// The most bytes in a batch, unless its first event alone has more.
const MAX_BYTES: usize = 1024 * 1024;
/// One in so many writes is a probe: at most so many events, published one by one.
const PROBE_EVERY: usize = 32;
const PROBE: usize = 32;
/// How many events the queue holds. Further ones wait for room.
const QUEUE: usize = MAX_BATCH;

/// Stores single events, as batches where that is faster.
pub struct GroupCommit {
    log: EventLog,
    queue: mpsc::Sender<WaitingEvent>,
    policy: Arc<BatchingPolicy>,
    /// The writer ends with this.
    _writer: JoinSet<()>,
}

/// An event in the queue.
struct WaitingEvent {
    message: OutgoingMessage,
    key: Option<String>,
    claim: Claim,
    /// Tells the outcome to the request that waits.
    tell: oneshot::Sender<WaitOutcome>,
}

/// The right to decide about an event that waits. Its batch takes it to send the event; the waiting request takes it when its
/// time is up, and may then say that the event was never sent.
#[derive(Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Takes it; answers whether nobody had it.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What became of an event that waited.
enum WaitOutcome {
    /// It is in the log, at this sequence.
    Stored(u64),
    /// It was not stored, and has to be published by itself.
    Alone(Option<Hold>),
    /// It may be in the log.
    Unknown(Unavailable),
    /// It was not sent, and there is no time left.
    TooLate,
}

/// While one exists, nothing more is taken from the queue.
type Hold = mpsc::Sender<()>;

impl GroupCommit {
    /// Starts group commit into a log.
    pub fn start(log: EventLog) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        let policy = Arc::new(BatchingPolicy::new());
        let mut writer = JoinSet::new();
        writer.spawn(Writer { log: log.clone(), policy: policy.clone(), queued, waiting: VecDeque::new() }.run());
        Self { log, queue, policy, _writer: writer }
    }

    /// Stores an event; returns when JetStream has acknowledged it. Within a few seconds it does, or fails.
    pub async fn store(&self, event: &NewEvent) -> Result<Stored, StoreError> {
        let deadline = Instant::now() + STORE_DEADLINE;
        let message = self.log.message_of(event)?;
        let alone = |message, untried| self.store_alone(deadline, event, message, untried);
        let entry = self.policy.arrive();
        if !entry.waits || event.expected_last.is_some() || !self.log.broker.takes_events() {
            return alone(message, StoreError::NotStored).await;
        }
        match self.wait(message, event.idempotency_key.clone(), deadline).await {
            WaitOutcome::Stored(sequence) => Ok(Stored { sequence, is_duplicate: false }),
            WaitOutcome::Alone(_hold) => alone(self.log.message_of(event)?, StoreError::NotStored).await,
            WaitOutcome::Unknown(_) if event.idempotency_key.is_some() => {
                alone(self.log.message_of(event)?, StoreError::Unknown).await
            }
            WaitOutcome::Unknown(error) => Err(StoreError::Unknown(error)),
            WaitOutcome::TooLate => {
                Err(StoreError::NotStored(unanswered("what came before it was not acknowledged in time")))
            }
        }
    }

    async fn store_alone(
        &self,
        deadline: Instant,
        event: &NewEvent,
        message: OutgoingMessage,
        untried: UntriedError,
    ) -> Result<Stored, StoreError> {
        let publishing = self.policy.begin_single();
        let stored = self.log.store_by(deadline, event, message, untried).await?;
        publishing.acknowledged();
        Ok(stored)
    }

    /// Waits in the queue until the event's outcome is known, but not past the deadline.
    async fn wait(&self, message: OutgoingMessage, key: Option<String>, deadline: Instant) -> WaitOutcome {
        let (tell, told) = oneshot::channel();
        let claim = Claim::default();
        let waiting = WaitingEvent { message, key, claim: claim.clone(), tell };
        let wait = async {
            match self.queue.send(waiting).await {
                Ok(()) => told.await.unwrap_or_else(|_| WaitOutcome::Unknown(unanswered("its writer has ended"))),
                // Nobody writes any more.
                Err(_) => WaitOutcome::Alone(None),
            }
        };
        match timeout_at(deadline, wait).await {
            Ok(outcome) => outcome,
            Err(_) if claim.take() => WaitOutcome::TooLate,
            Err(_) => WaitOutcome::Unknown(unanswered("timed out")),
        }
    }
}

fn unanswered(why: &str) -> Unavailable {
    Unavailable::new("JetStream did not acknowledge it", why)
}

/// Writes the events of the queue.
struct Writer {
    log: EventLog,
    policy: Arc<BatchingPolicy>,
    queued: mpsc::Receiver<WaitingEvent>,
    waiting: VecDeque<WaitingEvent>,
}

impl Writer {
    async fn run(mut self) {
        let (log, policy) = (self.log.clone(), self.policy.clone());
        // How many events are likely to wait soon: the senders that were answered last may post again.
        let mut expected = QUEUE;
        for n in 1_usize.. {
            let Some(since) = self.gather(expected).await else { return };
            let before = self.waiting.len();
            let next = self.take(n);
            let written = before - self.waiting.len();
            let (hold, held) = mpsc::channel(1);
            match next {
                NextWrite::OneByOne(those) => {
                    tell_alone(those, &hold);
                    until_free(&log, hold, held).await;
                }
                NextWrite::Together(batch) => {
                    let writing = policy.begin_batch(since);
                    batch.write(&log, &hold).await;
                    until_free(&log, hold, held).await;
                    writing.answered();
                }
            }
            while let Ok(next) = self.queued.try_recv() {
                self.waiting.push_back(next);
            }
            expected = written + self.waiting.len();
        }
    }

    /// Waits for an event, and then for a moment until as many wait as are expected. Answers when the first one came; `None`
    /// when no event can come any more.
    async fn gather(&mut self, expected: usize) -> Option<Instant> {
        // A sender that has gone away, or has waited for too long, was not told that its event would be stored.
        self.waiting.retain(|one| !one.tell.is_closed());
        if self.waiting.is_empty() {
            self.waiting.push_back(self.queued.recv().await?);
        }
        let since = Instant::now();
        let until = since + self.policy.per_batch() / 2;
        while self.waiting.len() < expected.min(QUEUE)
            && let Ok(Some(next)) = timeout_at(until, self.queued.recv()).await
        {
            self.waiting.push_back(next);
        }
        Some(since)
    }

    /// Takes the next events to write, for the nth time.
    fn take(&mut self, n: usize) -> NextWrite {
        if !self.policy.keeps_batching() {
            return NextWrite::OneByOne(self.waiting.drain(..).collect());
        }
        if n.is_multiple_of(PROBE_EVERY) {
            let count = self.waiting.len().min(PROBE);
            return NextWrite::OneByOne(self.waiting.drain(..count).collect());
        }
        let batch = self.take_batch();
        if self.policy.batch_pays_for(batch.members.len()) {
            NextWrite::Together(batch)
        } else {
            NextWrite::OneByOne(batch.members.into_iter().chain(batch.repeated).collect())
        }
    }

    fn take_batch(&mut self) -> Batch {
        let places = places(self.waiting.iter().map(|one| (one.message.bytes, one.key.as_deref())));
        let (mut batch, mut later) = (Batch::default(), VecDeque::new());
        for (place, one) in places.into_iter().zip(self.waiting.drain(..)) {
            match place {
                Place::Member => batch.members.push(one),
                Place::Repeated => batch.repeated.push(one),
                Place::Later => later.push_back(one),
            }
        }
        self.waiting = later;
        batch
    }
}

/// What is written next.
enum NextWrite {
    OneByOne(Vec<WaitingEvent>),
    Together(Batch),
}

/// What goes into one batch.
#[derive(Default)]
struct Batch {
    members: Vec<WaitingEvent>,
    /// Events whose key a member has.
    repeated: Vec<WaitingEvent>,
}

impl Batch {
    /// Writes the batch, and tells each event's outcome.
    async fn write(mut self, log: &EventLog, hold: &Hold) {
        // A sender whose time is up was told that its event is not stored.
        self.members.retain(|one| one.claim.take());
        if self.members.is_empty() {
            return tell_alone(self.repeated, hold);
        }
        // An attempt may be short where a repetition does no harm.
        let is_idempotent = self.members.iter().all(|one| one.key.is_some());
        let patience = if is_idempotent { IDEMPOTENT_ATTEMPT } else { STORE_DEADLINE };
        let (messages, tell): (Vec<_>, Vec<_>) = self.members.into_iter().map(|one| (one.message, one.tell)).unzip();
        let (began, count) = (Instant::now(), messages.len());
        let committed = match while_connected(log, log.commit(messages, began + patience)).await {
            Some(committed) => committed,
            None => Err(CommitError::Store(StoreError::Unknown(unanswered("the connection was lost")))),
        };
        let (took_ms, is_stored) = (began.elapsed().as_millis(), committed.is_ok());
        tracing::debug!(count, took_ms, is_stored, "events.written_together");
        for (n, tell) in (0..).zip(tell) {
            let outcome = match &committed {
                Ok(first) => WaitOutcome::Stored(first + n),
                Err(CommitError::Store(StoreError::Unknown(error))) => WaitOutcome::Unknown(error.clone()),
                Err(_) => WaitOutcome::Alone(Some(hold.clone())),
            };
            // Nobody waits for it where the sender has gone away, or has waited for too long.
            let _ = tell.send(outcome);
        }
        tell_alone(self.repeated, hold);
    }
}

fn tell_alone(those: impl IntoIterator<Item = WaitingEvent>, hold: &Hold) {
    for one in those {
        let _ = one.tell.send(WaitOutcome::Alone(Some(hold.clone())));
    }
}

/// Waits until there is no hold any more.
async fn until_free(log: &EventLog, hold: Hold, mut held: mpsc::Receiver<()>) {
    drop(hold);
    let _ = while_connected(log, held.recv()).await;
}

/// The result of some work; `None` where the connection is lost meanwhile, as an answer may never come then.
async fn while_connected<T>(log: &EventLog, work: impl Future<Output = T>) -> Option<T> {
    let mut link = log.broker.link();
    tokio::select! {
        biased;
        done = work => Some(done),
        _ = link.changed() => None,
    }
}

/// Where an event of the queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Member,
    Repeated,
    Later,
}

/// Where the events of the queue go, given by size and key: all that are like the first one (with or without a key) go into
/// the batch, in order, as far as there is room.
fn places<'a>(queue: impl Iterator<Item = (usize, Option<&'a str>)>) -> Vec<Place> {
    let (mut members, mut all_bytes, mut keys) = (0, 0, HashSet::new());
    let (mut has_keys, mut is_full) = (None, false);
    let place = |(bytes, key): (usize, Option<&'a str>)| {
        if key.is_some() != *has_keys.get_or_insert(key.is_some()) {
            return Place::Later;
        }
        if key.is_some_and(|key| keys.contains(key)) {
            return Place::Repeated;
        }
        all_bytes += bytes;
        is_full |= members > 0 && all_bytes > MAX_BYTES || members == MAX_BATCH;
        if is_full {
            return Place::Later;
        }
        members += 1;
        keys.extend(key);
        Place::Member
    };
    queue.map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::Place::{Later, Member, Repeated};
    use super::*;

    fn sorted(queue: &[(usize, Option<&str>)]) -> Vec<Place> {
        places(queue.iter().copied())
    }

    #[test]
    fn an_event_is_either_sent_or_taken_back() {
        let claim = Claim::default();
        assert!(claim.clone().take());
        assert!(!claim.take());
    }

    #[test]
    fn a_batch_has_a_greatest_number_and_a_greatest_size() {
        let members = |queue: &[_]| sorted(queue).iter().filter(|place| **place == Member).count();
        assert_eq!(members(&[]), 0);
        assert_eq!(members(&[(1, None); MAX_BATCH + 1]), MAX_BATCH);
        assert_eq!(members(&[(MAX_BYTES / 4, None); 5]), 4);
        assert_eq!(sorted(&[(1, None), (MAX_BYTES, None), (1, None)]), [Member, Later, Later], "nobody overtakes");
        assert_eq!(sorted(&[(2 * MAX_BYTES, None), (1, None)]), [Member, Later]);
    }

    #[test]
    fn no_key_is_in_a_batch_twice_and_events_with_and_without_a_key_are_never_together() {
        let (a, b) = ((1, Some("a")), (1, Some("b")));
        assert_eq!(sorted(&[a, b, a, (1, None), b]), [Member, Member, Repeated, Later, Repeated]);
        assert_eq!(sorted(&[(1, None), a, (1, None)]), [Member, Later, Member]);
    }
}
