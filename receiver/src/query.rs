//! `GET /v1/events` and `GET /v1/events/{sequence}`: reading the log, in pages, as a stream, or live.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use broker::Unavailable;
use bytes::{Bytes, BytesMut};
use domain::event::MAX_SEQUENCE;
use domain::{Event, FieldError};
use futures_util::stream::{self, Stream, StreamExt};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use web::openapi::{AccessProblems, Moment, NatsProblems, NoSuchThing, ValueProblems};
use web::{EventView, Problem, query};

use crate::Receiver;
use crate::answers::EventPage;
use crate::scan::{Query, Scan};
use crate::streams::StreamPlace;
use crate::tail::{self, Opening};

const NDJSON: &str = "application/x-ndjson";
const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";
const DEFAULT_LIMIT: usize = 100;
/// How many events a page may look at. A page that matches little ends early, with where to go on.
const LOOKED_AT_PER_PAGE: usize = 100_000;
/// How much data a page holds before it ends early, in bytes.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Read the log
///
/// By `Accept`: a page of JSON, all of it as NDJSON, or its tail as server-sent events, live (`Last-Event-ID` is a
/// sequence). A page that matches little, or holds much data, may end early; `next` says where to go on.
#[utoipa::path(
    get,
    operation_id = "list_events",
    path = "/v1/events",
    tag = "Events",
    params(
        ("type" = Option<String>, Query, description = "Only events of this type, or of types that match this pattern: `*` stands for a token, `>` at the end for the rest", example = "order.*", max_length = 200, pattern = r"^(?!\$|mer\.)(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+)(\.(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+))*(\.>)?$"),
        ("from" = Option<Moment>, Query, description = "Only events of this moment or later"),
        ("to" = Option<Moment>, Query, description = "Only events of this moment or earlier"),
        ("transaction_id" = Option<String>, Query, description = "Only events of this transaction"),
        ("after_sequence" = Option<u64>, Query, description = "Only events behind this sequence; left out: from the log's first event"),
        ("Last-Event-ID" = Option<String>, Header, nullable = false, description = "For server-sent events, in place of `after_sequence`: only events behind this sequence. With neither, and no `from`: only events that come from now on. The first frame says where the tail begins, as an id without data; or, where events behind the id have been removed, as an event `gap`; or, where the id is beyond the log's end, as an event `reset`. Both have the data `{\"after\",\"first_sequence\",\"last_sequence\"}`"),
        ("limit" = Option<u64>, Query, description = "How many events a page of JSON has at most; 100 where it is left out", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "Events in the log's order", content(
            (EventPage = "application/json"),
            (String = "application/x-ndjson", example = "{\"sequence\":17,\"id\":\"4711\",\"type\":\"order.created\",\"source\":\"/shop\",\"time\":\"2026-01-31T09:30:00.000000Z\",\"transaction_id\":\"20260131093000.000000\",\"data\":{\"n\":1}}\n"),
            (String = "text/event-stream", example = "id: 17\ndata: {\"sequence\":17}\n\n"),
        )),
        ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn list(
    State(receiver): State<Arc<Receiver>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref())?;
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(EVENT_STREAM) {
        let id = match headers.get(LAST_EVENT_ID) {
            Some(id) => {
                let id = id.to_str().ok().and_then(|id| id.parse().ok());
                let fault =
                    || Problem::unacceptable_question(vec![FieldError::header(LAST_EVENT_ID, "it must be a sequence")]);
                Some(id.ok_or_else(fault)?)
            }
            None => None,
        };
        let place = receiver.streams.enter()?;
        return tail_of(&receiver, query, id, place).await.map_err(unavailable);
    }
    if accept.contains(NDJSON) {
        let place = receiver.streams.enter()?;
        let mut scan = Scan::start(receiver.log.clone(), query).await.map_err(unavailable)?;
        // Before the answer begins: where the log cannot be read, that is still the answer.
        let first = lines_of(&scan.read().await.map_err(unavailable)?);
        let lines = stream::iter([Ok(first)]).chain(lines(scan, receiver.shutdown.clone()));
        let lines = lines.inspect(move |_| _ = &place);
        return Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response());
    }
    let scan = Scan::start(receiver.log.clone(), query).await.map_err(unavailable)?;
    page(scan).await.map_err(unavailable)
}

