//! `/openapi.json`, made from the handlers, and `/docs`, which shows it without any network.

use axum::Router;
use axum::response::Json;
use axum::routing::get;
use http::Method;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::webhooks::webhooks;
use crate::admission::auth;

/// Where the description is.
const OPENAPI: &str = "/openapi.json";

/// What stands at the head of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "microservice-event-receiver",
        description = "Keeps every replica of a microservice in sync: events come in over HTTP, are stored in NATS JetStream, and are pushed to every registered URL in order.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "Events", description = "Posting events, and reading the log"),
        (name = "Registrations", description = "Which URLs get which events"),
        (name = "Subscriptions", description = "All registrations of one URL as one subscription, with its state"),
        (name = "Dead letters", description = "Events that subscriptions have given up on, and their redelivery"),
        (name = "Deliveries", description = "What targets get, and may answer"),
        (name = "Operations", description = "Health and metrics of this process"),
    ),
    paths(super::ops::healthz, super::ops::readyz, super::metrics::metrics),
)]
struct Head;

/// The name of the tokens in the description.
const BEARER: &str = "bearer";

/// The routes of all roles, with their description at `/openapi.json` and `/docs`.
pub(crate) fn documented(routes: OpenApiRouter, asks_for_tokens: bool) -> Router {
    let (router, mut openapi) = OpenApiRouter::with_openapi(Head::openapi()).merge(routes).split_for_parts();
    describe_tokens(&mut openapi, asks_for_tokens);
    let description = with_webhooks(&openapi);
    let ui = SwaggerUi::new("/docs").config(Config::from(OPENAPI).try_it_out_enabled(true).validator_url("none"));
    router.merge(ui).route(OPENAPI, get(async move || Json(description)))
}

/// The description as it is served: utoipa knows no webhooks.
fn with_webhooks(openapi: &utoipa::openapi::OpenApi) -> Value {
    let mut description = json!(openapi);
    description["webhooks"] = webhooks();
    description
}

/// Says of each operation which scope it needs, as [`auth::needed`] has it.
fn describe_tokens(openapi: &mut utoipa::openapi::OpenApi, asks_for_tokens: bool) {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    openapi.components.get_or_insert_default().add_security_scheme(BEARER, scheme);
    for (path, item) in &mut openapi.paths.paths {
        for (method, operation) in operations(item) {
            let Some(scope) = auth::needed(&method, path) else { continue };
            let with_token = SecurityRequirement::new(BEARER, [scope.name()]);
            let without = (!asks_for_tokens).then(SecurityRequirement::default);
            operation.security = Some(without.into_iter().chain([with_token]).collect());
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
