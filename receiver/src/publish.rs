//! `POST /v1/events/{type}` and `POST /v1/events`: JSON, and CloudEvents in every mode.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use broker::Unavailable;
use broker::batch::MAX_BATCH;
use broker::store::{NewEvent, StoreError, Stored};
use bytes::Bytes;
use domain::cloud_event::NotACloudEvent;
use domain::event::{self, header};
use domain::structured_event::BATCH;
use domain::{CloudEvent, FieldError, Stamp, event_data, field_error, header_value};
use futures_util::future::try_join_all;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::timeout;
use uuid::Uuid;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, ProblemDetails, ValueProblems};

use crate::Receiver;
use crate::answers::{Receipt, Receipts};
use crate::error::Refusal;
use crate::requests::CloudEventBody;
use crate::span;
use crate::storing::{
    EVENT_DUPLICATE, EXPECTED_LAST, IDEMPOTENCY_KEY, TRUE, TraceContext, event_type_of, expected_last_of,
    idempotency_key_of, note_stored, stored_event,
};

const STRUCTURED: &str = "application/cloudevents+json";
const NDJSON: &str = "application/x-ndjson";
/// How long looking up the events of an answer may take that were there already, and how many are looked up at a time.
const RECEIPTS_DEADLINE: Duration = Duration::from_secs(4);
const RECEIPTS_AT_A_TIME: usize = 64;
/// How many times the limit of one event a batch may have.
const BATCH_BODIES: usize = 16;

