//! What every HTTP service here shares, so that they fail, read and stop alike.
//!
//! - [`problem`]: every error as `application/problem+json` (RFC 9457).
//! - [`body`]: a request's body, read up to a bound and a deadline, with its content type checked.
//! - [`event_view`], [`hole_view`]: an event, and a hole in the log, as every service shows it.
//! - [`metrics`]: counters by one label.
//! - [`openapi`]: what the descriptions of all operations share.
//! - [`query`]: a request's query string, read with every fault named.
//! - [`mod@serve`]: the accept loop, with a header deadline and a graceful end; `polled_again`: what keeps a connection that
//!   wakes itself from waking others; `leftover`: what an answer leaves unread.
//!
//! Nothing here knows registrations or NATS; of events and holes only how one is shown.

pub mod body;
pub mod event_view;
pub mod hole_view;
mod leftover;
pub mod metrics;
pub mod openapi;
mod polled_again;
pub mod problem;
pub mod query;
pub mod serve;

pub use event_view::EventView;
pub use hole_view::HoleView;
pub use problem::Problem;
pub use serve::serve;
