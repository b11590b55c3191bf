//! HTTP in, subscriptions out to their bucket: the original call, `register_for_events`, its mirror, and `/v1/subscriptions`.
//!
//! - [`register`], [`unregister`]: the two calls, from body to answer.
//! - [`subscriptions`]: `/v1/subscriptions`: the same as one thing per URL; [`status`]: how far it has come.
//! - [`secrets`]: new secrets to sign deliveries with.
//! - [`attempts`]: what came of the last attempts to deliver.
//! - [`dead_letters`]: `/v1/dead-letters`: what was given up, and having it delivered again.
//! - [`metrics`]: what is counted.
//! - `by_id`, `json_body`: what handlers take out of a request.
//! - [`requests`], [`answers`]: what they read and answer, each described for OpenAPI where it is made.
//! - `unambiguous_json`: a body as JSON, and which members it names twice.
//! - [`start`]: to which sequence a start is resolved.
//! - [`subscription_store`]: the subscriptions as they are kept; changing one so that no concurrent change is lost.
//!
//! Only this crate writes `SUBSCRIPTIONS`. It must not know the receiver, the dispatcher, or whether a target answers.

pub mod answers;
pub mod attempts;
mod by_id;
pub mod dead_letters;
mod json_body;
pub mod metrics;
pub mod register;
pub mod requests;
pub mod secrets;
pub mod start;
pub mod status;
pub mod subscription_store;
pub mod subscriptions;
mod unambiguous_json;
pub mod unregister;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::post;
use broker::Unavailable;
use broker::attempts::AttemptLog;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::lanes::Lanes;
use domain::SealingKeys;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use web::Problem;
use web::openapi::Moment;

pub use metrics::Metrics;
pub use subscription_store::SubscriptionStore;

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECS: u32 = 1;

/// What the registrar works with.
pub struct Registrar {
    /// Where starts are looked up.
    pub log: EventLog,
    /// Where subscriptions are kept.
    pub store: SubscriptionStore,
    /// What the dispatcher has written; read only.
    pub lanes: Lanes,
    /// How far the consumers are; read only.
    pub feeds: Feeds,
    /// What came of deliveries; read only.
    pub attempts: AttemptLog,
    /// What was given up; read only.
    pub dead_letters: DeadLetters,
    /// What seals the secrets of subscriptions; without it none are made.
    pub secret_keys: Option<SealingKeys>,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// What it counts.
    pub metrics: Metrics,
}

/// What the descriptions of routes name without showing the type.
#[derive(OpenApi)]
#[openapi(components(schemas(requests::RotationRequest, Moment)))]
struct Referenced;

/// The registrar's routes, with their description.
pub fn router(registrar: Registrar) -> OpenApiRouter {
    let metrics = registrar.metrics.clone();
    OpenApiRouter::with_openapi(Referenced::openapi())
        .routes(routes!(register::register_for_events))
        .route("/register_for_events", post(register::register_for_events))
        .routes(routes!(unregister::unregister_for_events))
        .route("/unregister_for_events", post(unregister::unregister_for_events))
        .routes(routes!(subscriptions::list::list, subscriptions::put))
        .routes(routes!(subscriptions::get, subscriptions::patch, subscriptions::delete))
        .routes(routes!(subscriptions::pause::pause))
        .routes(routes!(subscriptions::pause::resume))
        .routes(routes!(subscriptions::redelivery::replay))
        .routes(routes!(subscriptions::target_test::test))
        .routes(routes!(secrets::rotate))
        .routes(routes!(attempts::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::delete))
        .routes(routes!(dead_letters::redrive))
        .with_state(Arc::new(registrar))
        .route_layer(from_fn_with_state(metrics, metrics::count))
}

/// 503: nothing of the request was stored, or what was may be stored again.
fn unavailable(error: &Unavailable) -> Problem {
    Problem::unavailable(format!("{error}. It is safe to send the request again"), RETRY_AFTER_SECS)
}
