//! The stream `EVENTS`: reading it, and finding a place in it. Adding to it is in `store`.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{ErrorCode, context::RequestError};
use bytes::Bytes;
use domain::{Event, Stamp, TypePattern};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::connection::Broker;
pub use crate::direct_get::End;
use crate::direct_get::{self, Found, Request};
use crate::error::{During, Unavailable};
use crate::topology::EVENTS;

/// How many atomic batches one process has under way at a time.
const OPEN_BATCHES: usize = 16;

/// What can be looked up in, and added to, the log.
#[derive(Clone)]
pub struct EventLog {
    pub(crate) broker: Broker,
    /// How many batches may be under way: nats-server has room for 50 in a stream.
    pub(crate) batches: Arc<Semaphore>,
}

/// Events in order, and where they stop.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where reading ended.
    pub end: End,
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
        Self { broker, batches: Arc::new(Semaphore::new(OPEN_BATCHES)) }
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

    /// The first sequence from one on that any of the filters lets through, if there is one. Asked of the stream's leader.
    pub async fn first_of(&self, from: u64, filters: &[TypePattern]) -> Result<Option<u64>, Unavailable> {
        let objects = self.broker.objects()?;
        let mut first: Option<u64> = None;
        for filter in filters {
            let found = objects.events.get_first_raw_message_by_subject(&filter.subject(), from).await;
            match found {
                Ok(message) => first = Some(first.map_or(message.sequence, |first| first.min(message.sequence))),
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {}
                Err(error) => return Err(error).during("looking for the next event of a lane"),
            }
        }
        Ok(first)
    }

    /// Some events from a sequence on, in order, that are of a type which `pattern` matches (all, for `None`): at most
    /// `limit`, fewer where they are large or the log ends.
    ///
    /// Any replica may answer, and one that lags ends early: [`Page::end`] says how far it went.
    pub async fn read(&self, from: u64, pattern: Option<&TypePattern>, limit: usize) -> Result<Page, Unavailable> {
        let subject = pattern.map(TypePattern::subject);
        let request = Request { stream: EVENTS, from, subject: subject.as_deref(), limit };
        let mut events = Vec::new();
        let end = direct_get::read(&self.broker, &request, "reading the log", |found| {
            let Found { sequence, subject, stored_at, message } = found;
            events.extend(event_of(&subject, sequence, stored_at, message.headers.as_ref(), message.payload));
        });
        Ok(Page { end: end.await?, events })
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
