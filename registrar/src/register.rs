//! `POST /register_for_events/`: the seed's call.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Json;
use broker::subscriptions::WriteError;
use domain::registration::{Registration, parse_registrations};
use domain::{Entry, FieldError, Stamp, Subscription, SubscriptionId, TargetUrl, TypePattern};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;
use web::Problem;

use crate::start::Starts;
use crate::{Registrar, put, read_json, unavailable};

/// The most types and patterns that one URL may be registered for.
const MAX_ENTRIES: usize = 1000;

const LIVE: &str = "registered_for_events";
const RETROACTIVE: &str = "registered_for_retro_event_retrieval";

/// What is to be added to one subscription.
struct Addition {
    url: TargetUrl,
    entries: Vec<(TypePattern, Entry)>,
}

/// Registers URLs for events. What a 200 promises: every matching event accepted after it is delivered.
pub async fn register_for_events(
    State(registrar): State<Arc<Registrar>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let body = read_json(&registrar, &headers, body).await?;
    let now = Stamp::now();
    let registrations = parse_registrations(&body, now).map_err(Problem::unacceptable)?;
    let additions = resolve(&registrar, &registrations, now).await?;
    let mut stored: Vec<String> = Vec::new();
    for (id, addition) in &additions {
        add(&registrar, id, addition).await.map_err(|problem| name_stored(problem, &stored))?;
        tracing::info!(%id, target = %addition.url, entries = addition.entries.len(), "subscription.registered");
        stored.push(addition.url.to_string());
    }
    Ok(Json(answer(&registrations, now)))
}

/// Pins every start, and sorts the entries by URL.
async fn resolve(
    registrar: &Registrar,
    registrations: &[Registration],
    now: Stamp,
) -> Result<BTreeMap<SubscriptionId, Addition>, Problem> {
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let mut additions: BTreeMap<SubscriptionId, Addition> = BTreeMap::new();
    for registration in registrations {
        let from_sequence = starts.resolve(&registration.attributes).await.map_err(|error| unavailable(&error))?;
        let entry = Entry {
            registration: Uuid::now_v7().to_string(),
            registered_at: now,
            from_sequence,
            live_from: starts.live_from,
            attributes: registration.attributes.clone(),
        };
        additions
            .entry(registration.url.subscription_id())
            .or_insert_with(|| Addition { url: registration.url.clone(), entries: Vec::new() })
            .entries
            .push((registration.pattern.clone(), entry));
    }
    Ok(additions)
}

async fn add(registrar: &Registrar, id: &SubscriptionId, addition: &Addition) -> Result<(), Problem> {
    let mut too_many = false;
    let changed = registrar.desk.change(id, |subscription| {
        let had = subscription.clone();
        let mut subscription = subscription.unwrap_or_else(|| Subscription::new(addition.url.clone()));
        subscription.entries.extend(addition.entries.iter().cloned());
        too_many = subscription.entries.len() > MAX_ENTRIES;
        if too_many { had } else { Some(subscription) }
    });
    match changed.await {
        Ok(()) if too_many => {
            let detail = format!("{} would be registered for more than {MAX_ENTRIES} types and patterns", addition.url);
            Err(Problem::unacceptable(vec![FieldError::at("/events_to_register", detail)]))
        }
        Ok(()) => Ok(()),
        Err(error @ WriteError::TooLarge { .. }) => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("{}: {error}", addition.url)))
        }
        Err(WriteError::Unavailable(error)) => Err(unavailable(&error)),
        Err(error @ WriteError::Conflict) => Err(Problem::unavailable(error, crate::RETRY_AFTER_SECS)),
    }
}

/// Says which URLs of the request have been registered before it failed.
fn name_stored(problem: Problem, stored: &[String]) -> Problem {
    if stored.is_empty() {
        return problem;
    }
    problem.with_note(&format!("Already registered by this request: {}", stored.join(", ")))
}

/// The seed's answer: pairs grouped by whether they reach into the past, each with its attributes as they were given.
fn answer(registrations: &[Registration], now: Stamp) -> Value {
    let mut answer: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for registration in registrations {
        let group = if registration.attributes.is_retroactive(now) { RETROACTIVE } else { LIVE };
        let attributes = Value::Object(registration.attributes_as_given.clone());
        let path = [registration.pattern.as_str(), registration.url_as_given.as_str()];
        put(answer.entry(group).or_default(), path, attributes);
    }
    Value::Object(answer.into_iter().map(|(group, events)| (group.to_owned(), Value::Object(events))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_is_grouped_as_the_seed_does_it() {
        let now = Stamp::now();
        let body = json!({"events_to_register": [
            {"event": "a", "urls_to_register": [{"url": "http://h/1"}, {"url": "http://h/2", "datetime_start": "20200101000000.0", "count": 1}]},
            {"event": "b.*", "urls_to_register": [{"url": "http://h/1", "transaction_id": "t"}]},
        ]});
        let answer = answer(&parse_registrations(&body, now).unwrap(), now);
        assert_eq!(
            answer.to_string(),
            r#"{"registered_for_events":{"a":{"http://h/1":{}}},"registered_for_retro_event_retrieval":{"a":{"http://h/2":{"datetime_start":"20200101000000.0","count":1}},"b.*":{"http://h/1":{"transaction_id":"t"}}}}"#
        );
    }
}
