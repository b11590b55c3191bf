//! Adding to the stream `EVENTS`: one event, or a batch that is stored whole or not at all.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use domain::event::{self, header};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, EventType, Stamp, header_value};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::error::{During, Unavailable};
use crate::event_log::{End, EventLog};

/// The most events in a batch: what nats-server takes.
pub const MAX_BATCH: usize = 1000;
/// How long storing one event may take, all told.
const STORE_DEADLINE: Duration = Duration::from_secs(4);
/// How long to wait for a connection that is gone: a server that is restarted is back within it.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for the acknowledgement of an event that may be sent again without being stored twice.
const IDEMPOTENT_ATTEMPT: Duration = Duration::from_millis(1500);
/// Between attempts while the server has not loaded the stream yet.
const STREAM_RETRY: Duration = Duration::from_millis(50);
/// What a message's headers may take beside the values we count, in bytes.
const HEADER_ALLOWANCE: usize = 1024;

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its type.
    pub event_type: EventType,
    /// Its id, unique for its source.
    pub id: String,
    /// Where it comes from, a URI reference.
    pub source: String,
    /// When it happened.
    pub time: Stamp,
    /// The transaction it belongs to.
    pub transaction_id: String,
    /// The data's media type.
    pub content_type: String,
    /// W3C trace context of the sender, as it was given.
    pub traceparent: Option<String>,
    /// Further CloudEvents attributes, in header form.
    pub extensions: Vec<(String, String)>,
    /// Store it only if the last event of its type has this sequence (0: there is none yet).
    pub expected_last: Option<u64>,
    /// Two events with the same key are one, within the duplicate window.
    pub idempotency_key: Option<String>,
    /// The payload.
    pub data: Bytes,
}

/// Where an event was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log.
    pub sequence: u64,
    /// Whether it was there already, under the same idempotency key.
    pub is_duplicate: bool,
}

/// Why an event was not acknowledged as stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is certain that it was not stored: sending it again is safe.
    #[error("the event was not stored: {0}")]
    NotStored(Unavailable),
    /// The acknowledgement did not come: it may have been stored.
    #[error("the event may or may not have been stored: {0}")]
    Unknown(Unavailable),
    /// It was not stored, because the last event of its type is another one than expected.
    #[error("the last event of this type has sequence {actual} (0: there is none)")]
    WrongLast {
        /// Its sequence.
        actual: u64,
    },
    /// It can never be stored.
    #[error("the event has {bytes} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Size of data and headers.
        bytes: usize,
        /// What the server takes.
        limit: usize,
    },
}

/// Why a batch was not stored.
enum BatchError {
    /// One of its events is in the log already.
    HasDuplicates,
    /// As for a single event.
    Store(StoreError),
}

impl EventLog {
    /// Stores an event; returns when JetStream has acknowledged it. Within a few seconds it does, or fails.
    pub async fn store(&self, event: &NewEvent) -> Result<Stored, StoreError> {
        let headers = headers_of(event);
        self.check_size(event, &headers)?;
        let began = Instant::now();
        let deadline = began + STORE_DEADLINE;
        let mut outcome: fn(Unavailable) -> StoreError = StoreError::NotStored;
        loop {
            if !self.broker.connected_by(deadline.min(Instant::now() + RECONNECT_PATIENCE)).await {
                let server = self.broker.server();
                return Err(outcome(Unavailable::new("NATS is out of reach", format!("no connection to {server}"))));
            }
            let error = match self.attempt(event, headers.clone(), deadline).await {
                Ok(ack) => {
                    self.broker.pulse.beats();
                    return Ok(Stored { sequence: ack.sequence, is_duplicate: ack.duplicate });
                }
                Err(error) => error,
            };
            let is_constant = code_of(&error) == Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
            if is_constant || error.kind() == PublishErrorKind::WrongLastSequence {
                return Err(self.wrong_last(&event.event_type).await);
            }
            let (may_be_stored, may_work_now) = match error.kind() {
                // Nobody listened: JetStream is starting, or its stream is not there yet.
                PublishErrorKind::StreamNotFound => (false, true),
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => (true, event.idempotency_key.is_some()),
                _ => (false, false),
            };
            if may_be_stored {
                outcome = StoreError::Unknown;
            }
            self.broker.pulse.misses(began);
            if !may_work_now || Instant::now() + STREAM_RETRY >= deadline {
                return Err(error).during("JetStream did not acknowledge it").map_err(outcome);
            }
            sleep(STREAM_RETRY).await;
        }
    }

