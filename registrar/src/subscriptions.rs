//! `/v1/subscriptions`: all that is registered for a URL, as one thing with a state.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State as Extract};
use axum::response::{IntoResponse, Response};
use broker::Unavailable;
use broker::subscriptions::WriteError;
use domain::delivery_settings::DeliverySettings;
use domain::lane::Word;
use domain::subscription::{Redelivery, Test};
use domain::subscription_request::{ReplayRequest, SubscriptionRequest};
use domain::{Attributes, Entry, FieldError, Stamp, Subscription, SubscriptionId, TypePattern, field_error};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, NoSuchThing, ProblemDetails, ValueProblems};
use web::{Problem, query};

use crate::by_id::{ById, no_such};
use crate::register::MAX_ENTRIES;
use crate::schema;
use crate::start::Starts;
use crate::view::{self, Status};
use crate::{RETRY_AFTER_SECS, Registrar, read_json, unavailable};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// How long to wait for what comes of a test, and how often to look.
const TEST_DEADLINE: Duration = Duration::from_secs(5);
const TEST_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How many states are looked up at a time for a list.
const LOOK_UPS: usize = 16;

/// Make a subscription, or replace the one of the same URL
///
/// An event that is registered with the same attributes already goes on as it is; so doing it twice is as good as once.
#[utoipa::path(
    put,
    operation_id = "put_subscription",
    path = "/v1/subscriptions",
    tag = "Subscriptions",
    request_body(content = schema::SubscriptionToPut),
    responses(
        (status = 200, description = "It is replaced", body = schema::Subscription),
        (status = 201, description = "It is made", body = schema::Subscription),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn put(
    Extract(registrar): Extract<Arc<Registrar>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_json(&registrar, &headers, body).await?;
    let now = Stamp::now();
    let request = SubscriptionRequest::parse_put(&body, now).map_err(Problem::unacceptable)?;
    let url = request.url.clone().ok_or_else(|| Problem::malformed(vec![FieldError::at("/url", "it is missing")]))?;
    let id = url.subscription_id();
    let entries = resolve(&registrar, &id, &request, now).await?.unwrap_or_default();
    let (mut is_new, act) = (false, Uuid::now_v7().to_string());
    let changed = change(&registrar, &id, |current| {
        is_new = current.is_none();
        let mut subscription = current.unwrap_or_else(|| Subscription::new(url.clone()));
        subscription.entries = merged(&subscription, &entries);
        subscription.group = request.group.clone().flatten();
        subscription.delivery = DeliverySettings::default();
        request.delivery.apply(&mut subscription.delivery);
        subscription.registered = Some(act.clone());
        Some(subscription)
    });
    changed.await?;
    tracing::info!(%id, target = %url, entries = entries.len(), "subscription.put");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(read(&registrar, &id).await?)).into_response())
}

/// Change what is named of a subscription
#[utoipa::path(
    patch,
    operation_id = "patch_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    request_body(content = schema::SubscriptionPatch),
    responses(
        (status = 200, description = "It is changed", body = schema::Subscription),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn patch(
    Extract(registrar): Extract<Arc<Registrar>>,
    ById(id): ById,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_json(&registrar, &headers, body).await?;
    let now = Stamp::now();
    let request = SubscriptionRequest::parse_patch(&body, now).map_err(Problem::unacceptable)?;
    let entries = resolve(&registrar, &id, &request, now).await?;
    change_existing(&registrar, &id, |subscription| {
        if let Some(entries) = &entries {
            subscription.entries = merged(subscription, entries);
        }
        if let Some(group) = &request.group {
            subscription.group.clone_from(group);
        }
        request.delivery.apply(&mut subscription.delivery);
    })
    .await
}

/// Read a subscription with its state
#[utoipa::path(
    get,
    operation_id = "get_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "It", body = schema::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn get(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    Ok(axum::Json(read(&registrar, &id).await?).into_response())
}

/// List subscriptions with their states, by id
#[utoipa::path(
    get,
    operation_id = "list_subscriptions",
    path = "/v1/subscriptions",
    tag = "Subscriptions",
    params(
        ("group" = Option<String>, Query, description = "Only those of this group"),
        ("after" = Option<String>, Query, description = "Begin behind this id"),
        ("limit" = Option<u64>, Query, description = "The most of a page", minimum = 1, maximum = 1000),
    ),
    responses((status = 200, description = "A page of them", body = schema::SubscriptionPage), ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn list(Extract(registrar): Extract<Arc<Registrar>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref())?;
    let mut all = registrar.desk.list().await.map_err(|error| unavailable(&error))?;
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let is_asked_for = |(id, subscription): &(SubscriptionId, Subscription)| {
        query.group.as_ref().is_none_or(|group| subscription.group.as_ref() == Some(group))
            && query.after.as_ref().is_none_or(|after| id.as_str() > after.as_str())
    };
    let mut asked_for: Vec<_> = all.into_iter().filter(is_asked_for).collect();
    let next = (asked_for.len() > query.limit).then(|| asked_for[query.limit - 1].0.clone());
    asked_for.truncate(query.limit);
    let views = stream::iter(asked_for).map(async |(id, subscription)| {
        let status = Status::read(&registrar, &id, &subscription).await?;
        Ok::<Value, Unavailable>(view::of(&id, &subscription, &status))
    });
    let views: Vec<Value> =
        views.buffered(LOOK_UPS).try_collect().await.map_err(|error: Unavailable| unavailable(&error))?;
    Ok(axum::Json(json!({"subscriptions": views, "next": next})).into_response())
}

