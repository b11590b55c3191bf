//! The stream `EVENTS`: storing an event, and finding a place in the log.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind, RequestErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{ErrorCode, context::RequestError};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use domain::event::{self, header};
use domain::{Event, EventType, Stamp, TypePattern, header_value};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::topology::EVENTS;

/// How long storing one event may take, all told.
const STORE_DEADLINE: Duration = Duration::from_secs(4);
/// How long to wait for a connection that is gone: a server that is restarted is back within it.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for the acknowledgement of an event that may be sent again without being stored twice.
const IDEMPOTENT_ATTEMPT: Duration = Duration::from_millis(1500);
/// Between attempts while the server has not loaded the stream yet.
const STREAM_RETRY: Duration = Duration::from_millis(50);
/// How long the next answer of a direct get may take to come.
const ANSWER_DEADLINE: Duration = Duration::from_secs(4);
/// The most that one page may hold, in bytes, unless a single event is larger.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// What ends the answers of a direct get.
const END_OF_BATCH: u16 = 204;
/// What a direct get answers that finds nothing.
const NOTHING_FOUND: u16 = 404;
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
    /// It can never be stored.
    #[error("the event has {bytes} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Size of data and headers.
        bytes: usize,
        /// What the server takes.
        limit: usize,
    },
}

/// What can be looked up in, and added to, the log.
#[derive(Clone)]
pub struct EventLog {
    broker: Broker,
}

/// Events in order, and where they stop.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where reading ended.
    pub end: End,
}

/// Where reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the last event that there is.
    OfLog,
    /// There is more, from this sequence on.
    Before(u64),
}

/// The extent of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest event's sequence. Above 1 where anything has been removed.
    pub first_sequence: u64,
    /// When the oldest event was stored; `None` where there is none.
    pub first_stored_at: Option<Stamp>,
    /// The newest event's sequence, 0 where there has never been one.
    pub last_sequence: u64,
}

#[derive(Deserialize)]
struct FoundMessage {
    message: FoundSequence,
}

#[derive(Deserialize)]
struct FoundSequence {
    seq: u64,
}