    async fn attempt(
        &self,
        event: &NewEvent,
        headers: HeaderMap,
        deadline: Instant,
    ) -> Result<PublishAck, PublishError> {
        let deadline = match event.idempotency_key {
            Some(_) => deadline.min(Instant::now() + IDEMPOTENT_ATTEMPT),
            None => deadline,
        };
        let message = PublishMessage::build().payload(event.data.clone()).headers(headers);
        let attempt = async {
            let ack = self.broker.context.send_publish(event.event_type.subject(), message).await?;
            ack.await
        };
        timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)))
    }

    fn check_size(&self, event: &NewEvent, headers: &HeaderMap) -> Result<(), StoreError> {
        let limit = self.broker.max_message_bytes();
        let header_bytes: usize = headers.iter().flat_map(|(_, values)| values).map(|value| value.as_str().len()).sum();
        let bytes = event.data.len() + header_bytes + HEADER_ALLOWANCE;
        // Before the first connection the limit is not known, and nothing can be stored anyway.
        if limit > 0 && bytes > limit { Err(StoreError::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    async fn wrong_last(&self, event_type: &EventType) -> StoreError {
        let what = "looking up the last event of a type";
        let found = match self.broker.objects() {
            Ok(objects) => objects.events.get_last_raw_message_by_subject(&event_type.subject()).await,
            Err(error) => return StoreError::NotStored(error),
        };
        match found {
            Ok(message) => StoreError::WrongLast { actual: message.sequence },
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                StoreError::WrongLast { actual: 0 }
            }
            Err(error) => StoreError::NotStored(Unavailable::new(what, error)),
        }
    }

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
                // What the log does not tell, JetStream does for a single one.
                let stored = self.store(only).await?;
                if stored.is_duplicate {
                    known.insert(key, stored.sequence);
                    continue;
                }
                return Ok(placed(events, &known, &[only], stored.sequence));
            }
            match self.store_new(&new).await {
                Ok(first) => return Ok(placed(events, &known, &new, first)),
                // Some are there already: which, only the log tells.
                Err(BatchError::HasDuplicates) if !has_looked => {
                    has_looked = true;
                    known = self.stored_lately(&new).await.map_err(StoreError::NotStored)?;
                }
                Err(BatchError::HasDuplicates) => {
                    let why = "it has an event whose id JetStream knows and the log does not tell: it is being stored by somebody else, or was removed";
                    return Err(StoreError::NotStored(Unavailable::new("JetStream did not take the batch", why)));
                }
                Err(BatchError::Store(error)) => return Err(error),
            }
        }
    }

    /// Stores events of which none is known to be there. Answers with the sequence of the first.
    async fn store_new(&self, events: &[&NewEvent]) -> Result<u64, BatchError> {
        let (last, others) = match events {
            [] => return Ok(0),
            [only] => return self.store(only).await.map(|stored| stored.sequence).map_err(BatchError::Store),
            [others @ .., last] => (last, others),
        };
        for event in events {
            self.check_size(event, &headers_of(event)).map_err(BatchError::Store)?;
        }
        let _permit = self.batches.acquire().await;
        let not_stored = |why: &dyn std::fmt::Display| {
            BatchError::Store(StoreError::NotStored(Unavailable::new("JetStream did not take the batch", why)))
        };
        if !self.broker.connected_by(Instant::now() + RECONNECT_PATIENCE).await {
            return Err(not_stored(&format!("no connection to {}", self.broker.server())));
        }
        let began = Instant::now();
        let id = Uuid::now_v7().simple().to_string();
        let client = self.broker.context.client();
        for (number, event) in (1..).zip(others) {
            let headers = batch_headers(event, &id, number);
            client
                .publish_with_headers(event.event_type.subject(), headers, event.data.clone())
                .await
                .map_err(|error| not_stored(&error))?;
        }
        let mut headers = batch_headers(last, &id, events.len());
        headers.insert("Nats-Batch-Commit", "1");
        let message = PublishMessage::build().payload(last.data.clone()).headers(headers);
        let commit = async { self.broker.context.send_publish(last.event_type.subject(), message).await?.await };
        let commit = timeout_at(Instant::now() + STORE_DEADLINE, commit).await;
        match commit.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut))) {
            Ok(ack) => {
                self.broker.pulse.beats();
                Ok(ack.sequence + 1 - events.len() as u64)
            }
            Err(error) if code_of(&error) == Some(ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE) => {
                Err(BatchError::HasDuplicates)
            }
            Err(error) if matches!(error.kind(), PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe) => {
                self.broker.pulse.misses(began);
                Err(BatchError::Store(StoreError::Unknown(Unavailable::new("JetStream did not acknowledge it", error))))
            }
            Err(error) => Err(not_stored(&error)),
        }
    }

    /// The sequences of those of the events that were stored within the duplicate window, by idempotency key.
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

/// The CloudEvents NATS protocol binding's binary mode.
fn headers_of(event: &NewEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::SPEC_VERSION, event::SPEC_VERSION);
    headers.insert(header::ID, &*header_value::encode(&event.id));
    headers.insert(header::SOURCE, &*header_value::encode(&event.source));
    headers.insert(header::TYPE, &*header_value::encode(event.event_type.as_str()));
    headers.insert(header::TIME, event.time.to_rfc3339().as_str());
    headers.insert(header::TRANSACTION_ID, &*header_value::encode(&event.transaction_id));
    headers.insert(header::CONTENT_TYPE, event.content_type.as_str());
    if let Some(traceparent) = &event.traceparent {
        headers.insert(header::TRACEPARENT, &*header_value::encode(traceparent));
    }
    for (name, value) in &event.extensions {
        headers.insert(name.as_str(), value.as_str());
    }
    if let Some(sequence) = event.expected_last {
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string().as_str());
    }
    if let Some(key) = &event.idempotency_key {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, &*header_value::encode(key));
    }
    headers
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

/// Headers of an event in an atomic batch (ADR-50).
fn batch_headers(event: &NewEvent, id: &str, number: usize) -> HeaderMap {
    let mut headers = headers_of(event);
    headers.insert("Nats-Batch-Id", id);
    headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
    headers
}

/// The idempotency key that a CloudEvent in the log was stored under: see `CloudEvent::identity`.
fn identity_of(event: &Event) -> String {
    let of = |name| event.header(name).unwrap_or_default();
    format!("ce {} {}", of(header::SOURCE), of(header::ID))
}

fn code_of(error: &PublishError) -> Option<ErrorCode> {
    std::error::Error::source(error)?.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}
