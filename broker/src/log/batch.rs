//! Adding several events to the stream `EVENTS` at once: all of them, or none.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::HeaderName;
use async_nats::jetstream::ErrorCode;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::connection::RECONNECT_PATIENCE;
use crate::error::{During, Unavailable};
use crate::log::event_log::EventLog;
use crate::log::store::{self, NewEvent, OutgoingMessage, STORE_DEADLINE, STREAM_RETRY, StoreError, Stored};

/// The most events in a batch: what nats-server takes.
pub const MAX_BATCH: usize = 1000;
/// How long storing a batch may take, waiting included.
const BATCH_DEADLINE: Duration = Duration::from_secs(7);
/// How long a batch waits for room beside others. It leaves time to store the batch.
const ROOM_DEADLINE: Duration = Duration::from_secs(4);
/// How many idempotency keys are looked for at a time.
const KEYS_AT_A_TIME: usize = 64;

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

const NOT_TAKEN: &str = "JetStream did not take the batch";
const NOT_ACKNOWLEDGED: &str = "JetStream did not acknowledge it";
const CONTAINS_DUPLICATES: ErrorCode = ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE;

/// Why a batch was not stored.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// One of its events is in the log already.
    HasDuplicates,
    /// As for a single event.
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn not_taken(why: impl std::fmt::Display) -> CommitError {
    CommitError::Store(StoreError::NotStored(Unavailable::new(NOT_TAKEN, why)))
}

