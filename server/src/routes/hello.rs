//! The sample listener: greets the name in an event, and logs what it received.

use axum::body::Body;
use axum::response::Json;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use web::Problem;
use web::openapi::{BodyProblems, TooBusy};

/// The largest body that it takes, in bytes: more than any event has, for one that it refused would come again for ever.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The routes of the sample listener.
pub(crate) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(hello)).route("/hello", post(hello))
}

/// The sample listener
///
/// Answers `{"name":N}` with `{"hello":{"response":"Hello, N!"}}`. Without a name it greets a stranger.
#[utoipa::path(
    post,
    path = "/hello/",
    tag = "Sample listener",
    request_body(content = serde_json::Value, example = json!({"name": "tismoj"})),
    responses((status = 200, description = "A greeting", body = Object, example = json!({"hello": {"response": "Hello, tismoj!"}})), BodyProblems, TooBusy),
)]
async fn hello(headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let body = web::body::read_json(&headers, body, MAX_BODY_BYTES).await?;
    let data: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
    let name = data.get("name").and_then(Value::as_str).unwrap_or("stranger");
    let answer = json!({"hello": {"response": format!("Hello, {name}!")}});
    let event: Vec<String> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    tracing::info!(data = %data, response = %answer, headers = event.join(", "), "hello.received");
    Ok(Json(answer))
}
