//! One span under way, and how it is named in a `traceparent`.

use domain::TraceParent;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};

/// The attribute that says what kind of failure it was.
const ERROR_TYPE: &str = "error.type";

/// A span under way. It ends when it is dropped, however that comes about.
pub struct Span(opentelemetry_sdk::trace::Span);

impl Span {
    /// `None` for one that has no id, as those that are begun after the end have none.
    pub(crate) fn of(span: opentelemetry_sdk::trace::Span) -> Option<Self> {
        span.span_context().is_valid().then_some(Self(span))
    }

    /// What names it to others.
    pub fn traceparent(&self) -> String {
        let context = self.0.span_context();
        format!("00-{}-{}-0{}", context.trace_id(), context.span_id(), u8::from(context.is_sampled()))
    }

    /// Says more of it.
    pub fn says(&mut self, attribute: KeyValue) {
        self.0.set_attribute(attribute);
    }

    /// It has failed, in this way: one of a few that there are.
    pub fn failed(&mut self, kind: impl Into<std::borrow::Cow<'static, str>>) {
        let kind = kind.into();
        self.0.set_status(Status::error(kind.clone()));
        self.0.set_attribute(KeyValue::new(ERROR_TYPE, kind));
    }
}

/// The span that a `traceparent` names, if it is one.
pub fn named_by(traceparent: &str) -> Option<SpanContext> {
    let parsed = TraceParent::parse(traceparent)?;
    let trace_id = TraceId::from_hex(parsed.trace_id()).ok()?;
    let span_id = SpanId::from_hex(parsed.parent_id()).ok()?;
    let flags = TraceFlags::default().with_sampled(parsed.is_sampled());
    Some(SpanContext::new(trace_id, span_id, flags, true, TraceState::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_names_a_span_of_somebody_else() {
        let context = named_by("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(named_by("nonsense"), None);
    }
}