/// Remove a subscription
#[utoipa::path(
    delete,
    operation_id = "delete_subscription",
    path = "/v1/subscriptions/{id}",
    tag = "Subscriptions",
    params(ById),
    responses((status = 204, description = "It is gone"), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn delete(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<StatusCode, Problem> {
    let mut was_there = false;
    change(&registrar, &id, |current| {
        was_there = current.is_some();
        None
    })
    .await?;
    tracing::info!(%id, was_there, "subscription.deleted");
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(no_such(&id)) }
}

/// Have deliveries wait
#[utoipa::path(
    post,
    operation_id = "pause_subscription",
    path = "/v1/subscriptions/{id}/pause",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "They wait", body = schema::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn pause(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    change_existing(&registrar, &id, |subscription| subscription.paused = true).await
}

/// Have deliveries go on
///
/// Where they were; or behind a gap, where the subscription waits because of one.
#[utoipa::path(
    post,
    operation_id = "resume_subscription",
    path = "/v1/subscriptions/{id}/resume",
    tag = "Subscriptions",
    params(ById),
    responses((status = 200, description = "They go on", body = schema::Subscription), NoSuchThing, NatsProblems, AccessProblems),
)]
pub async fn resume(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    let resumption = Uuid::now_v7().to_string();
    change_existing(&registrar, &id, |subscription| {
        subscription.paused = false;
        subscription.resumption = Some(resumption.clone());
    })
    .await
}

/// Deliver a part of the log again
///
/// In order; then deliveries go on where they were. Its progress is in the subscription's status.
#[utoipa::path(
    post,
    operation_id = "replay_subscription",
    path = "/v1/subscriptions/{id}/replay",
    tag = "Subscriptions",
    params(ById),
    request_body(content = schema::ReplayToMake),
    responses(
        (status = 202, description = "It has begun", body = schema::Subscription),
        (status = 409, description = "The subscription is completed", body = ProblemDetails, content_type = "application/problem+json", example = json!({"title": "Conflict", "status": 409, "detail": "host_0123456789abcdef is completed: register it again, with a `datetime_start`, to have events delivered again"})),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn replay(
    Extract(registrar): Extract<Arc<Registrar>>,
    ById(id): ById,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_json(&registrar, &headers, body).await?;
    let now = Stamp::now();
    let ReplayRequest { from, to } = ReplayRequest::parse(&body, now).map_err(Problem::unacceptable)?;
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let attributes = Attributes { datetime_start: Some(from), ..Attributes::default() };
    if let Some(detail) = starts.gap(&attributes) {
        return Err(Problem::unacceptable(vec![FieldError::at("/from", detail)]));
    }
    let from_sequence = starts.resolve(&attributes).await.map_err(|error| unavailable(&error))?;
    let replay = Redelivery {
        id: Uuid::now_v7().to_string(),
        asked_at: now,
        from_sequence,
        to_sequence: starts.live_from - 1,
        from,
        to,
        only: None,
    };
    let (_, lane) = registrar.lanes.get(&id).await.map_err(|error| unavailable(&error))?;
    if lane.is_some_and(|lane| lane.state.word() == Word::Completed) {
        let detail =
            format!("{id} is completed: register it again, with a `datetime_start`, to have events delivered again");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let mut response =
        change_existing(&registrar, &id, |subscription| subscription.redelivery = Some(replay.clone())).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Post a test to the target
///
/// A CloudEvent of type `mer.test`; it is no event: nothing is stored. One at a time: a later one takes its place. 202 where nothing has come of it within five
/// seconds: what does is the subscription's `last_test` then.
#[utoipa::path(
    post,
    operation_id = "test_subscription",
    path = "/v1/subscriptions/{id}/test",
    tag = "Subscriptions",
    params(ById),
    responses(
        (status = 200, description = "What came of it", body = schema::TestOutcome),
        (status = 202, description = "Nothing has come of it yet", body = schema::TestOutcome),
        NoSuchThing, NatsProblems, AccessProblems,
    ),
)]
pub async fn test(Extract(registrar): Extract<Arc<Registrar>>, ById(id): ById) -> Result<Response, Problem> {
    let test = Test { id: Uuid::now_v7().to_string(), asked_at: Stamp::now() };
    change_existing(&registrar, &id, |subscription| subscription.test = Some(test.clone())).await?;
    let deadline = Instant::now() + TEST_DEADLINE;
    let mut outcome = None;
    while outcome.is_none() && Instant::now() < deadline {
        sleep(TEST_LOOK_INTERVAL).await;
        let (_, lane) = registrar.lanes.get(&id).await.map_err(|error| unavailable(&error))?;
        outcome = lane.and_then(|lane| lane.test).filter(|outcome| outcome.id == test.id);
    }
    let status = if outcome.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(view::of_test(&test.id, outcome.as_ref()))).into_response())
}

