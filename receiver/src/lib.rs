//! HTTP in, events out to the log; and reading the log.
//!
//! - [`receive`]: the original call, `POST /receive_event/{type}`.
//! - [`publish`]: `POST /v1/events`: JSON, and CloudEvents in every mode.
//! - [`query`]: `GET /v1/events`: pages, NDJSON, and live; `scan`: which events it wants, and reading on; `tail`: how a live one
//!   begins and goes on.
//! - [`log_status`]: `GET /v1/log`: which log it is, and naming it anew by hand.
//! - `streams`: how many answers are streamed at a time.
//! - `storing`: what the calls that store events do alike.
//! - [`requests`], [`answers`]: what they read and answer, each described for OpenAPI where it is made.
//! - [`metrics`]: what is counted; `span`: what a collector of traces is told.
//! - [`error`]: what can go wrong, and whether it is safe to send again.
//!
//! It must not know the registrar, the dispatcher, or who gets an event.

pub mod answers;
pub mod error;
pub mod log_status;
pub mod metrics;
pub mod publish;
pub mod query;
pub mod receive;
pub mod requests;
mod scan;
mod span;
mod storing;
mod streams;
mod tail;

use std::sync::Arc;

use axum::routing::post;
use broker::event_log::EventLog;
use broker::group_commit::GroupCommit;
use broker::log_records::LogRecords;
use domain::stamp::{Stamp, StampClock, Stamped};
use spans::Tracer;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use web::openapi::Moment;

pub use metrics::Metrics;
pub use streams::Streams;

/// What the receiver works with.
pub struct Receiver {
    /// Where events are read, and batches of them go.
    pub log: EventLog,
    /// What is recorded of the log: its names.
    pub records: LogRecords,
    /// Where single events go.
    pub group_commit: GroupCommit,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// Gives each event its own stamp.
    pub clock: StampClock,
    /// What it counts.
    pub metrics: Metrics,
    /// Begins a span for each event that is stored.
    pub tracer: Tracer,
    /// How many answers are streamed at a time.
    pub streams: Streams,
    /// Ends the tails when mer stops.
    pub shutdown: CancellationToken,
}

impl Receiver {
    /// The stamp of an event that is received now.
    pub(crate) fn stamp(&self) -> Stamp {
        let Stamped { stamp, stepped_back_micros } = self.clock.next(Stamp::now());
        if let Some(micros) = stepped_back_micros {
            self.metrics.clock_stepped_back();
            tracing::warn!(stepped_back_ms = micros / 1000, %stamp, "clock.stepped_back");
        }
        stamp
    }
}

/// What the parameters of operations name without showing the type.
#[derive(OpenApi)]
#[openapi(components(schemas(Moment)))]
struct Referenced;

/// The receiver's routes, with their description.
pub fn router(receiver: Receiver) -> OpenApiRouter {
    OpenApiRouter::with_openapi(Referenced::openapi())
        .routes(routes!(receive::receive_event))
        .route("/receive_event/{type}/", post(receive::receive_event))
        .routes(routes!(query::list, publish::post_cloud_events))
        .routes(routes!(query::get, publish::post_json))
        .routes(routes!(log_status::get))
        .routes(routes!(log_status::new_epoch))
        .with_state(Arc::new(receiver))
}
