//! `/v1/subscriptions`: all that is registered for a URL, as one thing with a status.
//!
//! - here: making, changing, reading and removing one.
//! - [`list`]: pages of them.
//! - [`pause`]: having deliveries wait, and go on; [`redelivery`]: delivering a part of the log again; [`target_test`]: a test
//!   of the target.
//! - `entries`: what a request says of events, with every start pinned.

mod entries;
pub mod list;
pub mod pause;
pub mod redelivery;
pub mod target_test;

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use broker::Unavailable;
use broker::subscriptions::WriteError;
use domain::delivery_settings::DeliverySettings;
use domain::{Stamp, Subscription, SubscriptionId};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use uuid::Uuid;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, NoSuchThing, ValueProblems};

use crate::answers;
use crate::by_id::{ById, no_such};
use crate::json_body::JsonBody;
use crate::requests::{SubscriptionPatch, SubscriptionToPut};
use crate::status::Snapshot;
use crate::{RETRY_AFTER_SECS, Registrar, unavailable};
use entries::{Effect, Entries};

/// Make a subscription, or replace the one of the same URL
///
/// An event that is registered with the same attributes already goes on as it is: what it has had does not come again
/// (`"replays": false`). A replica that has lost its state asks for the past with `start`, as `{"after": 0}`, or with
/// `/replay`. An event that waits for its next attempt is tried at once. What a 410 or `on_exhausted` has stopped delivers
/// again; a pause stays.
#[utoipa::path(
    put,
    operation_id = "put_subscription",
    path = "/v1/subscriptions",
    tag = "Subscriptions",
    request_body(content = SubscriptionToPut),
    responses(
        (status = 200, description = "The subscription, replaced", body = answers::Subscription),
        (status = 201, description = "The subscription, made", body = answers::Subscription),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn put(Extract(registrar): Extract<Arc<Registrar>>, JsonBody(body): JsonBody) -> Result<Response, Problem> {
    let now = Stamp::now();
    let SubscriptionToPut { url, events, group, delivery, .. } =
        SubscriptionToPut::parse(&body, now).map_err(Problem::unacceptable)?;
    let (id, url) = registrar.store.of_url(&url).await.map_err(|error| unavailable(&error))?;
    let entries = entries::pinned(&registrar, &id, &events, now).await?;
    let (mut is_new, mut effect, act) = (false, Effect::default(), Uuid::now_v7().to_string());
    let changed = change(&registrar, &id, |current| {
        is_new = current.is_none();
        let mut subscription = current.unwrap_or_else(|| Subscription::new(url.clone()));
        effect = register(&mut subscription, &entries, &act);
        subscription.group.clone_from(&group);
        subscription.delivery = DeliverySettings::default();
        delivery.apply(&mut subscription.delivery);
        Some(subscription)
    });
    changed.await?;
    tracing::info!(%id, target = %url, entries = entries.len(), "subscription.put");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let answer = read(&registrar, &id).await?.after_registering(effect.replays, effect.repeats);
    Ok((status, axum::Json(answer)).into_response())
}

/// Has a subscription be registered for these entries, by an act of that name.
fn register(subscription: &mut Subscription, entries: &Entries, act: &str) -> Effect {
    let merged = entries::merged(subscription, entries);
    let before = std::mem::replace(&mut subscription.entries, merged);
    subscription.registered = Some(act.to_owned());
    Effect::of(&before, &subscription.entries)
}

/// Change what is named of a subscription
///
/// A merge patch (RFC 7396): what is left out stays, null takes away, and `events`, being a list, is replaced as a whole.
#[utoipa::path(
    patch,
    operation_id = "patch_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    request_body(content = SubscriptionPatch),
    responses(
        (status = 200, description = "The subscription, changed", body = answers::Subscription),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn patch(
    Extract(registrar): Extract<Arc<Registrar>>,
    ById(id): ById,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    check_is_merge_patch(&headers)?;
    let now = Stamp::now();
    let patch = SubscriptionPatch::parse(&body, now).map_err(Problem::unacceptable)?;
    let events = match (patch.events, patch.start) {
        (None, Some(start)) => Some(entries::restarted(&registrar, &id, start).await?),
        (events, _) => events,
    };
    let entries = match &events {
        Some(events) => Some(entries::pinned(&registrar, &id, events, now).await?),
        None => None,
    };
    let (mut effect, act) = (None, Uuid::now_v7().to_string());
    let answer = altered(&registrar, &id, |subscription| {
        effect = entries.as_ref().map(|entries| register(subscription, entries, &act));
        if let Some(group) = &patch.group {
            subscription.group.clone_from(group);
        }
        patch.delivery.apply(&mut subscription.delivery);
    })
    .await?;
    let answer = match effect {
        Some(Effect { replays, repeats }) => answer.after_registering(replays, repeats),
        None => answer,
    };
    Ok(axum::Json(answer).into_response())
}

/// 415 for a patch of another kind, whose name ends as that of JSON does.
fn check_is_merge_patch(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json-patch+json") {
        let detail = "a patch is application/merge-patch+json (RFC 7396), or application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

/// Read a subscription with its status
#[utoipa::path(
    get,
    operation_id = "get_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "The subscription", body = answers::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn get(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    Ok(axum::Json(read(&registrar, &id).await?).into_response())
}

/// Remove a subscription
#[utoipa::path(
    delete,
    operation_id = "delete_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    responses((status = 204, description = "The subscription is removed"), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn delete(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<StatusCode, Problem> {
    let mut was_there = false;
    change(&registrar, &id, |current| {
        was_there = current.is_some();
        None
    })
    .await?;
    if !was_there {
        was_there = forget_lost(&registrar, &id).await?;
    }
    tracing::info!(%id, was_there, "subscription.deleted");
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(no_such(&id)) }
}

