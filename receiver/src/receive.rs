//! `POST /receive_event/{type}`: the original call.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use broker::store::{NewEvent, Stored};
use bytes::Bytes;
use domain::event::{self, header};
use domain::{Stamp, header_value};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use url::Url;
use uuid::Uuid;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, ProblemDetails, ValueProblems};

use crate::Receiver;
use crate::answers::{Received, ReceivedEvent};
use crate::error::Refusal;
use crate::requests::EventBody;
use crate::span;
use crate::storing::{
    EVENT_DUPLICATE, TRUE, TraceContext, event_type_of, expected_last_of, idempotency_key_of, note_stored, stored_event,
};

const EVENT_ID: HeaderName = HeaderName::from_static("event-id");
const EVENT_SEQUENCE: HeaderName = HeaderName::from_static("event-sequence");
const EVENT_TIME: HeaderName = HeaderName::from_static("event-time");

/// What the sender is told of an event that is stored.
struct Acknowledgement {
    event_type: String,
    id: String,
    time: Stamp,
    sequence: u64,
    data: Bytes,
    is_duplicate: bool,
}

/// Store an event
///
/// Answers with it once JetStream has acknowledged it: a 200 means stored. `/receive_event/{type}/` is the same.
#[utoipa::path(
    post,
    path = "/receive_event/{type}",
    tag = "Events",
    params(
        ("type" = String, Path, description = "The event's type: tokens with dots between them, at most 200 bytes", pattern = r"^(?!\$|mer\.)[^\s/*>.\x00-\x1f\x7f-\x9f]+(\.[^\s/*>.\x00-\x1f\x7f-\x9f]+)*$", max_length = 200, example = "request_from_human"),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, description = "A key that names this event, 1 to 256 printable ASCII characters. Sent again within the duplicate window, the first answer comes again and nothing is stored", min_length = 1, max_length = 256, pattern = "^[!-~]([ -~]*[!-~])?$"),
        ("Expected-Last-Sequence" = Option<u64>, Header, nullable = false, description = "The event is stored only if the last event of its type has this sequence; 0: if there is none of the type yet"),
    ),
    request_body(content = EventBody),
    responses(
        (status = 200, description = "The event is stored", body = Received, headers(
            ("Event-Id" = String, description = "The event's id, percent-encoded"),
            ("Event-Sequence" = u64, description = "The event's place in the log, from 1"),
            ("Event-Time" = String, description = "When the event was received: RFC 3339 in UTC, with microseconds"),
            ("Event-Duplicate" = String, description = "`true` where the event was there already: nothing was stored"),
        )),
        (status = 302, description = "The event is stored, and its data names a `redirect_url`", body = Received, headers(("Location" = String, description = "The `redirect_url` of the data"))),
        (status = 412, description = "The last event of the type has another sequence: nothing was stored", body = ProblemDetails, content_type = "application/problem+json", headers(("Event-Last-Sequence" = u64, description = "That sequence; 0: there is no event of the type yet")), example = json!({"title": "Precondition Failed", "status": 412, "detail": "nothing was stored: the last event of this type has sequence 17 (0: there is none)", "last_sequence": 17})),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn receive_event(
    State(receiver): State<Arc<Receiver>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    receiver.metrics.counted(receive(&receiver, path, request).await)
}

async fn receive(
    receiver: &Receiver,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let event_type = event_type_of(path)?;
    let idempotency_key = idempotency_key_of(&headers, &event_type)?;
    let expected_last = expected_last_of(&headers)?;
    let body = web::body::read_json(&headers, body, receiver.max_body_bytes).await.map_err(Refusal::Body)?;
    let EventBody(data) = EventBody::parse(&body).map_err(Refusal::Data)?;
    let redirect_url = data.redirect_url().cloned();

    let TraceContext { traceparent, tracestate } = TraceContext::of_request(&headers);
    let time = receiver.stamp();
    let (transaction_id, data) = data.into_transaction(&time.to_string());
    let mut event = NewEvent {
        event_type,
        id: Uuid::now_v7().to_string(),
        source: event::ORIGINAL_SOURCE.to_owned(),
        time,
        transaction_id,
        content_type: Some(event::JSON.to_owned()),
        traceparent,
        tracestate,
        extensions: Vec::new(),
        expected_last,
        idempotency_key,
        data,
    };
    let stored = store(receiver, &mut event).await?;
    let first =
        if stored.is_duplicate { first_acknowledgement(receiver, &event, stored.sequence).await? } else { None };
    let acknowledgement = first.unwrap_or_else(|| Acknowledgement {
        event_type: event.event_type.to_string(),
        id: event.id,
        time: event.time,
        sequence: stored.sequence,
        data: event.data,
        is_duplicate: stored.is_duplicate,
    });
    Ok(answer(acknowledgement, redirect_url.as_ref()))
}

/// Stores an event, within a span, and counts it.
async fn store(receiver: &Receiver, event: &mut NewEvent) -> Result<Stored, Refusal> {
    let spans = span::begin(&receiver.tracer, slice::from_mut(event));
    let is_idempotent = event.idempotency_key.is_some();
    let began = Instant::now();
    let stored = receiver.group_commit.store(event).await.map(|stored| [stored]);
    receiver.metrics.stored(began, &stored);
    span::end(spans, &stored);
    let [stored] = stored.map_err(|error| Refusal::Store { error, is_idempotent })?;
    note_stored(event, stored);
    Ok(stored)
}

/// What was answered when the key was first used, as far as it is still in the log.
async fn first_acknowledgement(
    receiver: &Receiver,
    sent: &NewEvent,
    sequence: u64,
) -> Result<Option<Acknowledgement>, Refusal> {
    let found = stored_event(receiver, sequence).await?;
    Ok(found.map(|event| {
        let id = header_value::decode(event.header(header::ID).unwrap_or_default()).into_owned();
        Acknowledgement {
            event_type: event.event_type.to_string(),
            // An id that mer makes is found again only where mer itself has sent the event twice.
            is_duplicate: id != sent.id,
            id,
            time: event.time,
            sequence: event.sequence,
            data: event.data,
        }
    }))
}

fn answer(acknowledgement: Acknowledgement, redirect_url: Option<&Url>) -> Response {
    let Acknowledgement { event_type, id, time, sequence, data, is_duplicate } = acknowledgement;
    let event = [event_type.as_str(), ":", &time.to_string()].concat();
    let received = Received { event_received: ReceivedEvent { data, event } };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(event::JSON));
    headers.insert(EVENT_SEQUENCE, HeaderValue::from(sequence));
    if is_duplicate {
        headers.insert(EVENT_DUPLICATE, TRUE);
    }
    let facts = [(EVENT_ID, header_value::encode(&id).into_owned()), (EVENT_TIME, time.to_rfc3339())];
    let location = redirect_url.map(|url| (LOCATION, url.to_string()));
    for (name, value) in facts.into_iter().chain(location) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    let status = if redirect_url.is_some() { StatusCode::FOUND } else { StatusCode::OK };
    (status, headers, received.to_json()).into_response()
}