/// Store JSON of any kind as an event
#[utoipa::path(
    post,
    operation_id = "post_event",
    path = "/v1/events/{key}",
    tag = "Events",
    params(
        ("key" = String, Path, description = "The event's type: tokens with dots between them, at most 200 bytes", pattern = r"^(?!\$|mer\.)[^\s/*>.\x00-\x1f\x7f-\x9f]+(\.[^\s/*>.\x00-\x1f\x7f-\x9f]+)*$", max_length = 200, example = "order.created"),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, description = "A key that names this event, 1 to 256 printable ASCII characters. Sent again within the duplicate window, the first answer comes again and nothing is stored", min_length = 1, max_length = 256, pattern = "^[!-~]([ -~]*[!-~])?$"),
        ("Expected-Last-Sequence" = Option<u64>, Header, nullable = false, description = "The event is stored only if the last event of its type has this sequence; 0: if there is none of the type yet"),
    ),
    request_body(content = serde_json::Value, description = "The event's data: any JSON", example = json!({"n": 1})),
    responses(
        (status = 201, description = "The event is stored; where it stands", body = Receipts, headers(("Event-Duplicate" = String, description = "`true` where the event was there already"))),
        (status = 412, description = "The last event of the type has another sequence: nothing was stored", body = ProblemDetails, content_type = "application/problem+json", headers(("Event-Last-Sequence" = u64, description = "That sequence; 0: there is no event of the type yet")), example = json!({"title": "Precondition Failed", "status": 412, "detail": "nothing was stored: the last event of this type has sequence 17 (0: there is none)", "last_sequence": 17})),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn post_json(
    State(receiver): State<Arc<Receiver>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    receiver.metrics.counted(json_event(&receiver, path, request).await)
}

async fn json_event(
    receiver: &Receiver,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let headers = &headers;
    let event_type = event_type_of(path)?;
    let idempotency_key = idempotency_key_of(headers, &event_type)?;
    let expected_last = expected_last_of(headers)?;
    let body = web::body::read_json(headers, body, receiver.max_body_bytes).await.map_err(Refusal::Body)?;
    let data = json_of(&body)?;
    let TraceContext { traceparent, tracestate } = TraceContext::of_request(headers);
    let time = receiver.stamp();
    let event = NewEvent {
        event_type,
        id: Uuid::now_v7().to_string(),
        source: event::JSON_SOURCE.to_owned(),
        time,
        transaction_id: event_data::transaction_id_of(&data).unwrap_or_else(|| time.to_string()),
        content_type: Some(event::JSON.to_owned()),
        traceparent,
        tracestate,
        extensions: Vec::new(),
        expected_last,
        idempotency_key,
        data,
    };
    store(receiver, vec![event]).await
}

/// Store one CloudEvent, or several
///
/// Structured mode, a batch (at most 1,000 events, stored whole, in order and in a row, or not at all), one a line, or
/// binary mode: attributes in `ce-` headers and any body. The same `source` and `id` is stored once.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "Events",
    params(
        ("ce-id" = Option<String>, Header, nullable = false, description = "The event's id in binary mode, which any other content type is: attributes are headers, percent-encoded (`ce-specversion`, `ce-source` and `ce-type` are needed too), and the body is the data"),
        ("Expected-Last-Sequence" = Option<u64>, Header, nullable = false, description = "For a single event: it is stored only if the last event of its type has this sequence; 0: if there is none of the type yet"),
    ),
    request_body(
        content(
            (CloudEventBody = "application/cloudevents+json"),
            (Vec<CloudEventBody> = "application/cloudevents-batch+json", example = json!([{"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}, {"specversion": "1.0", "id": "2", "source": "/shop", "type": "order.paid", "data": {"n": 1}}])),
            (String = "application/x-ndjson", example = "{\"specversion\": \"1.0\", \"id\": \"1\", \"source\": \"/shop\", \"type\": \"order.created\"}\n"),
        ),
    ),
    responses(
        (status = 201, description = "All events are stored; where they stand", body = Receipts, headers(("Event-Duplicate" = String, description = "`true` where all of them were there already"))),
        (status = 412, description = "The last event of the type has another sequence: nothing was stored", body = ProblemDetails, content_type = "application/problem+json", headers(("Event-Last-Sequence" = u64, description = "That sequence; 0: there is no event of the type yet")), example = json!({"title": "Precondition Failed", "status": 412, "detail": "nothing was stored: the last event of this type has sequence 17 (0: there is none)", "last_sequence": 17})),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn post_cloud_events(State(receiver): State<Arc<Receiver>>, request: Request) -> Result<Response, Refusal> {
    receiver.metrics.counted(cloud_events(&receiver, request).await)
}

async fn cloud_events(receiver: &Receiver, request: Request) -> Result<Response, Refusal> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let headers = &headers;
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "a CloudEvent has none: its source and id are the key";
        return Err(Refusal::Request(vec![FieldError::header(IDEMPOTENCY_KEY, detail)]));
    }
    let expected_last = expected_last_of(headers)?;
    let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let media_type = content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    let is_batch = matches!(media_type.as_str(), BATCH | NDJSON);
    if media_type.starts_with("application/cloudevents") && !matches!(media_type.as_str(), BATCH | STRUCTURED) {
        let detail = format!("CloudEvents come as {STRUCTURED}, {BATCH}, {NDJSON} or in binary mode");
        return Err(Refusal::Body(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)));
    }
    let limit = if is_batch { receiver.max_body_bytes.saturating_mul(BATCH_BODIES) } else { receiver.max_body_bytes };
    let body = web::body::read(headers, body, limit).await.map_err(Refusal::Body)?;
    let events = match media_type.as_str() {
        STRUCTURED => structured(&[raw_of(&body)?], |_| String::new())?,
        BATCH => structured(&list_of(&body)?, |i| field_error::push("", i))?,
        NDJSON => structured(&lines_of(&body)?, |i| field_error::push("", i))?,
        _ => vec![binary(headers, content_type.as_deref(), body.clone())?],
    };
    if expected_last.is_some() && is_batch {
        let fault = FieldError::header(EXPECTED_LAST, "it is for single events, not for batches");
        return Err(Refusal::Request(vec![fault]));
    }
    let request = TraceContext::of_request(headers);
    let new = events.into_iter().map(|event| {
        let TraceContext { traceparent, tracestate } = TraceContext::of_event(&event, &request);
        let event = new_event(event, receiver.stamp());
        NewEvent { expected_last, traceparent, tracestate, ..event }
    });
    store(receiver, new.collect()).await
}

/// A CloudEvent that is to be stored, received at this moment; its trace context is not looked at.
fn new_event(event: CloudEvent, now: Stamp) -> NewEvent {
    NewEvent {
        idempotency_key: Some(event.identity()),
        event_type: event.event_type,
        id: event.id,
        source: event.source,
        time: event.time.unwrap_or(now),
        transaction_id: event.transaction_id.unwrap_or_else(|| now.to_string()),
        content_type: event.content_type,
        traceparent: None,
        tracestate: None,
        extensions: event.extensions,
        expected_last: None,
        data: event.data,
    }
}

async fn store(receiver: &Receiver, mut events: Vec<NewEvent>) -> Result<Response, Refusal> {
    let spans = span::begin(&receiver.tracer, &mut events);
    let is_idempotent = events.iter().all(|event| event.idempotency_key.is_some());
    let began = Instant::now();
    let stored = match events.as_slice() {
        [only] => receiver.group_commit.store(only).await.map(|stored| vec![stored]),
        several => receiver.log.store_batch(several).await,
    };
    receiver.metrics.stored(began, &stored);
    span::end(spans, &stored);
    let stored = stored.map_err(|error| Refusal::Store { error, is_idempotent })?;
    let receipts = timeout(RECEIPTS_DEADLINE, receipts(receiver, &events, &stored)).await.map_err(|_| {
        let error = Unavailable::new("the events are stored", "where they are could not be looked up in time");
        Refusal::Store { error: StoreError::Unknown(error), is_idempotent }
    })??;
    let is_duplicate = !receipts.is_empty() && receipts.iter().all(Receipt::is_duplicate);
    let mut response = (StatusCode::CREATED, axum::Json(Receipts { events: receipts })).into_response();
    if is_duplicate {
        response.headers_mut().insert(EVENT_DUPLICATE, TRUE);
    }
    Ok(response)
}

async fn receipts(receiver: &Receiver, events: &[NewEvent], stored: &[Stored]) -> Result<Vec<Receipt>, Refusal> {
    let mut receipts = Vec::with_capacity(events.len());
    for (events, stored) in events.chunks(RECEIPTS_AT_A_TIME).zip(stored.chunks(RECEIPTS_AT_A_TIME)) {
        let pairs = events.iter().zip(stored);
        let some = try_join_all(pairs.map(|(event, stored)| receipt(receiver, event, *stored))).await?;
        receipts.extend(some);
    }
    Ok(receipts)
}

/// What is answered of one event: of one that was there already, as it was stored.
async fn receipt(receiver: &Receiver, event: &NewEvent, stored: Stored) -> Result<Receipt, Refusal> {
    note_stored(event, stored);
    let first = if stored.is_duplicate { stored_event(receiver, stored.sequence).await? } else { None };
    let (id, event_type, time) = match &first {
        Some(first) => {
            let id = header_value::decode(first.header(header::ID).unwrap_or_default()).into_owned();
            (id, first.event_type.to_string(), first.time)
        }
        None => (event.id.clone(), event.event_type.to_string(), event.time),
    };
    // An id that mer makes is found again only where mer itself has sent the event twice.
    let is_our_own = event.source == event::JSON_SOURCE && event.id == id;
    let receipt = Receipt::new(id, event_type, stored.sequence, time);
    Ok(if stored.is_duplicate && !is_our_own { receipt.of_duplicate() } else { receipt })
}

fn unreadable(detail: impl std::fmt::Display) -> Refusal {
    Refusal::Body(Problem::new(StatusCode::BAD_REQUEST, format!("nothing was stored: {detail}")))
}

fn text_of(body: &Bytes) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|error| unreadable(format!("the body is not UTF-8: {error}")))
}

fn raw_of(body: &Bytes) -> Result<&RawValue, Refusal> {
    serde_json::from_str(text_of(body)?).map_err(|error| unreadable(format!("the body is not JSON: {error}")))
}

/// The JSON in a body, without the white space around it.
fn json_of(body: &Bytes) -> Result<Bytes, Refusal> {
    Ok(body.slice_ref(raw_of(body)?.get().as_bytes()))
}

fn list_of(body: &Bytes) -> Result<Vec<&RawValue>, Refusal> {
    let text = text_of(body)?;
    if !text.trim_start().starts_with('[') {
        raw_of(body)?;
        let fault = FieldError::at("", "a batch is a JSON array of CloudEvents");
        return Err(Refusal::Body(Problem::malformed(vec![fault])));
    }
    // They are counted before they are kept.
    let counted: Result<Vec<IgnoredAny>, _> = serde_json::from_str(text);
    check_count(counted.map_err(|error| unreadable(format!("the body is not JSON: {error}")))?.len())?;
    serde_json::from_str(text).map_err(unreadable)
}

fn lines_of(body: &Bytes) -> Result<Vec<&RawValue>, Refusal> {
    let lines = (1..).zip(text_of(body)?.lines()).filter(|(_, line)| !line.trim().is_empty());
    check_count(lines.clone().count())?;
    let parse = |(n, line): (usize, _)| {
        serde_json::from_str(line).map_err(|e| unreadable(format!("line {n} is not JSON: {e}")))
    };
    lines.map(parse).collect()
}

/// Whether so many events may be a batch.
fn check_count(count: usize) -> Result<(), Refusal> {
    if count <= MAX_BATCH {
        return Ok(());
    }
    let detail = format!("the batch has {count} events; at most {MAX_BATCH} are stored as one");
    Err(Refusal::Body(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)))
}