/// The entries of a request, with every start pinned.
async fn resolve(
    registrar: &Registrar,
    id: &SubscriptionId,
    request: &SubscriptionRequest,
    now: Stamp,
) -> Result<Option<BTreeMap<TypePattern, Entry>>, Problem> {
    let Some(events) = &request.events else { return Ok(None) };
    if events.len() > MAX_ENTRIES {
        let detail = format!("it has {} types and patterns; at most {MAX_ENTRIES} are kept for a URL", events.len());
        return Err(Problem::unacceptable(vec![FieldError::at("/events", detail)]));
    }
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    // What is asked for in the same words already goes on as it is, wherever it once began.
    let current = registrar.desk.look(id).await.map_err(|error| unavailable(&error))?;
    let goes_on = |pattern: &TypePattern, attributes: &Attributes| {
        let earlier = current.as_ref().and_then(|current| current.entries.get(pattern));
        earlier.is_some_and(|entry| entry.attributes == *attributes)
    };
    let gaps: Vec<FieldError> = events
        .iter()
        .filter(|(pattern, (attributes, _))| !goes_on(pattern, attributes))
        .filter_map(|(_, (attributes, at))| {
            Some(FieldError::at(field_error::push(at, "datetime_start"), starts.gap(attributes)?))
        })
        .collect();
    if !gaps.is_empty() {
        return Err(Problem::unacceptable(gaps));
    }
    let mut entries = BTreeMap::new();
    for (pattern, (attributes, _)) in events {
        let entry = starts.entry(attributes).await.map_err(|error| unavailable(&error))?;
        entries.insert(pattern.clone(), entry);
    }
    Ok(Some(entries))
}

/// What is asked for now, where what was asked for in the same words goes on as it is.
fn merged(current: &Subscription, asked: &BTreeMap<TypePattern, Entry>) -> BTreeMap<TypePattern, Entry> {
    let merge = |(pattern, entry): (&TypePattern, &Entry)| {
        let entry = match current.entries.get(pattern) {
            Some(earlier) if earlier.attributes == entry.attributes => earlier.clone(),
            _ => current.admits(pattern, entry),
        };
        (pattern.clone(), entry)
    };
    asked.iter().map(merge).collect()
}

pub(crate) async fn change(
    registrar: &Registrar,
    id: &SubscriptionId,
    change: impl FnMut(Option<Subscription>) -> Option<Subscription>,
) -> Result<(), Problem> {
    registrar.desk.change(id, change).await.map_err(|error| match error {
        WriteError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error),
        WriteError::Conflict => Problem::unavailable(error, RETRY_AFTER_SECS),
        WriteError::Unavailable(error) => unavailable(&error),
    })
}

/// Changes a subscription that must be there, and answers with it.
async fn change_existing(
    registrar: &Registrar,
    id: &SubscriptionId,
    alter: impl Fn(&mut Subscription),
) -> Result<Response, Problem> {
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
    Ok(axum::Json(read(registrar, id).await?).into_response())
}

pub(crate) async fn read(registrar: &Registrar, id: &SubscriptionId) -> Result<Value, Problem> {
    let read = async {
        let Some(subscription) = registrar.desk.look(id).await? else { return Ok(None) };
        let status = Status::read(registrar, id, &subscription).await?;
        Ok(Some(view::of(id, &subscription, &status)))
    };
    read.await.map_err(|error: Unavailable| unavailable(&error))?.ok_or_else(|| no_such(id))
}

/// Which subscriptions are asked for.
struct Query {
    group: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Query {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self { group: None, after: None, limit: DEFAULT_LIMIT };
        query::read(text, |name, value| {
            match name {
                "group" => parsed.group = Some(value.into_owned()),
                "after" => parsed.after = Some(value.into_owned()),
                "limit" => parsed.limit = query::whole_number(&value, 1..=MAX_LIMIT)?,
                _ => query::no_such_parameter()?,
            }
            Ok(())
        })?;
        Ok(parsed)
    }
}
