//! The handle that roles are given.

use opentelemetry::Context;
use opentelemetry::trace::{SpanBuilder, SpanContext, TraceContextExt, Tracer as _};
use opentelemetry_sdk::trace::SdkTracer;

use crate::span::Span;

/// What begins spans, or nothing: then nothing is to be prepared for one either. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

impl Tracer {
    /// One that begins none.
    pub fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// Whether it begins any spans: callers ask this before they prepare what a span says.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span: a child of that parent, or the first of a trace. `None` where it is off, or has ended.
    pub fn begin(&self, builder: SpanBuilder, parent: Option<SpanContext>) -> Option<Span> {
        let tracer = self.0.as_ref()?;
        // Never the thread's own context: tasks share threads.
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Span::of(tracer.build_with_context(builder, &context))
    }
}
