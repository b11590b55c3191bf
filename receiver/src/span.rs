//! The spans of events that are being stored: one each, which the event names to all that comes after it.
//!
//! Attributes are those of OpenTelemetry's conventions for messaging and for CloudEvents, and `mer.*`. None holds what a
//! payload, a header or a transaction's id says: see docs/logs.md.

use broker::store::{NewEvent, StoreError, Stored};
use domain::event;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanBuilder, SpanKind};
use spans::{Span, Tracer, span};

use crate::error::Reason;

/// What begins the name of a span: the operation, as NATS calls it.
const OPERATION: &str = "publish";

/// Begins a span for each event: a child of the one that its sender named. From then on the event names this one. Off:
/// none, and the events stay as they are.
pub(crate) fn begin(tracer: &Tracer, events: &mut [NewEvent]) -> Vec<Span> {
    if !tracer.is_on() {
        return Vec::new();
    }
    events.iter_mut().filter_map(|event| begin_one(tracer, event)).collect()
}

fn begin_one(tracer: &Tracer, event: &mut NewEvent) -> Option<Span> {
    let destination = event.event_type.subject();
    let attributes = [
        KeyValue::new("messaging.system", "nats"),
        KeyValue::new("messaging.operation.type", "send"),
        KeyValue::new("messaging.operation.name", OPERATION),
        KeyValue::new("messaging.message.id", event.id.clone()),
        KeyValue::new("messaging.message.body.size", i64::try_from(event.data.len()).unwrap_or(i64::MAX)),
        KeyValue::new("cloudevents.event_id", event.id.clone()),
        KeyValue::new("cloudevents.event_source", event.source.clone()),
        KeyValue::new("cloudevents.event_spec_version", event::SPEC_VERSION),
        KeyValue::new("cloudevents.event_type", event.event_type.as_str().to_owned()),
        KeyValue::new("messaging.destination.name", destination.clone()),
    ];
    let builder = SpanBuilder::from_name(format!("{OPERATION} {destination}"))
        .with_kind(SpanKind::Producer)
        .with_attributes(attributes);
    let span = tracer.begin(builder, event.traceparent.as_deref().and_then(span::named_by))?;
    event.traceparent = Some(span.traceparent());
    Some(span)
}

/// Ends them with what became of their events.
pub(crate) fn end<T: AsRef<[Stored]>>(spans: Vec<Span>, stored: &Result<T, StoreError>) {
    match stored {
        Ok(stored) => {
            for (mut span, stored) in spans.into_iter().zip(stored.as_ref()) {
                span.says(KeyValue::new("mer.sequence", i64::try_from(stored.sequence).unwrap_or(i64::MAX)));
                if stored.is_duplicate {
                    span.says(KeyValue::new("mer.duplicate", true));
                }
            }
        }
        Err(error) => spans.into_iter().for_each(|mut span| span.failed(Reason::of(error).name())),
    }
}
