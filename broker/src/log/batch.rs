//! Adding several events to the stream `EVENTS` at once: all of them, or none.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::HeaderName;
use async_nats::jetstream::ErrorCode;
use domain::event::header;
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp};
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::RECONNECT_PATIENCE;
use crate::error::Unavailable;
use crate::log::event_log::{End, EventLog};
use crate::log::store::{FULL, NewEvent, OutgoingMessage, STORE_DEADLINE, StoreError, Stored};

/// The most events in a batch: what nats-server takes.
pub const MAX_BATCH: usize = 1000;

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

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
    CommitError::Store(StoreError::NotStored(Unavailable::new("JetStream did not take the batch", why)))
}

impl EventLog {
    /// Stores events whole, in order and with sequences in a row, or not at all. Those that are there already (with the
    /// same idempotency key, within the duplicate window) are not stored again. At most [`MAX_BATCH`] events.
    pub async fn store_batch(&self, events: &[NewEvent]) -> Result<Vec<Stored>, StoreError> {
        let mut known: HashMap<&str, u64> = HashMap::new();
        let mut has_looked = false;
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
                let stored = self.store(only).await?;
                if stored.is_duplicate {
                    known.insert(key, stored.sequence);
                    continue;
                }
                return Ok(placed(events, &known, &[only], stored.sequence));
            }
            match self.store_new(&new).await {
                Ok(first) => return Ok(placed(events, &known, &new, first)),
                // Some are there already. Only the log tells which.
                Err(CommitError::HasDuplicates) if !has_looked => {
                    has_looked = true;
                    known = self.stored_lately(&new).await.map_err(StoreError::NotStored)?;
                }
                Err(CommitError::HasDuplicates) => {
                    let why = "it has an event whose id JetStream knows and the log does not tell: it is being stored by somebody else, or was removed";
                    return Err(StoreError::NotStored(Unavailable::new("JetStream did not take the batch", why)));
                }
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
    }

    /// Stores events that are not known to be there. Answers with the sequence of the first.
    async fn store_new(&self, events: &[&NewEvent]) -> Result<u64, CommitError> {
        match events {
            [] => return Ok(0),
            [only] => return Ok(self.store(only).await?.sequence),
            _ => {}
        }
        let messages = events.iter().map(|event| self.message_of(event)).collect::<Result<_, _>>()?;
        self.broker.connected_by(Instant::now() + RECONNECT_PATIENCE).await;
        self.commit(messages, STORE_DEADLINE).await
    }

    /// Publishes messages as one atomic batch (ADR-50). Answers with the sequence of the first.
    pub(crate) async fn commit(
        &self,
        mut messages: Vec<OutgoingMessage>,
        within: Duration,
    ) -> Result<u64, CommitError> {
        if !self.broker.is_connected() {
            return Err(not_taken(format!("no connection to {}", self.broker.server())));
        }
        let _permit = self.batches.acquire().await;
        let (began, count) = (Instant::now(), messages.len() as u64);
        let id = Uuid::now_v7().simple().to_string();
        for (number, message) in (1_u64..).zip(&mut messages) {
            message.headers.insert(BATCH_ID, id.as_str());
            message.headers.insert(BATCH_SEQUENCE, number.to_string());
        }
        let Some(mut last) = messages.pop() else { return Ok(0) };
        last.headers.insert(BATCH_COMMIT, "1");
        let client = &self.broker.handles().client;
        for OutgoingMessage { subject, headers, data, .. } in messages {
            client.publish_with_headers(subject, headers, data).await.map_err(not_taken)?;
        }
        match self.publish(last, Instant::now() + within).await {
            Ok(ack) if ack.batch_count == Some(count) && ack.sequence >= count => Ok(ack.sequence + 1 - count),
            Ok(_) => {
                let error = Unavailable::new("JetStream did not acknowledge it", "the answer is not about this batch");
                Err(StoreError::Unknown(error).into())
            }
            Err(error) if error.code() == Some(ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE) => {
                Err(CommitError::HasDuplicates)
            }
            Err(error) if error.is_unanswered() => {
                self.broker.write_watchdog.missed(began);
                let error = Unavailable::new("JetStream did not acknowledge it", error);
                Err(StoreError::Unknown(error).into())
            }
            Err(error) if error.is_full() => Err(StoreError::NotStored(Unavailable::new(FULL, error)).into()),
            Err(error) => Err(not_taken(error)),
        }
    }

    /// The sequences of the events that were stored within the duplicate window, by idempotency key.
    async fn stored_lately<'a>(&self, events: &[&'a NewEvent]) -> Result<HashMap<&'a str, u64>, Unavailable> {
        let wanted: HashSet<&str> = events.iter().filter_map(|event| event.idempotency_key.as_deref()).collect();
        let window = i64::try_from(self.broker.objects()?.events.cached_info().config.duplicate_window.as_micros())
            .unwrap_or(i64::MAX);
        let since = Stamp::now().plus_micros(-window.saturating_add(CLOCK_SKEW_MARGIN_MICROS));
        let mut found = HashMap::new();
        let mut next = self.first_sequence_from(since).await?;
        while let Some(from) = next {
            let page = self.read(from, None, MAX_BATCH).await?;
            for event in &page.events {
                if let Some(key) = wanted.get(identity_of(event).as_str()) {
                    found.insert(*key, event.sequence);
                }
            }
            next = match page.end {
                End::Before(next) => Some(next),
                End::OfLog => None,
            };
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

/// The idempotency key that a CloudEvent in the log was stored under: see `CloudEvent::identity`.
fn identity_of(event: &Event) -> String {
    let of = |name| event.header(name).unwrap_or_default();
    format!("ce {} {}", of(header::SOURCE), of(header::ID))
}
