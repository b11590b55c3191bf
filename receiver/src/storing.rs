//! What the calls that store events do alike: read out of a request, and log.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use broker::store::{NewEvent, StoreError, Stored};
use domain::event::{self, header};
use domain::{Event, EventType, FieldError, TraceParent, header_value};
use http::HeaderMap;
use web::query;

use crate::Receiver;
use crate::error::Refusal;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(crate) const EXPECTED_LAST: &str = "expected-last-sequence";
/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// The longest `traceparent` that is kept, in bytes. Version 00 has 55.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// An event that is in the log already, as far as it still is.
pub(crate) async fn stored_event(receiver: &Receiver, sequence: u64) -> Result<Option<Event>, Refusal> {
    let found = receiver.log.get(sequence).await;
    found.map_err(|error| Refusal::Store { error: StoreError::Unknown(error), is_idempotent: true })
}

/// Says in the log that an event is stored: under which id, as the header `ce-id` has it, and in which trace.
pub(crate) fn note_stored(event: &NewEvent, stored: Stored) {
    tracing::debug!(
        event_type = %event.event_type, event_id = &*header_value::encode(&event.id),
        trace_id = event.traceparent.as_deref().and_then(TraceParent::parse).map(|parent| parent.trace_id()),
        sequence = stored.sequence, duplicate = stored.is_duplicate, "event.stored"
    );
}

pub(crate) fn event_type_of(path: Result<Path<String>, PathRejection>) -> Result<EventType, Refusal> {
    let parsed = match path {
        Ok(Path(text)) => EventType::parse(&text).map_err(|error| error.to_string()),
        Err(rejection) => Err(rejection.body_text()),
    };
    parsed.map_err(|detail| Refusal::Request(vec![FieldError::parameter("type", detail)]))
}

/// The key under which JetStream recognises a repetition. It is the sender's within its type: two types may use the
/// same one, and no type holds the `/` that stands between.
pub(crate) fn idempotency_key_of(headers: &HeaderMap, event_type: &EventType) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => Ok(Some(format!("{event_type}/{key}"))),
        _ => {
            let detail = format!("an idempotency key has 1 to {MAX_KEY_BYTES} printable ASCII characters");
            Err(Refusal::Request(vec![FieldError::header(IDEMPOTENCY_KEY, detail)]))
        }
    }
}

/// The sequence that the last event of the type must have for this one to be stored.
pub(crate) fn expected_last_of(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(EXPECTED_LAST) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    match query::whole_number(text, 0..=event::MAX_SEQUENCE) {
        Ok(sequence) => Ok(Some(sequence)),
        Err(detail) => Err(Refusal::Request(vec![FieldError::header(EXPECTED_LAST, detail)])),
    }
}

/// The sender's trace context, where it can be one. One that cannot is left out, as the W3C recommendation says.
pub(crate) fn traceparent_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::TRACEPARENT)?.to_str().ok()?;
    let legal = value.len() <= MAX_TRACEPARENT_BYTES && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    legal.then(|| value.to_owned())
}
