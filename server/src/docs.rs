//! `/openapi.json`, made from the handlers, and `/docs`, which shows it without any network.

use axum::Router;
use axum::response::Json;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the description is.
const OPENAPI: &str = "/openapi.json";

/// What stands at the head of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "microservice-event-receiver",
        description = "Keeps every replica of a microservice in sync: events in by HTTP, stored in NATS JetStream, pushed to every registered URL in order.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "Events", description = "Events in, and reading the log"),
        (name = "Registrations", description = "Which URLs get which events"),
        (name = "Subscriptions", description = "The same as one thing per URL, with its state"),
        (name = "Operations", description = "Whether this process lives and works"),
    ),
    paths(crate::ops::healthz, crate::ops::readyz),
)]
struct Head;

/// The routes of all roles, with their description at `/openapi.json` and `/docs`.
pub(crate) fn documented(routes: OpenApiRouter) -> Router {
    let (router, openapi) = OpenApiRouter::with_openapi(Head::openapi()).merge(routes).split_for_parts();
    let ui = SwaggerUi::new("/docs").config(Config::from(OPENAPI).try_it_out_enabled(true).validator_url("none"));
    router.merge(ui).route(OPENAPI, get(async move || Json(openapi)))
}