/// Has the lane of a subscription cleared away that `SUBSCRIPTIONS` has lost. Answers whether there was one.
async fn forget_lost(registrar: &Registrar, id: &SubscriptionId) -> Result<bool, Problem> {
    // Whether it can be read or not.
    let lane = registrar.lanes.revision(id).await.map_err(|error| unavailable(&error))?;
    if lane.is_none() {
        return Ok(false);
    }
    registrar.store.forget_lost(id).await.map_err(not_written)
}

/// Changes a subscription, or what is none yet: see [`SubscriptionStore::change`](crate::SubscriptionStore::change).
pub(crate) async fn change(
    registrar: &Registrar,
    id: &SubscriptionId,
    change: impl FnMut(Option<Subscription>) -> Option<Subscription>,
) -> Result<(), Problem> {
    registrar.store.change(id, change).await.map_err(not_written)
}

fn not_written(error: WriteError) -> Problem {
    match error {
        WriteError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error),
        WriteError::Conflict => Problem::unavailable(error, RETRY_AFTER_SECS),
        WriteError::Unavailable(error) => unavailable(&error),
    }
}

/// Changes a subscription that must be there, and answers with it.
async fn change_existing(
    registrar: &Registrar,
    id: &SubscriptionId,
    alter: impl FnMut(&mut Subscription),
) -> Result<Response, Problem> {
    Ok(axum::Json(altered(registrar, id, alter).await?).into_response())
}

/// The same, as it is to be answered.
async fn altered(
    registrar: &Registrar,
    id: &SubscriptionId,
    mut alter: impl FnMut(&mut Subscription),
) -> Result<answers::Subscription, Problem> {
    let mut was_there = false;
    change(registrar, id, |current| {
        let mut subscription = current?;
        was_there = true;
        alter(&mut subscription);
        Some(subscription)
    })
    .await?;
    if !was_there {
        return Err(no_such(id));
    }
    read(registrar, id).await
}

/// The subscription of an id, as it is answered.
pub(crate) async fn read(registrar: &Registrar, id: &SubscriptionId) -> Result<answers::Subscription, Problem> {
    let subscription = registrar.store.get(id).await.map_err(|error| unavailable(&error))?;
    let subscription = subscription.ok_or_else(|| no_such(id))?;
    shown(registrar, id, subscription).await.map_err(|error| unavailable(&error))
}

/// A subscription with its status, as it is answered.
async fn shown(
    registrar: &Registrar,
    id: &SubscriptionId,
    subscription: Subscription,
) -> Result<answers::Subscription, Unavailable> {
    let snapshot = Snapshot::read(registrar, id, &subscription).await?;
    let now = Stamp::now();
    let status = snapshot.status_of(&subscription, now);
    Ok(answers::Subscription::of(id, subscription, status, now))
}