/// The tail of the log: behind the id that a client was told last, or the place that it asks for; else from now on.
async fn tail_of(
    receiver: &Receiver,
    mut query: Query,
    id: Option<u64>,
    place: StreamPlace,
) -> Result<Response, Unavailable> {
    let bounds = receiver.log.bounds().await?;
    let mut told = None;
    if let Some(after) = id.or(query.after_sequence) {
        let (opening, after) = tail::opening(after, id.is_none(), bounds);
        (told, query.after_sequence) = (Some(opening), Some(after));
    } else if query.from.is_none() {
        query.after_sequence = Some(bounds.last_sequence);
    }
    let scan = Scan::start(receiver.log.clone(), query).await?;
    let opening = told.unwrap_or(Opening::Behind(scan.next - 1));
    Ok(tail::answer(opening, scan, receiver.shutdown.clone(), place))
}

/// Read one event
#[utoipa::path(
    get,
    operation_id = "get_event",
    path = "/v1/events/{key}",
    tag = "Events",
    params(("key" = u64, Path, description = "The event's place in the log, from 1", minimum = 1)),
    responses((status = 200, description = "The event", body = EventView), NoSuchThing, ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn get(
    State(receiver): State<Arc<Receiver>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    let sequence = query::whole_number(&text, 1..=MAX_SEQUENCE)
        .map_err(|detail| Problem::unacceptable_question(vec![FieldError::parameter("sequence", detail)]))?;
    match receiver.log.get(sequence).await.map_err(unavailable)? {
        Some(event) => Ok(axum::Json(EventView::of(&event)).into_response()),
        None => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no event with sequence {sequence}"))),
    }
}

fn unavailable(error: Unavailable) -> Problem {
    Problem::unavailable(error, crate::error::RETRY_AFTER_SECS)
}

async fn page(mut scan: Scan) -> Result<Response, Unavailable> {
    let limit = scan.query.limit.unwrap_or(DEFAULT_LIMIT);
    let (mut events, mut bytes): (Vec<Event>, usize) = (Vec::new(), 0);
    let began = scan.next;
    let is_in_bounds = |scan: &Scan, bytes| bytes <= PAGE_BYTES && scan.next - began < LOOKED_AT_PER_PAGE as u64;
    while events.len() < limit && !scan.is_over && is_in_bounds(&scan, bytes) {
        let read = scan.read().await?;
        bytes += read.iter().map(|event| event.data.len()).sum::<usize>();
        events.extend(read);
    }
    let next = if events.len() > limit {
        events.truncate(limit);
        events.last().map(|event| event.sequence)
    } else {
        (!scan.is_over).then(|| scan.next - 1)
    };
    let events = events.iter().map(EventView::of).collect();
    Ok(axum::Json(EventPage { events, next }).into_response())
}

/// All events, one a line. Where the log cannot be read on, or mer stops, the stream breaks off.
fn lines(scan: Scan, shutdown: CancellationToken) -> impl Stream<Item = Result<Bytes, Unavailable>> {
    stream::try_unfold((scan, shutdown), async |(mut scan, shutdown)| {
        if scan.is_over {
            return Ok(None);
        }
        if shutdown.is_cancelled() {
            return Err(Unavailable::new("reading the log", "mer stops"));
        }
        let lines = lines_of(&scan.read().await?);
        Ok(Some((lines, (scan, shutdown))))
    })
}

fn lines_of(events: &[Event]) -> Bytes {
    let mut lines = BytesMut::new();
    for event in events {
        lines.extend_from_slice(&EventView::of(event).to_json());
        lines.extend_from_slice(b"\n");
    }
    lines.freeze()
}
