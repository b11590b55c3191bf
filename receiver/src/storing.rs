//! What the calls that store events do alike: read out of a request, and log.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use broker::store::{NewEvent, StoreError, Stored};
use domain::event::{self, header};
use domain::{CloudEvent, Event, EventType, FieldError, TraceParent, header_value, trace_state};
use http::{HeaderMap, HeaderName, HeaderValue};
use web::query;

use crate::Receiver;
use crate::error::Refusal;

pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(crate) const EXPECTED_LAST: &str = "expected-last-sequence";
/// Says of all that an answer is about that it was there already.
pub(crate) const EVENT_DUPLICATE: HeaderName = HeaderName::from_static("event-duplicate");
pub(crate) const TRUE: HeaderValue = HeaderValue::from_static("true");
/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// The longest `traceparent` that is kept, in bytes. Version 00 has 55; later ones may say more.
const MAX_TRACEPARENT_BYTES: usize = 256;

/// The sender's trace context: which span it names, and what the systems on the way there add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) traceparent: Option<String>,
    pub(crate) tracestate: Option<String>,
}

impl TraceContext {
    /// That of a request. One that cannot be read is none, as the W3C recommendation says, and so are two: which of them is
    /// right cannot be known.
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(header::TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return Self::default() };
        let states = headers.get_all(header::TRACESTATE).iter();
        // What is no text becomes something that is no member, and then there is no list.
        let states = states.map(|value| value.to_str().unwrap_or("?"));
        parent.to_str().ok().and_then(|parent| Self::of(parent, states)).unwrap_or_default()
    }

    /// That of a CloudEvent, which names it in attributes; otherwise that of the request it came in.
    pub(crate) fn of_event(event: &CloudEvent, request: &Self) -> Self {
        let own = event.traceparent.as_deref().and_then(|parent| Self::of(parent, event.tracestate.as_deref()));
        own.unwrap_or_else(|| request.clone())
    }

    fn of<'a>(parent: &str, states: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let is_kept = parent.len() <= MAX_TRACEPARENT_BYTES && TraceParent::parse(parent).is_some();
        is_kept.then(|| Self { traceparent: Some(parent.to_owned()), tracestate: trace_state::parse(states) })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(headers: &[(&'static str, &str)]) -> (Option<String>, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let TraceContext { traceparent, tracestate } = TraceContext::of_request(&map);
        (traceparent, tracestate)
    }

    #[test]
    fn a_trace_context_is_taken_whole_or_not_at_all() {
        let (parent, later) = (format!("00-{KNOWN}"), format!("cc-{KNOWN}-what-the-future-will-be-like"));
        for (headers, traceparent, tracestate) in [
            (vec![("traceparent", &*parent)], Some(&parent), None),
            (vec![("traceparent", &*parent), ("tracestate", "a=1")], Some(&parent), Some("a=1")),
            (
                vec![("tracestate", "a=1"), ("traceparent", &*parent), ("tracestate", "b=2")],
                Some(&parent),
                Some("a=1,b=2"),
            ),
            (vec![("traceparent", &*parent), ("tracestate", "a=1,?")], Some(&parent), None),
            (vec![("traceparent", &*later), ("tracestate", "a=1")], Some(&later), Some("a=1")),
            (vec![("traceparent", &*parent), ("traceparent", &*parent), ("tracestate", "a=1")], None, None),
            (vec![("traceparent", "00-0-0-0"), ("tracestate", "a=1")], None, None),
            (vec![("tracestate", "a=1")], None, None),
        ] {
            let expected = (traceparent.cloned(), tracestate.map(str::to_owned));
            assert_eq!(context(&headers), expected, "{headers:?}");
        }
    }
}
