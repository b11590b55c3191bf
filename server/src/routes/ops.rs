//! Whether this process lives, and whether it can do its work.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use broker::log_records::LogRecords;
use broker::{Broker, Storage};
use serde_json::{Value, json};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use web::Problem;
use web::openapi::NatsProblems;

/// When a client should ask again, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

/// How long the record of holes may take to come.
const HOLES_DEADLINE: Duration = Duration::from_millis(500);

const STARTING: &str = "mer is starting. Nothing was stored, and it is safe to send the request again";

/// `/healthz` and `/readyz`. Without a broker (the sample listener alone) there is nothing to wait for.
pub(crate) fn router(broker: Option<Broker>) -> OpenApiRouter {
    OpenApiRouter::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(broker)
}

/// The routes until the roles have started: `/healthz`, and a refusal of everything else.
pub(crate) fn while_starting(storage: Storage) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .fallback(starting)
        .method_not_allowed_fallback(web::problem::method_not_allowed)
        .with_state(storage)
}

async fn starting(State(storage): State<Storage>) -> Problem {
    let cause = storage.refusal().map(|why| format!("{why}. ")).unwrap_or_default();
    Problem::unavailable(format!("{cause}{STARTING}"), RETRY_AFTER_SECS)
}

/// Whether the process is alive, with or without NATS
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Operations",
    responses((status = 200, description = "The process is alive", body = Object, example = json!({"status": "alive", "version": "0.1.0"}))),
)]
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive", "version": env!("CARGO_PKG_VERSION")}))
}

/// What the log has lost. The process can work all the same: what is new is stored and delivered.
async fn holes(broker: &Broker) -> Option<String> {
    let current = timeout(HOLES_DEADLINE, LogRecords::new(broker.clone()).holes()).await.ok()?.ok()??;
    let holes = current.holes?;
    let first = holes.lost().next()?;
    let (lost, _) = holes.missing();
    let (from, to) = (first.from_sequence, first.to_sequence);
    Some(format!("the log has lost {lost} event(s), the first of them at {from} to {to}: see GET /v1/log"))
}

/// Whether the process can work: connected to NATS, with every stream and bucket in place, and writes that succeed
///
/// `detail` names what the log has lost, where it has lost anything: that is no reason not to be ready.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operations",
    responses(
        (status = 200, description = "The process can work", body = Object, example = json!({"status": "ready", "nats": "nats-1 (nats-server 2.15.1) at 127.0.0.1:4222"})),
        NatsProblems,
    ),
)]
async fn readyz(State(broker): State<Option<Broker>>) -> Result<Json<Value>, Problem> {
    let Some(broker) = broker else { return Ok(Json(json!({"status": "ready"}))) };
    match broker.check().await {
        Ok(()) => {
            let mut answer = json!({"status": "ready", "nats": broker.server()});
            if let Some(detail) = holes(&broker).await {
                answer["detail"] = detail.into();
            }
            Ok(Json(answer))
        }
        Err(error) => Err(Problem::unavailable(error, RETRY_AFTER_SECS)),
    }
}
