//! An event's way, told to a collector as OpenTelemetry spans over OTLP; off, where no collector is named.
//!
//! - [`tracer`]: the handle that roles are given. Off, it costs a look at an `Option`.
//! - [`span`]: one span under way, and its `traceparent`.
//! - [`endpoint`]: where the collector is.
//! - [`exporter`]: what collects spans and sends them in batches, beside everything else.
//! - `collector`: one request to the collector, and what is logged of it.
//!
//! What a span says of an event, and when it begins, is for the roles: `receiver::span`, `dispatcher::span`. Nothing is
//! global, and nothing here waits for a collector but the thread that sends.

mod collector;
pub mod endpoint;
pub mod exporter;
pub mod span;
pub mod tracer;

pub use endpoint::Endpoint;
pub use exporter::Exporter;
pub use span::Span;
pub use tracer::Tracer;
