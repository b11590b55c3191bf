//! Adding an event to the stream `EVENTS`.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use domain::event::{self, header};
use domain::{EventType, Stamp, header_value};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::connection::RECONNECT_PATIENCE;
use crate::connection::probe::outcome_of;
use crate::connection::publish::{PublishAck, PublishError};
use crate::connection::write_health::{Cause, Outcome};
use crate::error::{During, Unavailable};
use crate::log::event_log::EventLog;
use crate::log::lookup;
use crate::names::EVENTS;

/// How long storing one event may take, all told.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(4);
/// How long to wait for the acknowledgement of an event with an idempotency key: it can be sent again without harm.
pub(crate) const IDEMPOTENT_ATTEMPT: Duration = Duration::from_millis(1500);
/// Between attempts while the server has not loaded the stream yet.
pub(crate) const STREAM_RETRY: Duration = Duration::from_millis(50);
/// What a header takes beside its name and value: a colon, a space, and the end of its line.
const LINE_FRAME: usize = 4;
/// What a message's headers may take beside those that are counted: the first line, and those of a batch.
const HEADER_ALLOWANCE: usize = 256;
/// Which id the last message of the stream must have.
const EXPECTED_LAST_ID: HeaderName = async_nats::header::NATS_EXPECTED_LAST_MESSAGE_ID;

/// The message where JetStream cannot store an event, and its storage is not known to be the cause.
const FULL: &str =
    "the log takes no more: it is at its limit and discards what is new (MER_EVENTS_DISCARD), or its disk fails";

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
    /// The data's media type, where it is known.
    pub content_type: Option<String>,
    /// W3C trace context of the sender, as it was given.
    pub traceparent: Option<String>,
    /// What belongs to `traceparent`; kept only with one.
    pub tracestate: Option<String>,
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
    #[error("the event has about {bytes} bytes with its headers; NATS takes at most {limit}")]
    TooLarge {
        /// Size of data and headers.
        bytes: usize,
        /// What the server takes.
        limit: usize,
    },
}

/// An event as it goes over the wire.
pub(crate) struct OutgoingMessage {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) data: Bytes,
    /// How large it is, more or less: data, and what its headers hold.
    pub(crate) bytes: usize,
}

/// What to say of an event that cannot be tried again: that it was not stored, or that it may have been.
pub(crate) type UntriedError = fn(Unavailable) -> StoreError;

impl EventLog {
    /// Stores an event; returns when JetStream has acknowledged it. Within a few seconds it does, or fails.
    pub async fn store(&self, event: &NewEvent) -> Result<Stored, StoreError> {
        let message = self.message_of(event)?;
        self.store_by(Instant::now() + STORE_DEADLINE, event, message, StoreError::NotStored).await
    }

    /// Stores an event by the deadline. `untried` is what to say of it where no attempt is possible.
    pub(crate) async fn store_by(
        &self,
        deadline: Instant,
        event: &NewEvent,
        mut message: OutgoingMessage,
        mut untried: UntriedError,
    ) -> Result<Stored, StoreError> {
        let began = Instant::now();
        loop {
            // First: it may be why nats-server is away.
            self.broker.storage().takes_events().map_err(untried)?;
            if !self.broker.connected_by(deadline.min(Instant::now() + RECONNECT_PATIENCE)).await {
                let server = self.broker.server();
                return Err(untried(Unavailable::new("NATS is out of reach", format!("no connection to {server}"))));
            }
            self.broker.takes_events_by(deadline).await.map_err(untried)?;
            let message_bytes = message.bytes;
            let attempt_deadline = match event.idempotency_key {
                Some(_) => deadline.min(Instant::now() + IDEMPOTENT_ATTEMPT),
                None => deadline,
            };
            let error = match self.publish(message, attempt_deadline).await {
                Ok(PublishAck { sequence, is_duplicate, .. }) => return Ok(Stored { sequence, is_duplicate }),
                Err(error) => error,
            };
            if error.is_full() {
                return Err(not_taken(&error));
            }
            if error.is_too_large() {
                return Err(self.too_large(message_bytes));
            }
            let may_work_now = if error.is_wrong_last() {
                match self.after_wrong_last(deadline, event).await? {
                    WrongLast::There(sequence) => return Ok(Stored { sequence, is_duplicate: true }),
                    WrongLast::UnderWay => untried = StoreError::Unknown,
                    WrongLast::Over => {}
                }
                true
            } else {
                matches!(error, PublishError::NoStream)
                    || event.idempotency_key.is_some() && (error.is_unanswered() || error.is_under_way())
            };
            if error.is_unanswered() || error.is_under_way() {
                untried = StoreError::Unknown;
            }
            self.broker.note_missed(began, &error);
            if !may_work_now || Instant::now() + STREAM_RETRY >= deadline {
                return Err(error).during("JetStream did not acknowledge it").map_err(untried);
            }
            sleep(STREAM_RETRY).await;
            message = self.message_of(event)?;
        }
    }

    /// Publishes a message and waits for its acknowledgement, but not past the deadline.
    pub(crate) async fn publish(
        &self,
        message: OutgoingMessage,
        deadline: Instant,
    ) -> Result<PublishAck, PublishError> {
        let OutgoingMessage { subject, headers, data, .. } = message;
        let began = Instant::now();
        let published = self.broker.publish(EVENTS, subject, headers, data, deadline).await;
        self.broker.storage().posted(published.as_ref().err().map_or(Outcome::Written, outcome_of), began);
        published
    }

