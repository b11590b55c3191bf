//! `POST /v1/subscriptions/{id}/rotate-secret`: a new secret to sign deliveries with, answered once.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::signing_secret::{self, TooMany};
use domain::{SigningSecret, Stamp, WebhookSecret};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, NoSuchThing, ProblemDetails, ValueProblems};

use crate::Registrar;
use crate::answers::NewSecret;
use crate::by_id::{ById, no_such};
use crate::json_body::JsonBodyIfAny;
use crate::requests::RotationRequest;
use crate::subscriptions::change;

/// Make a new secret
///
/// Every current secret signs deliveries, as Standard Webhooks describes it. Earlier secrets of the same type go on signing
/// for the grace time; those of the other type stay. The answer is shown this once: of `v1` (HMAC-SHA256) the secret, of `v1a`
/// (ed25519) the public key; its private key never leaves mer.
#[utoipa::path(
    post,
    operation_id = "rotate_secret",
    path = "/v1/subscriptions/{id}/rotate-secret",
    tag = "Subscriptions",
    params(ById),
    // By reference: of a type it would be required, of an `Option` it could be null.
    request_body(content = ref("#/components/schemas/SecretToMake"), content_type = "application/json"),
    responses(
        (status = 200, description = "The new secret, or its public key. It signs deliveries from now on", body = NewSecret),
        (status = 409, description = "mer runs without `MER_SECRET_KEY`, or too many secrets are current", body = ProblemDetails, content_type = "application/problem+json", example = json!({"title": "Conflict", "status": 409, "detail": "this mer cannot keep secrets: set MER_SECRET_KEY (base64 of 32 bytes, as from `openssl rand -base64 32`) for registrar and dispatcher"})),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn rotate(
    State(registrar): State<Arc<Registrar>>,
    ById(id): ById,
    JsonBodyIfAny(body): JsonBodyIfAny,
) -> Result<Response, Problem> {
    let request = match body {
        None => RotationRequest::default(),
        Some(body) => RotationRequest::parse(&body).map_err(Problem::unacceptable)?,
    };
    let keys = registrar.secret_keys.as_ref().ok_or_else(no_keys)?;
    let secret = WebhookSecret::new(request.kind, &rand::random());
    let kept = SigningSecret::seal(&secret, &id, keys, rand::random(), Stamp::now());
    let mut outcome: Option<Result<(), TooMany>> = None;
    change(&registrar, &id, |current| {
        let mut subscription = current?;
        outcome = Some(match signing_secret::rotated(&subscription.secrets, kept.clone(), request.grace()) {
            Ok(secrets) => {
                subscription.secrets = secrets;
                Ok(())
            }
            Err(too_many) => Err(too_many),
        });
        Some(subscription)
    })
    .await?;
    outcome.ok_or_else(|| no_such(&id))?.map_err(|error| Problem::new(StatusCode::CONFLICT, error))?;
    tracing::info!(%id, kind = %request.kind, grace_secs = request.grace_secs, "subscription.secret_rotated");
    let (exposed, public_key) = (secret.expose(), secret.public_key());
    let answer = match &public_key {
        Some(public_key) => NewSecret::asymmetric(public_key),
        None => NewSecret::symmetric(&exposed),
    };
    Ok(([(CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response())
}

fn no_keys() -> Problem {
    let detail = "this mer cannot keep secrets: set MER_SECRET_KEY (base64 of 32 bytes, as from `openssl rand -base64 32`) \
                  for registrar and dispatcher";
    Problem::new(StatusCode::CONFLICT, detail)
}
