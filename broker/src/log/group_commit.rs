//! Events that come in at the same time, written together where that is faster: the group commit.
//!
//! Where the server takes events fast, or few come at a time, each is published at once, by itself. Where it takes so long
//! over each that all which are under way would sooner be stored as an atomic batch (see `pace`), as it does when it flushes
//! its files for each, they wait in a line. What waits while a batch is being written is the next one, so nobody waits for
//! a batch to become full; only those that have just been answered are given a moment to come again. Now and then a few
//! go one by one, to see how long that takes now.
//!
//! Whoever is not stored in a batch, whatever the reason, goes on by itself as it would have gone without one. A batch with
//! an event that the server knows already is refused as a whole; so events with and without an idempotency key are never
//! in one batch, and those with a key that is in the batch already wait until it is written.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::error::Unavailable;
use crate::log::batch::{CommitError, MAX_BATCH};
use crate::log::batching::Pace;
use crate::log::event_log::EventLog;
use crate::log::store::{IDEMPOTENT_ATTEMPT, Message, NewEvent, Outcome, STORE_DEADLINE, StoreError, Stored};

/// The most bytes in a batch, unless its first event alone has more.
const MAX_BYTES: usize = 1024 * 1024;
/// One in so many writes is a probe: events that are published one by one, and how many these are at most.
const PROBE_EVERY: usize = 32;
const PROBE: usize = 32;
/// How many events wait in a line; further ones wait to be let in.
const LINE: usize = MAX_BATCH;

/// Where single events go in.
pub struct GroupCommit {
    log: EventLog,
    entrance: mpsc::Sender<Waiting>,
    pace: Arc<Pace>,
    /// It ends with this.
    _writer: JoinSet<()>,
}

/// An event in the line.
struct Waiting {
    message: Message,
    key: Option<String>,
    claim: Claim,
    verdict: oneshot::Sender<Verdict>,
}

/// Who decides about an event that waits: its batch, which sends it, or whoever has run out of time, who may then say that
/// it was never sent.
#[derive(Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Answers whether nobody has it yet.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What became of an event that waited.
enum Verdict {
    /// It is in the log, at this sequence.
    Stored(u64),
    /// It was not stored, and has to be published by itself.
    Alone(Option<Hold>),
    /// It may be in the log.
    Unknown(Unavailable),
    /// It was not sent, and there is no time left.
    TooLate,
}

/// While anybody has one, nothing more is taken from the line.
type Hold = mpsc::Sender<()>;

impl GroupCommit {
    /// The way into a log.
    pub fn start(log: EventLog) -> Self {
        let (entrance, exit) = mpsc::channel(LINE);
        let pace = Arc::new(Pace::new());
        let mut writer = JoinSet::new();
        writer.spawn(Writer { log: log.clone(), pace: pace.clone(), exit, waiting: VecDeque::new() }.run());
        Self { log, entrance, pace, _writer: writer }
    }

    /// Stores an event; returns when JetStream has acknowledged it. Within a few seconds it does, or fails.
    pub async fn store(&self, event: &NewEvent) -> Result<Stored, StoreError> {
        let deadline = Instant::now() + STORE_DEADLINE;
        let message = self.log.message_of(event)?;
        let alone = |message, outcome| self.store_alone(deadline, event, message, outcome);
        let entry = self.pace.enter();
        if !entry.waits || event.expected_last.is_some() || !self.log.broker.is_connected() {
            return alone(message, StoreError::NotStored).await;
        }
        match self.wait(message, event.idempotency_key.clone(), deadline).await {
            Verdict::Stored(sequence) => Ok(Stored { sequence, is_duplicate: false }),
            Verdict::Alone(_hold) => alone(self.log.message_of(event)?, StoreError::NotStored).await,
            Verdict::Unknown(_) if event.idempotency_key.is_some() => {
                alone(self.log.message_of(event)?, StoreError::Unknown).await
            }
            Verdict::Unknown(error) => Err(StoreError::Unknown(error)),
            Verdict::TooLate => {
                Err(StoreError::NotStored(unanswered("what came before it was not acknowledged in time")))
            }
        }
    }

