//! `POST /v1/subscriptions/{id}/pause` and `resume`: having deliveries wait, and go on.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use uuid::Uuid;
use web::Problem;
use web::openapi::{AccessProblems, NatsProblems, NoSuchThing};

use super::change_existing;
use crate::by_id::ById;
use crate::{Registrar, answers};

/// Have deliveries wait
///
/// Events wait in the log until the subscription is resumed, as long as the log keeps them.
#[utoipa::path(
    post,
    operation_id = "pause_subscription",
    path = "/v1/subscriptions/{id}/pause",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "The subscription, whose deliveries wait", body = answers::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn pause(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    change_existing(&registrar, &id, |subscription| subscription.paused = true).await
}

/// Have deliveries go on
///
/// Deliveries go on where they were, or behind the gap where the subscription waits because of one.
#[utoipa::path(
    post,
    operation_id = "resume_subscription",
    path = "/v1/subscriptions/{id}/resume",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "The subscription, whose deliveries go on", body = answers::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn resume(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    let resumption = Uuid::now_v7().to_string();
    change_existing(&registrar, &id, |subscription| {
        subscription.paused = false;
        subscription.resumption = Some(resumption.clone());
    })
    .await
}