/// Reads events in the JSON format; names every fault of every one of them.
fn structured(events: &[&RawValue], pointer: impl Fn(usize) -> String) -> Result<Vec<CloudEvent>, Refusal> {
    let (mut good, mut malformed, mut unacceptable) = (Vec::new(), Vec::new(), Vec::new());
    for (i, event) in events.iter().enumerate() {
        match CloudEventBody::parse(event, &pointer(i)) {
            Ok(CloudEventBody(event)) => good.push(event),
            Err(NotACloudEvent::Malformed(faults)) => malformed.extend(faults),
            Err(NotACloudEvent::Unacceptable(faults)) => unacceptable.extend(faults),
        }
    }
    if !malformed.is_empty() {
        return Err(Refusal::Body(Problem::malformed(malformed)));
    }
    if unacceptable.is_empty() { Ok(good) } else { Err(Refusal::Request(unacceptable)) }
}

fn binary(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<CloudEvent, Refusal> {
    let is_illegible = |(name, value): &(&http::HeaderName, &http::HeaderValue)| {
        name.as_str().starts_with("ce-") && value.to_str().is_err()
    };
    let illegible: Vec<FieldError> = headers
        .iter()
        .filter(is_illegible)
        .map(|(name, _)| FieldError::header(name.as_str(), "what is not printable ASCII has to be percent-encoded"))
        .collect();
    if !illegible.is_empty() {
        return Err(Refusal::Body(Problem::malformed(illegible)));
    }
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    if !headers.keys().any(|name| name.as_str().starts_with("ce-")) {
        let detail = format!(
            "no CloudEvent: give its attributes in `ce-` headers, or send {STRUCTURED}, {BATCH} or {NDJSON}; plain JSON goes to /v1/events/TYPE"
        );
        return Err(Refusal::Body(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)));
    }
    CloudEvent::from_binary(pairs, content_type, body).map_err(|error| match error {
        NotACloudEvent::Malformed(faults) => Refusal::Body(Problem::malformed(faults)),
        NotACloudEvent::Unacceptable(faults) => Refusal::Request(faults),
    })
}