impl EventLog {
    /// The log behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Stores an event; returns when JetStream has acknowledged it. Within a few seconds it does, or fails.
    pub async fn store(&self, event: &NewEvent) -> Result<Stored, StoreError> {
        let headers = headers_of(event);
        self.check_size(event, &headers)?;
        let deadline = Instant::now() + STORE_DEADLINE;
        let mut outcome: fn(Unavailable) -> StoreError = StoreError::NotStored;
        loop {
            if !self.broker.connected_by(deadline.min(Instant::now() + RECONNECT_PATIENCE)).await {
                let server = self.broker.server();
                return Err(outcome(Unavailable::new("NATS is out of reach", format!("no connection to {server}"))));
            }
            let error = match self.attempt(event, headers.clone(), deadline).await {
                Ok(ack) => return Ok(Stored { sequence: ack.sequence, is_duplicate: ack.duplicate }),
                Err(error) => error,
            };
            let (may_be_stored, may_work_now) = match error.kind() {
                // Nobody listened: JetStream is starting, or its stream is not there yet.
                PublishErrorKind::StreamNotFound => (false, true),
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => (true, event.idempotency_key.is_some()),
                _ => (false, false),
            };
            if may_be_stored {
                outcome = StoreError::Unknown;
            }
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

    /// The sequence of the newest event, 0 for an empty log. Asked of the stream's leader: every event that was
    /// acknowledged before the call is at or below it.
    pub async fn last_sequence(&self) -> Result<u64, Unavailable> {
        let objects = self.broker.objects()?;
        let info = objects.events.get_info().await.during("looking up the end of the log")?;
        Ok(info.state.last_sequence)
    }

    /// The first event that was stored at or after a moment, if there is one. Asked of the stream's leader.
    pub async fn first_sequence_from(&self, moment: Stamp) -> Result<Option<u64>, Unavailable> {
        const WHAT: &str = "looking up a moment in the log";
        let request = json!({"next_by_subj": ">", "start_time": moment.to_rfc3339()});
        let subject = format!("STREAM.MSG.GET.{EVENTS}");
        let answer: Result<Response<FoundMessage>, RequestError> = self.broker.context.request(subject, &request).await;
        match answer {
            Ok(Response::Ok(found)) => Ok(Some(found.message.seq)),
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Ok(Response::Err { error }) => Err(Unavailable::new(WHAT, error)),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Unavailable::new(WHAT, "no JetStream")),
            Err(error) => Err(error).during(WHAT),
        }
    }

    /// Some events from a sequence on, in order, that are of a type which `pattern` matches (all, for `None`): at most
    /// `limit`, fewer where they are large or the log ends.
    ///
    /// Any replica may answer, and one that lags ends early: [`Page::end`] says how far it went.
    pub async fn read(&self, from: u64, pattern: Option<&TypePattern>, limit: usize) -> Result<Page, Unavailable> {
        const WHAT: &str = "reading the log";
        let client = self.broker.context.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.during(WHAT)?;
        let subject = pattern.map_or_else(|| format!("{}>", domain::event_type::SUBJECT_PREFIX), TypePattern::subject);
        let request = json!({"seq": from.max(1), "next_by_subj": subject, "batch": limit, "max_bytes": PAGE_BYTES});
        let body = request.to_string().into();
        client.publish_with_reply(format!("$JS.API.DIRECT.GET.{EVENTS}"), inbox, body).await.during(WHAT)?;
        let mut page = Page { events: Vec::new(), end: End::OfLog };
        let mut next = from.max(1);
        loop {
            let answer = timeout(ANSWER_DEADLINE, answers.next()).await.during(WHAT)?;
            let answer = answer.ok_or_else(|| Unavailable::new(WHAT, "the connection was lost"))?;
            match answer.status.map(|status| status.as_u16()) {
                None => {
                    let (sequence, event) =
                        found(answer).ok_or_else(|| Unavailable::new(WHAT, "an unreadable answer"))?;
                    next = sequence + 1;
                    page.events.extend(event);
                }
                Some(END_OF_BATCH) => {
                    let pending = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Num-Pending"));
                    if pending.is_some_and(|pending| pending.as_str() != "0") {
                        page.end = End::Before(next);
                    }
                    return Ok(page);
                }
                Some(NOTHING_FOUND) => return Ok(page),
                Some(status) => {
                    return Err(Unavailable::new(WHAT, format!("{status} {}", answer.description.unwrap_or_default())));
                }
            }
        }
    }

    /// Where the log begins and ends. Asked of the stream's leader.
    pub async fn span(&self) -> Result<Span, Unavailable> {
        let objects = self.broker.objects()?;
        let state = objects.events.get_info().await.during("looking up the extent of the log")?.state;
        Ok(Span {
            first_sequence: state.first_sequence,
            first_stored_at: (state.messages > 0).then(|| stamp_of(state.first_timestamp.unix_timestamp_nanos())),
            last_sequence: state.last_sequence,
        })
    }

    /// One event, if it is (still) there. Asked of the stream's leader.
    pub async fn get(&self, sequence: u64) -> Result<Option<Event>, Unavailable> {
        const WHAT: &str = "reading an event";
        let objects = self.broker.objects()?;
        match objects.events.get_raw_message(sequence).await {
            Ok(m) => {
                let stored_at = stamp_of(m.time.unix_timestamp_nanos());
                Ok(event_of(&m.subject, m.sequence, stored_at, Some(&m.headers), m.payload))
            }
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error).during(WHAT),
        }
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
    if let Some(key) = &event.idempotency_key {
        headers.insert(async_nats::header::NATS_MESSAGE_ID, &*header_value::encode(key));
    }
    headers
}

/// One answer of a direct get: the sequence, and the event where its subject is that of a legal type.
fn found(answer: async_nats::Message) -> Option<(u64, Option<Event>)> {
    let headers = answer.headers.as_ref()?;
    let text = |name: &str| headers.get(name).map(HeaderValue::as_str);
    let sequence = text("Nats-Sequence")?.parse().ok()?;
    let stored_at = Stamp::parse(text("Nats-Time-Stamp")?).ok()?;
    Some((sequence, event_of(text("Nats-Subject")?, sequence, stored_at, Some(headers), answer.payload.clone())))
}

/// A moment out of nanoseconds since 1970.
pub(crate) fn stamp_of(nanos: i128) -> Stamp {
    Stamp::from_micros(i64::try_from(nanos / 1000).unwrap_or(i64::MAX))
}

/// An event of the domain out of a message of `EVENTS`.
pub(crate) fn event_of(
    subject: &str,
    sequence: u64,
    stored_at: Stamp,
    headers: Option<&HeaderMap>,
    data: Bytes,
) -> Option<Event> {
    let pairs = headers.into_iter().flat_map(HeaderMap::iter).filter_map(|(name, values)| {
        let value = values.first()?;
        Some((name.as_ref(), value.as_str()))
    });
    Event::from_message(EVENTS, subject, sequence, stored_at, pairs, data)
}
