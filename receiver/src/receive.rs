//! `POST /receive_event/{type}`: the seed's call.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use broker::event_log::NewEvent;
use bytes::Bytes;
use domain::event::{self, header};
use domain::{Event, EventData, EventType, FieldError, Stamp, header_value};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use url::Url;
use uuid::Uuid;

use crate::Receiver;
use crate::error::Refusal;

/// The source of the events that come in by this call.
const SOURCE: &str = "/receive_event";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// The longest `traceparent` that is kept, in bytes. Version 00 has 55.
const MAX_TRACEPARENT_BYTES: usize = 128;
const EVENT_ID: HeaderName = HeaderName::from_static("event-id");
const EVENT_SEQUENCE: HeaderName = HeaderName::from_static("event-sequence");
const EVENT_TIME: HeaderName = HeaderName::from_static("event-time");

/// What the sender is told of an event that is stored.
struct Receipt {
    event_type: String,
    id: String,
    time: Stamp,
    sequence: u64,
    data: Bytes,
}

/// Stores an event and answers with it, once JetStream has acknowledged it.
pub async fn receive_event(
    State(receiver): State<Arc<Receiver>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let event_type = event_type_of(path)?;
    let idempotency_key = idempotency_key_of(&headers, &event_type)?;
    let body = web::body::read_json(&headers, body, receiver.max_body_bytes).await.map_err(Refusal::Body)?;
    let data = EventData::parse(&body).map_err(Refusal::Data)?;
    let redirect_url = data.redirect_url().cloned();

    let time = receiver.clock.next(Stamp::now());
    let (transaction_id, data) = data.into_transaction(&time.to_string());
    let event = NewEvent {
        event_type,
        id: Uuid::now_v7().to_string(),
        source: SOURCE.to_owned(),
        time,
        transaction_id,
        content_type: event::JSON.to_owned(),
        traceparent: traceparent_of(&headers),
        idempotency_key,
        data,
    };
    let is_idempotent = event.idempotency_key.is_some();
    let stored = receiver.log.store(&event).await.map_err(|error| Refusal::Store { error, is_idempotent })?;
    tracing::debug!(
        event_type = %event.event_type, id = event.id, sequence = stored.sequence, duplicate = stored.is_duplicate,
        "event.stored"
    );
    let receipt = if stored.is_duplicate { first_receipt(&receiver, stored.sequence).await? } else { None };
    let receipt = receipt.unwrap_or_else(|| Receipt {
        event_type: event.event_type.to_string(),
        id: event.id,
        time: event.time,
        sequence: stored.sequence,
        data: event.data,
    });
    Ok(answer(&receipt, redirect_url.as_ref()))
}

/// What was answered when the key was first used, as far as it is still in the log.
async fn first_receipt(receiver: &Receiver, sequence: u64) -> Result<Option<Receipt>, Refusal> {
    let found = receiver.log.get(sequence).await;
    let found = found.map_err(|error| Refusal::Store {
        error: broker::event_log::StoreError::Unknown(error),
        is_idempotent: true,
    })?;
    Ok(found.map(|event: Event| Receipt {
        event_type: event.event_type.to_string(),
        id: header_value::decode(event.header(header::ID).unwrap_or_default()).into_owned(),
        time: event.time,
        sequence: event.sequence,
        data: event.data,
    }))
}

fn answer(receipt: &Receipt, redirect_url: Option<&Url>) -> Response {
    let Receipt { event_type, id, time, sequence, data } = receipt;
    let name = serde_json::Value::from(format!("{event_type}:{time}")).to_string();
    let body = [b"{\"event_received\":{\"data\":".as_slice(), data, b",\"event\":", name.as_bytes(), b"}}"].concat();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(event::JSON));
    let facts = [
        (EVENT_ID, header_value::encode(id).into_owned()),
        (EVENT_SEQUENCE, sequence.to_string()),
        (EVENT_TIME, time.to_rfc3339()),
    ];
    let location = redirect_url.map(|url| (LOCATION, url.to_string()));
    for (name, value) in facts.into_iter().chain(location) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    let status = if redirect_url.is_some() { StatusCode::FOUND } else { StatusCode::OK };
    (status, headers, body).into_response()
}

fn event_type_of(path: Result<Path<String>, PathRejection>) -> Result<EventType, Refusal> {
    let parsed = match path {
        Ok(Path(text)) => EventType::parse(&text).map_err(|error| error.to_string()),
        Err(rejection) => Err(rejection.body_text()),
    };
    parsed.map_err(|detail| Refusal::Request(vec![FieldError::parameter("type", detail)]))
}

/// The key under which JetStream recognises a repetition. It is the sender's within its type: two types may use the
/// same one, and no type holds the `/` that stands between.
fn idempotency_key_of(headers: &HeaderMap, event_type: &EventType) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => Ok(Some(format!("{event_type}/{key}"))),
        _ => {
            let detail = format!("an idempotency key has 1 to {MAX_KEY_BYTES} printable ASCII characters");
            Err(Refusal::Request(vec![FieldError::header(IDEMPOTENCY_KEY, detail)]))
        }
    }
}

/// The sender's trace context, where it can be one. One that cannot is left out, as the W3C recommendation says.
fn traceparent_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::TRACEPARENT)?.to_str().ok()?;
    let legal = value.len() <= MAX_TRACEPARENT_BYTES && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    legal.then(|| value.to_owned())
}
