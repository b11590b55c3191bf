//! What the registrar counts.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// What the registrar counts. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    accepted: Counter,
    rejected: Counter,
    failed: Counter,
}

impl Metrics {
    /// Registers all of it.
    pub fn register(registry: &mut Registry) -> Self {
        let help = "Calls that register, change or remove anything, by what came of them";
        let outcomes = ["accepted", "rejected", "failed"];
        let [accepted, rejected, failed] =
            web::metrics::counters(registry, "registration_calls", help, "outcome", outcomes);
        Self { accepted, rejected, failed }
    }
}

/// Counts what comes of calls that are not only for reading.
pub(crate) async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    if changes {
        let status = response.status();
        match (status.is_server_error(), status.is_client_error()) {
            (true, _) => metrics.failed.inc(),
            (_, true) => metrics.rejected.inc(),
            _ => metrics.accepted.inc(),
        };
    }
    response
}