    /// What is sent for an event, unless it is larger than the server takes.
    pub(crate) fn message_of(&self, event: &NewEvent) -> Result<OutgoingMessage, StoreError> {
        let headers = headers_of(event);
        let limit = self.broker.max_message_bytes();
        let line_bytes = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
            let name: &str = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + LINE_FRAME).sum::<usize>()
        };
        let header_bytes: usize = headers.iter().map(line_bytes).sum();
        let bytes = event.data.len() + header_bytes + HEADER_ALLOWANCE;
        // Before the first connection the limit is not known, and nothing can be stored anyway.
        if limit > 0 && bytes > limit {
            return Err(StoreError::TooLarge { bytes, limit });
        }
        Ok(OutgoingMessage { subject: event.event_type.subject(), headers, data: event.data.clone(), bytes })
    }

    /// Says that JetStream takes no message of this size: the server, or the stream.
    pub(crate) fn too_large(&self, bytes: usize) -> StoreError {
        let objects = self.broker.objects().ok();
        let of_stream = objects.map(|objects| objects.events.cached_info().config.max_message_size);
        let of_stream = of_stream.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let limit = self.broker.max_message_bytes();
        StoreError::TooLarge { bytes, limit: of_stream.map_or(limit, |of_stream| of_stream.min(limit)) }
    }

    /// Looks at why an event was refused because of the one before it. nats-server compares the condition before it looks
    /// for the key, so an event that is there already is refused too. And in a cluster it compares with events that are
    /// being stored, which may not be there yet, or never.
    async fn after_wrong_last(&self, deadline: Instant, event: &NewEvent) -> Result<WrongLast, StoreError> {
        match self.known_sequence(deadline, event).await {
            Ok(Some(sequence)) => return Ok(WrongLast::There(sequence)),
            Ok(None) => {}
            Err(error) if error.is_under_way() => return Ok(WrongLast::UnderWay),
            Err(error) => return Err(error).during("looking for the idempotency key").map_err(StoreError::Unknown),
        }
        const WHAT: &str = "looking up the last event of the type";
        let last = timeout_at(deadline, lookup::last(&self.broker, &event.event_type.subject())).await.during(WHAT);
        let last = last.and_then(|last| last).map_err(StoreError::NotStored)?;
        let actual = last.map_or(0, |message| message.sequence);
        if event.expected_last == Some(actual) { Ok(WrongLast::Over) } else { Err(StoreError::WrongLast { actual }) }
    }

    /// The sequence under which JetStream knows an event's idempotency key, within the duplicate window.
    ///
    /// There is no question for that. So the event is sent with a condition that never holds: that the last message of the
    /// stream has an id which none has. nats-server 2.15 looks for the event's own id before it compares this one, unlike
    /// with sequences; the end-to-end tests of conditional writes tell where another version does not. Where it does not,
    /// nothing is stored either.
    pub(crate) async fn known_sequence(
        &self,
        deadline: Instant,
        event: &NewEvent,
    ) -> Result<Option<u64>, PublishError> {
        if event.idempotency_key.is_none() {
            return Ok(None);
        }
        let mut headers = headers_of(&NewEvent { expected_last: None, ..event.clone() });
        headers.insert(EXPECTED_LAST_ID, Uuid::now_v7().to_string().as_str());
        match self.broker.publish(EVENTS, event.event_type.subject(), headers, event.data.clone(), deadline).await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if error.code() == Some(ErrorCode::STREAM_WRONG_LAST_MESSAGE_ID) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Says that JetStream has no room for an event, and why.
pub(crate) fn not_taken(error: &PublishError) -> StoreError {
    StoreError::NotStored(match outcome_of(error) {
        Outcome::Failed(cause @ (Cause::DiskFull | Cause::ReadOnly | Cause::DiskFails | Cause::StorageLimit)) => {
            Unavailable::new("NATS takes no events", format!("{cause} ({error})"))
        }
        _ => Unavailable::new(FULL, error),
    })
}

/// Why an event was refused because of the one before it, where another attempt may help.
enum WrongLast {
    /// It is in the log itself, at this sequence, under the same idempotency key.
    There(u64),
    /// It is being stored by somebody else, or by an earlier attempt.
    UnderWay,
    /// The last event is the expected one by now.
    Over,
}

/// The CloudEvents NATS protocol binding's binary mode.
fn headers_of(event: &NewEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: &str| headers.insert(HeaderName::from_static(name), value);
    insert(header::SPEC_VERSION, event::SPEC_VERSION);
    insert(header::ID, &header_value::encode(&event.id));
    insert(header::SOURCE, &header_value::encode(&event.source));
    insert(header::TYPE, &header_value::encode(event.event_type.as_str()));
    insert(header::TIME, &event.time.to_rfc3339());
    insert(header::TRANSACTION_ID, &header_value::encode(&event.transaction_id));
    if let Some(content_type) = &event.content_type {
        insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(traceparent) = &event.traceparent {
        insert(header::TRACEPARENT, &header_value::encode(traceparent));
        if let Some(tracestate) = &event.tracestate {
            insert(header::TRACESTATE, tracestate);
        }
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
