//! The stream `EVENTS`: reading it, and finding a place in it. `store` and `batch` add to it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{self, DiscardPolicy};
use domain::log_epoch::{Evidence, Mark};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Event, Stamp, TypePattern};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

pub use crate::connection::direct_get::End;
use crate::connection::direct_get::{self, DirectMessage, PAGE_BYTES, PageError, PageRequest};
use crate::connection::{Broker, RECONNECT_PATIENCE};
use crate::error::{During, Unavailable};
use crate::log::lookup;
use crate::log::message::{event_of, stamp_of};
use crate::names::EVENTS;

/// How many atomic batches of senders one process has under way at a time, beside that of group commit.
const OPEN_BATCHES: usize = 15;

/// The log's first event, or before it.
const WHOLE_LOG: u64 = 1;
/// How much of the log is read, at most, for where a transaction begins: pages, and events in each.
const PAGES_FOR_A_BEGINNING: usize = 20;
const EVENTS_FOR_A_BEGINNING: usize = 1000;
/// How long that may take. After that it is quicker to begin with the log's first event.
const BEGINNING_DEADLINE: Duration = Duration::from_secs(4);

/// The log. Clones share its connection and its limit of open batches.
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

/// The bounds of the log: where it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The oldest event's sequence. Above 1 where anything has been removed.
    pub first_sequence: u64,
    /// When the oldest event was stored; `None` where there is none.
    pub first_stored_at: Option<Stamp>,
    /// The newest event's sequence, 0 where there has never been one.
    pub last_sequence: u64,
    /// How many events there are.
    pub events: u64,
}

/// How much of the log there is, and may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// The oldest event's sequence; one more than the last where there is none.
    pub first_sequence: u64,
    /// The newest event's sequence, 0 where there has never been one.
    pub last_sequence: u64,
    /// When the oldest event was stored.
    pub first_stored_at: Option<Stamp>,
    /// When the newest event was stored.
    pub last_stored_at: Option<Stamp>,
    /// How many events there are.
    pub events: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// How old an event may become.
    pub max_age: Option<Duration>,
    /// How many bytes they may take.
    pub max_bytes: Option<u64>,
    /// How many there may be.
    pub max_events: Option<u64>,
    /// How many sequences between its ends hold no event.
    pub missing: u64,
    /// Whether the oldest events are removed where there is no room; otherwise what is new is refused.
    pub discards_old: bool,
}

impl LogBounds {
    /// What they tell of the log.
    pub fn evidence(&self) -> Evidence {
        let Self { first_sequence, last_sequence, .. } = *self;
        Evidence { first_sequence, last_sequence, ..Evidence::default() }
    }

    /// How many sequences between its ends hold no event.
    pub fn missing(&self) -> u64 {
        missing(self.first_sequence, self.last_sequence, self.events)
    }
}

/// How many sequences of a stream hold nothing. One that was never written to begins, and ends, with 0.
pub(crate) fn missing(first_sequence: u64, last_sequence: u64, events: u64) -> u64 {
    if events == 0 { 0 } else { (last_sequence + 1).saturating_sub(first_sequence).saturating_sub(events) }
}

/// The end of the log, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The newest event's sequence, 0 where there has never been one.
    pub last_sequence: u64,
    /// The moment, by the clock by which events are stored: what comes behind the end is stored later.
    pub as_of: Stamp,
}

/// What the server says of the stream, as far as it is looked at.
#[derive(Deserialize)]
struct StreamInfo {
    ts: String,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    #[serde(rename = "last_seq")]
    last_sequence: u64,
}

