//! The span of an attempt to deliver: begun when the request is, ended with what came of it.
//!
//! It is a child of the span that the event names, and the target is told of it. A batch belongs to no event's trace: it
//! links to those of all its events. Attributes are those of OpenTelemetry's conventions for messaging, CloudEvents and
//! HTTP, and `mer.*`; none holds what a payload, a header or the target's answer says, nor the URL: see docs/logs.md.

use domain::event::{self, header};
use domain::{Event, Subscription, SubscriptionId, header_value};
use http::{HeaderMap, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanBuilder, SpanContext, SpanKind};
use spans::{Span, Tracer, span};

use crate::push::delivery_request::Item;
use crate::push::verdict::PushOutcome;

/// What begins the name of a span.
const OPERATION: &str = "deliver";
/// Where the events of a batch come from: each may be of another type.
const ALL_EVENTS: &str = "events.>";
/// The kind of failure that has no status.
const NO_ANSWER: &str = "no_answer";

/// A span that is to be begun with its request.
pub(crate) struct Upcoming {
    tracer: Tracer,
    builder: SpanBuilder,
    parent: Option<SpanContext>,
}

/// An attempt that is to be made.
pub(crate) struct Trial<'a> {
    pub(crate) id: &'a SubscriptionId,
    pub(crate) asked: &'a Subscription,
    pub(crate) number: u32,
    pub(crate) items: &'a [Item<'a>],
    pub(crate) is_batch: bool,
}

/// The span of an attempt that is to be made; `None`, and nothing done for it, where no spans are asked for.
pub(crate) fn of(tracer: &Tracer, trial: &Trial<'_>) -> Option<Box<Upcoming>> {
    if !tracer.is_on() {
        return None;
    }
    let (first, due, _) = trial.items.first()?;
    let mut attributes = shared_attributes(trial);
    attributes.push(KeyValue::new("mer.sequence", number(first.sequence)));
    attributes.push(KeyValue::new("mer.replay", due.is_replay));
    let builder = if trial.is_batch {
        attributes.push(KeyValue::new("messaging.destination.name", ALL_EVENTS));
        attributes.push(KeyValue::new("messaging.batch.message_count", number(trial.items.len() as u64)));
        let links = trial.items.iter().filter_map(|(event, ..)| context_of(event)).map(Link::with_context);
        SpanBuilder::from_name(format!("{OPERATION} {ALL_EVENTS}")).with_links(links.collect())
    } else {
        let destination = first.event_type.subject();
        let builder = SpanBuilder::from_name(format!("{OPERATION} {destination}"));
        attributes.push(KeyValue::new("messaging.destination.name", destination));
        attributes.push(KeyValue::new("messaging.message.body.size", number(due.data.len() as u64)));
        attributes.extend(attributes_of(first));
        builder
    };
    let parent = if trial.is_batch { None } else { context_of(first) };
    let builder = builder.with_kind(SpanKind::Consumer).with_attributes(attributes);
    Some(Box::new(Upcoming { tracer: tracer.clone(), builder, parent }))
}

impl Upcoming {
    /// Begins it, and tells the target.
    pub(crate) fn begin(self, headers: &mut HeaderMap) -> Option<Box<Span>> {
        let span = self.tracer.begin(self.builder, self.parent)?;
        headers.insert(header::TRACEPARENT, HeaderValue::try_from(span.traceparent()).ok()?);
        Some(Box::new(span))
    }
}

/// Ends a span with what came of the request.
pub(crate) fn end(mut span: Box<Span>, outcome: &PushOutcome) {
    match outcome.code() {
        Some(code) => {
            span.says(KeyValue::new("http.response.status_code", i64::from(code)));
            if !(200..300).contains(&code) {
                span.failed(code.to_string());
            }
        }
        None => span.failed(NO_ANSWER),
    }
}

fn shared_attributes(trial: &Trial<'_>) -> Vec<KeyValue> {
    let url = trial.asked.url.as_url();
    let mut attributes = vec![
        KeyValue::new("messaging.system", "nats"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.operation.name", OPERATION),
        KeyValue::new("messaging.destination.subscription.name", trial.id.to_string()),
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("mer.attempt", i64::from(trial.number)),
    ];
    let host = url.host_str().map(|host| KeyValue::new("server.address", host.to_owned()));
    let port = url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port)));
    let group = trial.asked.group.clone().map(|group| KeyValue::new("mer.group", group));
    attributes.extend(host.into_iter().chain(port).chain(group));
    attributes
}

fn attributes_of(event: &Event) -> [KeyValue; 5] {
    let text = |name| header_value::decode(event.header(name).unwrap_or_default()).into_owned();
    let id = text(header::ID);
    [
        KeyValue::new("messaging.message.id", id.clone()),
        KeyValue::new("cloudevents.event_id", id),
        KeyValue::new("cloudevents.event_source", text(header::SOURCE)),
        KeyValue::new("cloudevents.event_spec_version", event::SPEC_VERSION),
        KeyValue::new("cloudevents.event_type", event.event_type.as_str().to_owned()),
    ]
}

fn context_of(event: &Event) -> Option<SpanContext> {
    span::named_by(event.header(header::TRACEPARENT)?)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
