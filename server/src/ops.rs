//! Whether this process lives, and whether it can do its work.

use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use broker::Broker;
use serde_json::{Value, json};
use web::Problem;

/// How long whoever asks should wait before asking again, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

/// `/readyz`. Without a broker (the sample listener alone) there is nothing to wait for.
pub(crate) fn router(broker: Option<Broker>) -> Router {
    Router::new().route("/readyz", get(readyz)).with_state(broker)
}

/// Alive, whatever becomes of NATS.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive", "version": env!("CARGO_PKG_VERSION")}))
}

/// Connected, with every stream and bucket in place; otherwise 503 and why.
async fn readyz(State(broker): State<Option<Broker>>) -> Result<Json<Value>, Problem> {
    let Some(broker) = broker else { return Ok(Json(json!({"status": "ready"}))) };
    match broker.check().await {
        Ok(()) => Ok(Json(json!({"status": "ready", "nats": broker.server()}))),
        Err(error) => Err(Problem::unavailable(error, RETRY_AFTER_SECS)),
    }
}