impl EventLog {
    /// The log behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker, batches: Arc::new(Semaphore::new(OPEN_BATCHES)) }
    }

    /// The sequence of the newest event, 0 for an empty log. Asked of the stream's leader: every event that was
    /// acknowledged before the call is at or below it.
    pub async fn last_sequence(&self) -> Result<u64, Unavailable> {
        Ok(self.info("looking up the end of the log").await?.state.last_sequence)
    }

    /// Where the log ends, and when it does. Asked of the stream's leader, whose clock says when events are stored.
    pub async fn end(&self) -> Result<LogEnd, Unavailable> {
        const WHAT: &str = "looking up the end of the log";
        let context = &self.broker.handles().context;
        let answer = async { context.request(format!("STREAM.INFO.{EVENTS}"), &json!({})).await.during(WHAT) };
        let answer: Response<StreamInfo> = self.broker.while_connected(WHAT, answer).await?;
        match answer {
            Response::Ok(StreamInfo { ts, state: StreamState { last_sequence } }) => {
                Ok(LogEnd { last_sequence, as_of: Stamp::parse(&ts).during(WHAT)? })
            }
            Response::Err { error } => Err(error).during(WHAT),
        }
    }

    async fn info(&self, what: &'static str) -> Result<stream::Info, Unavailable> {
        let objects = self.broker.objects()?;
        self.broker.while_connected(what, async { objects.events.get_info().await.during(what) }).await
    }

    /// Where to begin to read for the events of a transaction: at or before its first one. Where its id is a stamp that a
    /// receiver made, that is where the log shows so; otherwise the log's beginning.
    pub async fn beginning_of(&self, transaction_id: &str) -> Result<u64, Unavailable> {
        timeout(BEGINNING_DEADLINE, self.find_beginning_of(transaction_id)).await.unwrap_or(Ok(WHOLE_LOG))
    }

    async fn find_beginning_of(&self, transaction_id: &str) -> Result<u64, Unavailable> {
        let Some(began) = Stamp::of_transaction(transaction_id) else { return Ok(WHOLE_LOG) };
        let mut next = self.first_sequence_from(began.plus_micros(-CLOCK_SKEW_MARGIN_MICROS)).await?;
        let until = began.plus_micros(CLOCK_SKEW_MARGIN_MICROS);
        for _ in 0..PAGES_FOR_A_BEGINNING {
            let Some(from) = next else { break };
            let page = self.read(from, None, EVENTS_FOR_A_BEGINNING).await?;
            if let Some(first) = page.events.iter().find(|event| event.transaction_id == transaction_id) {
                let is_the_first = first.began_its_transaction(CLOCK_SKEW_MARGIN_MICROS);
                return Ok(if is_the_first { first.sequence } else { WHOLE_LOG });
            }
            let is_beyond = page.events.last().is_some_and(|last| last.stored_at > until);
            next = match page.end {
                End::Before(next) if !is_beyond => Some(next),
                End::Before(_) | End::OfLog => None,
            };
        }
        Ok(WHOLE_LOG)
    }

    /// The sequence of the first readable event from `from` on that any of the filters lets through, if there is one. Asked
    /// of the stream's leader.
    pub async fn first_of(&self, from: u64, filters: &[TypePattern]) -> Result<Option<u64>, Unavailable> {
        let mut first: Option<u64> = None;
        for filter in filters {
            let (subject, mut from) = (filter.subject(), from);
            while let Some(message) = lookup::next(&self.broker, from, &subject).await? {
                if message.is_readable() {
                    first = Some(first.map_or(message.sequence, |first| first.min(message.sequence)));
                    break;
                }
                from = message.sequence + 1;
            }
        }
        Ok(first)
    }

    /// Some events from a sequence on, in order, that are of a type which `pattern` matches (all, for `None`): at most
    /// `limit`, fewer where they are large or the log ends.
    ///
    /// Any replica may answer, and one that lags ends early: [`Page::end`] says how far it went. A message that cannot be
    /// read is passed over.
    pub async fn read(&self, from: u64, pattern: Option<&TypePattern>, limit: usize) -> Result<Page, Unavailable> {
        let subject = pattern.map(TypePattern::subject);
        let request = PageRequest { stream: EVENTS, from, subject: subject.as_deref(), limit };
        if !self.may_hold_poison(&request) {
            let link = *self.broker.link().borrow();
            tokio::select! {
                biased;
                page = self.read_at_once(&request) => match page {
                    Err(PageError::ConnectionEnded(_)) => {}
                    page => return Ok(page?),
                },
                () = self.broker.is_lost() => {}
            }
            // A message of this page may be the reason, and this reader the only one that asks for it.
            self.broker.connected_anew_by(link, Instant::now() + RECONNECT_PATIENCE).await;
        }
        self.read_one_by_one(&request).await
    }

    /// Whether the page may hold an unreadable message. Where the log has holes, a page may reach further than its limit:
    /// then the connection is lost, and the page is read one by one all the same.
    fn may_hold_poison(&self, request: &PageRequest<'_>) -> bool {
        let detection = self.broker.poison_detection();
        let is_near = |known| request.subject.is_some() || known < request.from.saturating_add(request.limit as u64);
        detection.is_suspected() || detection.known_behind(request.from.saturating_sub(1)).is_some_and(is_near)
    }

    async fn read_at_once(&self, request: &PageRequest<'_>) -> Result<Page, PageError> {
        let mut events = Vec::new();
        let end = direct_get::read(&self.broker, request, "reading the log", |found| {
            let DirectMessage { sequence, subject, stored_at, message } = found;
            events.extend(event_of(&subject, sequence, stored_at, message.headers.as_ref(), message.payload));
        });
        Ok(Page { end: end.await?, events })
    }

    async fn read_one_by_one(&self, request: &PageRequest<'_>) -> Result<Page, Unavailable> {
        let (mut next, mut bytes, mut events) = (request.from, 0, Vec::new());
        for _ in 0..request.limit {
            let Some(message) = lookup::next(&self.broker, next, request.subject.unwrap_or(">")).await? else {
                return Ok(Page { end: End::OfLog, events });
            };
            next = message.sequence + 1;
            bytes += message.bytes;
            events.extend(message.event());
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(Page { end: End::Before(next), events })
    }

    /// Where the log begins and ends. Asked of the stream's leader.
    pub async fn bounds(&self) -> Result<LogBounds, Unavailable> {
        let state = self.info("looking up the bounds of the log").await?.state;
        Ok(LogBounds {
            first_sequence: state.first_sequence,
            first_stored_at: (state.messages > 0).then(|| stamp_of(state.first_timestamp.unix_timestamp_nanos())),
            last_sequence: state.last_sequence,
            events: state.messages,
        })
    }

    /// How much of the log there is, and may be. Asked of the stream's leader.
    pub async fn status(&self) -> Result<LogStatus, Unavailable> {
        let info = self.info("looking up the log").await?;
        let (state, config) = (info.state, info.config);
        let stored = |nanos: i128| (state.messages > 0).then(|| stamp_of(nanos));
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        Ok(LogStatus {
            first_sequence: state.first_sequence,
            last_sequence: state.last_sequence,
            first_stored_at: stored(state.first_timestamp.unix_timestamp_nanos()),
            last_stored_at: stored(state.last_timestamp.unix_timestamp_nanos()),
            events: state.messages,
            bytes: state.bytes,
            max_age: (config.max_age > Duration::ZERO).then_some(config.max_age),
            max_bytes: limit(config.max_bytes),
            max_events: limit(config.max_messages),
            missing: missing(state.first_sequence, state.last_sequence, state.messages),
            discards_old: config.discard == DiscardPolicy::Old,
        })
    }

    /// What identifies the message with a sequence, if there is one. Asked of the stream's leader.
    pub async fn mark_at(&self, sequence: u64) -> Result<Option<Mark>, Unavailable> {
        Ok(lookup::at(&self.broker, sequence).await?.and_then(|message| message.mark()))
    }

    /// What the log is like where marks were made: by a look at those places that are within it.
    pub async fn look_at(&self, bounds: &LogBounds, marks: &[&Mark]) -> Result<Evidence, Unavailable> {
        let mut evidence = bounds.evidence();
        for mark in marks {
            if !evidence.holds(mark.sequence) {
                continue;
            }
            evidence.found.insert(mark.sequence, self.mark_at(mark.sequence).await?);
        }
        Ok(evidence)
    }

    /// One event, if it is (still) there. Asked of the stream's leader.
    pub async fn get(&self, sequence: u64) -> Result<Option<Event>, Unavailable> {
        Ok(lookup::at(&self.broker, sequence).await?.and_then(|message| message.event()))
    }
}
