//! `POST /v1/subscriptions/{id}/test`: a test of the target.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use domain::Stamp;
use domain::subscription::Test;
use http::StatusCode;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;
use web::Problem;
use web::openapi::{AccessProblems, NatsProblems, NoSuchThing};

use super::change_existing;
use crate::answers::TestOutcome;
use crate::by_id::ById;
use crate::{Registrar, unavailable};

/// How long to wait for what comes of a test, and how often to look.
const DEADLINE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Post a test to the target
///
/// Posts a CloudEvent of type `mer.test` to the target, which is no event of the log: nothing is stored. There is one test at a
/// time: a later one takes the place of an earlier one. Where nothing has come of it within five seconds, the answer is 202, and
/// the subscription's status shows it later as `last_test`.
#[utoipa::path(
    post,
    operation_id = "test_subscription",
    path = "/v1/subscriptions/{id}/test",
    tag = "Subscriptions",
    params(ById),
    responses(
        (status = 200, description = "What came of the test", body = TestOutcome),
        (status = 202, description = "Nothing has come of the test within five seconds", body = TestOutcome),
        NoSuchThing, NatsProblems, AccessProblems,
    ),
)]
pub async fn test(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    let test = Test { id: Uuid::now_v7().to_string(), asked_at: Stamp::now() };
    change_existing(&registrar, &id, |subscription| subscription.test = Some(test.clone())).await?;
    let deadline = Instant::now() + DEADLINE;
    let mut outcome = None;
    while outcome.is_none() && Instant::now() < deadline {
        sleep(LOOK_INTERVAL).await;
        let (_, lane) = registrar.lanes.get(&id).await.map_err(|error| unavailable(&error))?;
        outcome = lane.and_then(|lane| lane.test).filter(|outcome| outcome.id == test.id);
    }
    let status = if outcome.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(TestOutcome::new(test.id, outcome.as_ref()))).into_response())
}
