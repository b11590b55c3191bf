//! HTTP in, events out to the log: the seed's `POST /receive_event/{type}`.
//!
//! - [`receive`]: the call, from body to answer.
//! - [`error`]: what can go wrong, and whether it is safe to send again.
//!
//! It must not know the registrar, the dispatcher, or who gets an event.

pub mod error;
pub mod receive;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use broker::event_log::EventLog;
use domain::StampClock;

/// What the receiver works with.
pub struct Receiver {
    /// Where events go.
    pub log: EventLog,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// Gives each event its own stamp.
    pub clock: StampClock,
}

/// The receiver's routes.
pub fn router(receiver: Receiver) -> Router {
    Router::new()
        .route("/receive_event/{type}", post(receive::receive_event))
        .route("/receive_event/{type}/", post(receive::receive_event))
        .with_state(Arc::new(receiver))
}
