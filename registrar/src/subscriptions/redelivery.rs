//! `POST /v1/subscriptions/{id}/replay`: a part of the log again.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use domain::subscription::Redelivery;
use domain::{Attributes, FieldError, Stamp};
use http::StatusCode;
use uuid::Uuid;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, NoSuchThing, ProblemDetails, ValueProblems};

use super::change_existing;
use crate::by_id::ById;
use crate::json_body::JsonBody;
use crate::requests::RedeliveryRequest;
use crate::start::Starts;
use crate::status::is_completed;
use crate::{Registrar, answers, unavailable};

/// Deliver a part of the log again
///
/// The events of that time are delivered in order, with the request's id as `ce-redelivery` (`status.replay.id`); then
/// deliveries go on where they were. The subscription's status shows how far it has come, as `replay`.
#[utoipa::path(
    post,
    operation_id = "replay_subscription",
    path = "/v1/subscriptions/{id}/replay",
    tag = "Subscriptions",
    params(ById),
    request_body(content = RedeliveryRequest),
    responses(
        (status = 202, description = "The subscription, which begins to deliver that part again", body = answers::Subscription),
        (status = 409, description = "The subscription is completed", body = ProblemDetails, content_type = "application/problem+json", example = json!({"title": "Conflict", "status": 409, "detail": "host_0123456789abcdef is completed: register it again, with a `datetime_start`, to have events delivered again"})),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn replay(
    Extract(registrar): Extract<Arc<Registrar>>,
    ById(id): ById,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let now = Stamp::now();
    let request = RedeliveryRequest::parse(&body, now).map_err(Problem::unacceptable)?;
    let request = pinned(&registrar, request, now).await?;
    let (_, lane) = registrar.lanes.get(&id).await.map_err(|error| unavailable(&error))?;
    if lane.as_ref().is_some_and(is_completed) {
        let detail =
            format!("{id} is completed: register it again, with a `datetime_start`, to have events delivered again");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let mut response =
        change_existing(&registrar, &id, |subscription| subscription.redelivery = Some(request.clone())).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// The request as it is kept: where it begins and ends in the log.
async fn pinned(registrar: &Registrar, request: RedeliveryRequest, now: Stamp) -> Result<Redelivery, Problem> {
    let RedeliveryRequest { from, to } = request;
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let attributes = Attributes { datetime_start: Some(from), ..Attributes::default() };
    if let Some(detail) = starts.cannot_redeliver_from(from) {
        return Err(Problem::unacceptable(vec![FieldError::at("/from", detail)]));
    }
    Ok(Redelivery {
        id: Uuid::now_v7().to_string(),
        asked_at: now,
        from_sequence: starts.resolve(&attributes).await.map_err(|error| unavailable(&error))?,
        to_sequence: starts.live_from - 1,
        from,
        to,
        only: None,
    })
}
