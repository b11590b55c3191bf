//! `POST /unregister_for_events/`: the mirror of registering.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use broker::subscriptions::WriteError;
use domain::{TargetUrl, TypePattern};
use serde_json::Map;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, ValueProblems};

use crate::answers::Unregistered;
use crate::json_body::JsonBody;
use crate::requests::Unregistrations;
use crate::{Registrar, unavailable};

/// Take URLs off events
///
/// Doing it again is no error: pairs that were not registered are named in the answer. A URL without events has no subscription
/// any more. `/unregister_for_events` is the same.
#[utoipa::path(
    post,
    path = "/unregister_for_events/",
    tag = "Registrations",
    request_body(content = Unregistrations),
    responses(
        (status = 200, description = "No pair of the request is registered any more", body = Unregistered),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn unregister_for_events(
    State(registrar): State<Arc<Registrar>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Unregistered>, Problem> {
    let unregistrations = Unregistrations::parse(&body).map_err(Problem::unacceptable)?;
    let mut answer = Unregistered::default();
    for (pattern, url) in unregistrations.pairs() {
        let was_registered = remove(&registrar, pattern, &url.url).await?;
        let group = if was_registered { &mut answer.unregistered_for_events } else { &mut answer.not_registered };
        group.put(pattern.as_str(), &url.url_as_given, Map::new());
    }
    Ok(Json(answer))
}

async fn remove(registrar: &Registrar, pattern: &TypePattern, url: &TargetUrl) -> Result<bool, Problem> {
    let (id, _) = registrar.store.of_url(url).await.map_err(|error| unavailable(&error))?;
    let mut was_registered = false;
    let changed = registrar.store.change(&id, |subscription| {
        let mut subscription = subscription?;
        was_registered = subscription.entries.remove(pattern).is_some();
        (!subscription.entries.is_empty()).then_some(subscription)
    });
    match changed.await {
        Ok(()) => {
            tracing::info!(%id, target = %url, %pattern, was_registered, "subscription.unregistered");
            Ok(was_registered)
        }
        Err(WriteError::Unavailable(error)) => Err(unavailable(&error)),
        Err(error) => Err(Problem::unavailable(error, crate::RETRY_AFTER_SECS)),
    }
}