impl EventLog {
    /// Stores events whole, in order and with sequences in a row, or not at all. Those that are there already (with the
    /// same idempotency key, within the duplicate window) are not stored again. At most [`MAX_BATCH`] events. Within a few
    /// seconds it is done, or fails.
    pub async fn store_batch(&self, events: &[NewEvent]) -> Result<Vec<Stored>, StoreError> {
        let deadline = Instant::now() + BATCH_DEADLINE;
        let looked_at_by = deadline.min(Instant::now() + STORE_DEADLINE);
        self.broker.takes_events_by(looked_at_by).await.map_err(StoreError::NotStored)?;
        let mut known: HashMap<&str, u64> = HashMap::new();
        loop {
            let (mut new, mut seen) = (Vec::new(), HashSet::new());
            for event in events {
                match event.idempotency_key.as_deref() {
                    Some(key) if known.contains_key(key) || !seen.insert(key) => {}
                    _ => new.push(event),
                }
            }
            if let ([only], Some(key)) =
                (new.as_slice(), new.first().and_then(|event| event.idempotency_key.as_deref()))
            {
                // For a single event JetStream itself tells whether it is a duplicate.
                let stored = self.store_by(deadline, only, self.message_of(only)?, StoreError::NotStored).await?;
                if stored.is_duplicate {
                    known.insert(key, stored.sequence);
                    continue;
                }
                return Ok(placed(events, &known, &[only], stored.sequence));
            }
            match self.store_new(&new, deadline).await {
                Ok(first) => return Ok(placed(events, &known, &new, first)),
                Err(CommitError::HasDuplicates) => {
                    // JetStream does not say which.
                    let found = self.known_sequences(&new, deadline).await?;
                    if found.is_empty() {
                        if Instant::now() + STREAM_RETRY >= deadline {
                            let why = "it has an event that another sender is storing";
                            return Err(StoreError::NotStored(Unavailable::new(NOT_TAKEN, why)));
                        }
                        sleep(STREAM_RETRY).await;
                    }
                    known.extend(found);
                }
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
    }

    /// Stores events that are not known to be there. Answers with the sequence of the first.
    async fn store_new(&self, events: &[&NewEvent], deadline: Instant) -> Result<u64, CommitError> {
        match events {
            [] => return Ok(0),
            [only] => {
                let message = self.message_of(only)?;
                return Ok(self.store_by(deadline, only, message, StoreError::NotStored).await?.sequence);
            }
            _ => {}
        }
        let messages = events.iter().map(|event| self.message_of(event)).collect::<Result<_, _>>()?;
        self.broker.connected_by(deadline.min(Instant::now() + RECONNECT_PATIENCE)).await;
        let room_deadline = deadline.min(Instant::now() + ROOM_DEADLINE);
        let room = timeout_at(room_deadline, self.batches.clone().acquire_owned()).await;
        let room = room.map_err(|_| not_taken("too many batches are under way"))?.map_err(not_taken)?;
        // A task of its own goes on though the sender goes away: nats-server keeps a batch that has begun and is not
        // finished, and has room for few of them.
        let log = self.clone();
        let writing = self.broker.writes.spawn(async move {
            let _room = room;
            log.commit(messages, deadline).await
        });
        writing.await.unwrap_or_else(|error| Err(StoreError::Unknown(Unavailable::new(NOT_ACKNOWLEDGED, error)).into()))
    }

    /// Publishes messages as one atomic batch (ADR-50), by the deadline. Answers with the sequence of the first.
    pub(crate) async fn commit(
        &self,
        mut messages: Vec<OutgoingMessage>,
        deadline: Instant,
    ) -> Result<u64, CommitError> {
        if !self.broker.is_connected() {
            return Err(not_taken(format!("no connection to {}", self.broker.server())));
        }
        let bytes = messages.iter().map(|message| message.bytes).max().unwrap_or_default();
        let (began, count) = (Instant::now(), messages.len() as u64);
        let id = Uuid::now_v7().simple().to_string();
        for (number, message) in (1_u64..).zip(&mut messages) {
            message.headers.insert(BATCH_ID, id.as_str());
            message.headers.insert(BATCH_SEQUENCE, number.to_string());
        }
        let Some(mut last) = messages.pop() else { return Ok(0) };
        last.headers.insert(BATCH_COMMIT, "1");
        let client = &self.broker.handles().client;
        let sending = async {
            for OutgoingMessage { subject, headers, data, .. } in messages {
                client.publish_with_headers(subject, headers, data).await.map_err(not_taken)?;
            }
            Ok::<(), CommitError>(())
        };
        // What ends the batch has not been sent yet.
        timeout_at(deadline, sending).await.map_err(|_| not_taken("it was not sent in time"))??;
        match self.publish(last, deadline).await {
            Ok(ack) if ack.batch_count == Some(count) && ack.sequence >= count => Ok(ack.sequence + 1 - count),
            Ok(_) => {
                let error = Unavailable::new(NOT_ACKNOWLEDGED, "the answer is not about this batch");
                Err(StoreError::Unknown(error).into())
            }
            Err(error) if error.is_under_way() || error.code() == Some(CONTAINS_DUPLICATES) => {
                Err(CommitError::HasDuplicates)
            }
            Err(error) if error.is_unanswered() => {
                self.broker.note_missed(began, &error);
                Err(StoreError::Unknown(Unavailable::new(NOT_ACKNOWLEDGED, error)).into())
            }
            Err(error) if error.is_too_large() => Err(self.too_large(bytes).into()),
            Err(error) if error.is_full() => Err(store::not_taken(&error).into()),
            Err(error) => Err(not_taken(error)),
        }
    }

    /// The sequences of those events that are in the log already, by idempotency key.
    async fn known_sequences<'a>(
        &self,
        events: &[&'a NewEvent],
        deadline: Instant,
    ) -> Result<HashMap<&'a str, u64>, StoreError> {
        let mut found = HashMap::new();
        for some in events.chunks(KEYS_AT_A_TIME) {
            let answers = join_all(some.iter().map(|event| self.known_sequence(deadline, event))).await;
            for (event, answer) in some.iter().zip(answers) {
                match answer {
                    Ok(sequence) => found.extend(event.idempotency_key.as_deref().zip(sequence)),
                    Err(error) if error.is_under_way() => {}
                    Err(error) => {
                        return Err(error).during("looking for idempotency keys").map_err(StoreError::NotStored);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Where each event of a batch is: `known` from before, the `new` ones in a row from `first`, or the same as an earlier
/// one of the batch.
fn placed(events: &[NewEvent], known: &HashMap<&str, u64>, new: &[&NewEvent], first: u64) -> Vec<Stored> {
    let stored_now: HashMap<&str, u64> =
        new.iter().zip(first..).filter_map(|(event, at)| Some((event.idempotency_key.as_deref()?, at))).collect();
    let mut next = first;
    let place = |event: &NewEvent| {
        let key = event.idempotency_key.as_deref();
        let sequence = key.and_then(|key| known.get(key).or_else(|| stored_now.get(key)).copied()).unwrap_or(next);
        let is_new = sequence == next;
        next += u64::from(is_new);
        Stored { sequence, is_duplicate: !is_new }
    };
    events.iter().map(place).collect()
}