    async fn store_alone(
        &self,
        deadline: Instant,
        event: &NewEvent,
        message: Message,
        outcome: Outcome,
    ) -> Result<Stored, StoreError> {
        let publishing = self.pace.publishing();
        let stored = self.log.store_by(deadline, event, message, outcome).await?;
        publishing.acknowledged();
        Ok(stored)
    }

    /// Waits in the line until it is told what became of the event, but not past the deadline.
    async fn wait(&self, message: Message, key: Option<String>, deadline: Instant) -> Verdict {
        let (verdict, told) = oneshot::channel();
        let claim = Claim::default();
        let waiting = Waiting { message, key, claim: claim.clone(), verdict };
        let wait = async {
            match self.entrance.send(waiting).await {
                Ok(()) => told.await.unwrap_or_else(|_| Verdict::Unknown(unanswered("its writer has ended"))),
                // Nobody writes any more.
                Err(_) => Verdict::Alone(None),
            }
        };
        match timeout_at(deadline, wait).await {
            Ok(verdict) => verdict,
            Err(_) if claim.take() => Verdict::TooLate,
            Err(_) => Verdict::Unknown(unanswered("timed out")),
        }
    }
}

fn unanswered(why: &str) -> Unavailable {
    Unavailable::new("JetStream did not acknowledge it", why)
}

/// Writes what waits in the line.
struct Writer {
    log: EventLog,
    pace: Arc<Pace>,
    exit: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
}

impl Writer {
    async fn run(mut self) {
        let (log, pace) = (self.log.clone(), self.pace.clone());
        // How many are likely to wait before long: those who were answered last may come again.
        let mut expected = LINE;
        for n in 1_usize.. {
            let Some(since) = self.gather(expected).await else { return };
            let before = self.waiting.len();
            let next = self.take(n);
            let written = before - self.waiting.len();
            let (hold, held) = mpsc::channel(1);
            match next {
                Next::OneByOne(those) => {
                    tell_alone(those, &hold);
                    until_free(&log, hold, held).await;
                }
                Next::Together(group) => {
                    let writing = pace.writing(since);
                    group.write(&log, &hold).await;
                    until_free(&log, hold, held).await;
                    writing.answered();
                }
            }
            while let Ok(next) = self.exit.try_recv() {
                self.waiting.push_back(next);
            }
            expected = written + self.waiting.len();
        }
    }

    /// Waits until an event waits, and then for a moment until as many do as are expected. Answers with when the first
    /// did, `None` when no event can come any more.
    async fn gather(&mut self, expected: usize) -> Option<Instant> {
        // Who has gone away, or has waited for too long, was not told that it would be stored.
        self.waiting.retain(|one| !one.verdict.is_closed());
        if self.waiting.is_empty() {
            self.waiting.push_back(self.exit.recv().await?);
        }
        let since = Instant::now();
        let until = since + self.pace.per_batch() / 2;
        while self.waiting.len() < expected.min(LINE)
            && let Ok(Some(next)) = timeout_at(until, self.exit.recv()).await
        {
            self.waiting.push_back(next);
        }
        Some(since)
    }

    /// Takes what is written next, for the nth time.
    fn take(&mut self, n: usize) -> Next {
        if !self.pace.goes_on() {
            return Next::OneByOne(self.waiting.drain(..).collect());
        }
        if n.is_multiple_of(PROBE_EVERY) {
            let count = self.waiting.len().min(PROBE);
            return Next::OneByOne(self.waiting.drain(..count).collect());
        }
        let group = self.take_group();
        if self.pace.pays_for(group.members.len()) {
            Next::Together(group)
        } else {
            Next::OneByOne(group.members.into_iter().chain(group.repeated).collect())
        }
    }

    fn take_group(&mut self) -> Group {
        let places = places(self.waiting.iter().map(|one| (one.message.bytes, one.key.as_deref())));
        let (mut group, mut later) = (Group::default(), VecDeque::new());
        for (place, one) in places.into_iter().zip(self.waiting.drain(..)) {
            match place {
                Place::Member => group.members.push(one),
                Place::Repeated => group.repeated.push(one),
                Place::Later => later.push_back(one),
            }
        }
        self.waiting = later;
        group
    }
}

/// What is written next.
enum Next {
    OneByOne(Vec<Waiting>),
    Together(Group),
}

/// What goes into one batch.
#[derive(Default)]
struct Group {
    members: Vec<Waiting>,
    /// Those whose key a member has.
    repeated: Vec<Waiting>,
}

impl Group {
    /// Writes it, and tells each what became of it.
    async fn write(mut self, log: &EventLog, hold: &Hold) {
        // Who has run out of time since was told that it is not stored.
        self.members.retain(|one| one.claim.take());
        if self.members.is_empty() {
            return tell_alone(self.repeated, hold);
        }
        // An attempt may be short where a repetition does no harm.
        let is_idempotent = self.members.iter().all(|one| one.key.is_some());
        let patience = if is_idempotent { IDEMPOTENT_ATTEMPT } else { STORE_DEADLINE };
        let (messages, told): (Vec<_>, Vec<_>) = self.members.into_iter().map(|one| (one.message, one.verdict)).unzip();
        let (began, count) = (Instant::now(), messages.len());
        let outcome = match while_connected(log, log.commit(messages, patience)).await {
            Some(outcome) => outcome,
            None => Err(CommitError::Store(StoreError::Unknown(unanswered("the connection was lost")))),
        };
        let (took_ms, is_stored) = (began.elapsed().as_millis(), outcome.is_ok());
        tracing::debug!(count, took_ms, is_stored, "events.written_together");
        for (n, told) in (0..).zip(told) {
            let verdict = match &outcome {
                Ok(first) => Verdict::Stored(first + n),
                Err(CommitError::Store(StoreError::Unknown(error))) => Verdict::Unknown(error.clone()),
                Err(_) => Verdict::Alone(Some(hold.clone())),
            };
            // Who does not wait any more has gone away, or has waited for too long.
            let _ = told.send(verdict);
        }
        tell_alone(self.repeated, hold);
    }
}

fn tell_alone(those: impl IntoIterator<Item = Waiting>, hold: &Hold) {
    for one in those {
        let _ = one.verdict.send(Verdict::Alone(Some(hold.clone())));
    }
}

/// Waits until nobody has a hold any more.
async fn until_free(log: &EventLog, hold: Hold, mut held: mpsc::Receiver<()>) {
    drop(hold);
    let _ = while_connected(log, held.recv()).await;
}

/// What comes of some work; `None` where the connection is lost meanwhile: then what it waits for may never come.
async fn while_connected<T>(log: &EventLog, work: impl Future<Output = T>) -> Option<T> {
    let mut link = log.broker.link();
    tokio::select! {
        biased;
        done = work => Some(done),
        _ = link.changed() => None,
    }
}

/// Where an event of the line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Member,
    Repeated,
    Later,
}

/// Where the events of the line go, given by size and key: all that are like the first of them, in order, as far as there
/// is room.
fn places<'a>(line: impl Iterator<Item = (usize, Option<&'a str>)>) -> Vec<Place> {
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
    line.map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::Place::{Later, Member, Repeated};
    use super::*;

    fn sorted(line: &[(usize, Option<&str>)]) -> Vec<Place> {
        places(line.iter().copied())
    }

    #[test]
    fn an_event_is_either_sent_or_taken_back() {
        let claim = Claim::default();
        assert!(claim.clone().take());
        assert!(!claim.take());
    }

    #[test]
    fn a_batch_has_a_greatest_number_and_a_greatest_size() {
        let members = |line: &[_]| sorted(line).iter().filter(|place| **place == Member).count();
        assert_eq!(members(&[]), 0);
        assert_eq!(members(&[(1, None); MAX_BATCH + 1]), MAX_BATCH);
        assert_eq!(members(&[(MAX_BYTES / 4, None); 5]), 4);
        assert_eq!(sorted(&[(1, None), (MAX_BYTES, None), (1, None)]), [Member, Later, Later], "nobody overtakes");
        assert_eq!(sorted(&[(2 * MAX_BYTES, None), (1, None)]), [Member, Later]);
    }

    #[test]
    fn no_key_is_in_a_batch_twice_and_who_has_none_is_not_beside_who_has_one() {
        let (a, b) = ((1, Some("a")), (1, Some("b")));
        assert_eq!(sorted(&[a, b, a, (1, None), b]), [Member, Member, Repeated, Later, Repeated]);
        assert_eq!(sorted(&[(1, None), a, (1, None)]), [Member, Later, Member]);
    }
}
