//! `POST /register_for_events/`: the original call.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use broker::subscriptions::WriteError;
use domain::field_error;
use domain::{Entry, FieldError, Stamp, Subscription, SubscriptionId, TargetUrl, TypePattern};
use http::StatusCode;
use web::Problem;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, ValueProblems};

use crate::answers::Registered;
use crate::json_body::JsonBody;
use crate::requests::{MAX_ENTRIES, Registrations, UrlToRegister};
use crate::start::{About, Refused, Starts};
use crate::{RETRY_AFTER_SECS, Registrar, unavailable};

/// What is to be added to one subscription.
struct Addition {
    url: TargetUrl,
    entries: Vec<(TypePattern, Entry)>,
}

/// Register URLs for events
///
/// What a 200 promises: every matching event accepted after it is delivered. All is validated before anything is
/// stored. `/register_for_events` is the same.
#[utoipa::path(
    post,
    path = "/register_for_events/",
    tag = "Registrations",
    request_body(content = Registrations),
    responses(
        (status = 200, description = "All pairs are registered; each is named with its attributes", body = Registered),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn register_for_events(
    State(registrar): State<Arc<Registrar>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Registered>, Problem> {
    let now = Stamp::now();
    let registrations = Registrations::parse(&body, now).map_err(Problem::unacceptable)?;
    let additions = resolve(&registrar, &registrations, now).await?;
    check(&registrar, &additions).await?;
    let mut stored: Vec<String> = Vec::new();
    for (id, addition) in &additions {
        add(&registrar, id, addition).await.map_err(|refusal| refusal.into_problem(&stored))?;
        tracing::info!(%id, target = %addition.url, entries = addition.entries.len(), "subscription.registered");
        stored.push(addition.url.to_string());
    }
    Ok(Json(answer(&registrations, now)))
}

/// Pins every start, and sorts the entries by URL.
async fn resolve(
    registrar: &Registrar,
    registrations: &Registrations,
    now: Stamp,
) -> Result<BTreeMap<SubscriptionId, Addition>, Problem> {
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let refused = |url: &UrlToRegister| {
        let Refused { about, detail } = starts.refused(&url.attributes)?;
        let name = match about {
            About::Time => "datetime_start",
            About::Position => "start_after",
        };
        Some(FieldError::at(field_error::push(&url.pointer, name), detail))
    };
    let faults: Vec<FieldError> = registrations.pairs().filter_map(|(_, url)| refused(url)).collect();
    if !faults.is_empty() {
        return Err(Problem::unacceptable(faults));
    }
    let mut additions: BTreeMap<SubscriptionId, Addition> = BTreeMap::new();
    for (pattern, UrlToRegister { url, attributes, .. }) in registrations.pairs() {
        let entry = starts.entry(attributes).await.map_err(|error| unavailable(&error))?;
        let (id, url) = registrar.store.of_url(url).await.map_err(|error| unavailable(&error))?;
        additions
            .entry(id)
            .or_insert_with(|| Addition { url, entries: Vec::new() })
            .entries
            .push((pattern.clone(), entry));
    }
    Ok(additions)
}

/// Refuses what cannot be stored before anything is.
async fn check(registrar: &Registrar, additions: &BTreeMap<SubscriptionId, Addition>) -> Result<(), Problem> {
    for (id, addition) in additions {
        let checked = match registrar.store.get(id).await {
            Ok(current) => addition
                .to(current.clone())
                .and_then(|subscription| Ok(registrar.store.check(current.as_ref(), &subscription)?)),
            Err(error) => Err(Refusal::Write(error.into())),
        };
        checked.map_err(|refusal| refusal.into_problem(&[]))?;
    }
    Ok(())
}

async fn add(registrar: &Registrar, id: &SubscriptionId, addition: &Addition) -> Result<(), Refusal> {
    let mut refusal = None;
    let changed = registrar.store.change(id, |current| match addition.to(current.clone()) {
        Ok(subscription) => {
            refusal = None;
            Some(subscription)
        }
        Err(refused) => {
            refusal = Some(refused);
            current
        }
    });
    changed.await?;
    refusal.map_or(Ok(()), Err)
}

impl Addition {
    /// The subscription with this added to it.
    fn to(&self, current: Option<Subscription>) -> Result<Subscription, Refusal> {
        let mut subscription = current.unwrap_or_else(|| Subscription::new(self.url.clone()));
        for (pattern, entry) in &self.entries {
            let entry = subscription.admits(pattern, entry);
            subscription.registered = Some(entry.registration.clone());
            subscription.entries.insert(pattern.clone(), entry);
        }
        match subscription.entries.len() {
            0..=MAX_ENTRIES => Ok(subscription),
            _ => Err(Refusal::TooMany(self.url.to_string())),
        }
    }
}

/// Why a URL was not registered.
enum Refusal {
    /// It would be registered for more than [`MAX_ENTRIES`].
    TooMany(String),
    /// It could not be written.
    Write(WriteError),
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl Refusal {
    /// What is answered, where these URLs of the request have been registered already.
    fn into_problem(self, stored: &[String]) -> Problem {
        let (status, detail) = match self {
            Self::TooMany(url) => {
                let detail = format!("{url} would be registered for more than {MAX_ENTRIES} types and patterns");
                (StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            Self::Write(error @ WriteError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Self::Write(error @ (WriteError::Conflict | WriteError::Unavailable(_))) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        };
        let note = match stored {
            [] => "Nothing was registered, and it is safe to send the request again".to_owned(),
            urls => format!(
                "Registered before that by this request: {}. Sent again, it registers them anew, and replays what has a start in the past",
                urls.join(", ")
            ),
        };
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(format!("{detail}. {note}"), RETRY_AFTER_SECS),
            _ => Problem::new(status, format!("{detail}. {note}")),
        }
    }
}

/// Pairs grouped by whether they reach into the past, each with its attributes as they were given.
fn answer(registrations: &Registrations, now: Stamp) -> Registered {
    let mut answer = Registered::default();
    for (pattern, url) in registrations.pairs() {
        let group = match url.attributes.is_retroactive(now) {
            true => &mut answer.registered_for_retro_event_retrieval,
            false => &mut answer.registered_for_events,
        };
        group.put(pattern.as_str(), &url.url_as_given, url.attributes_as_given.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_is_grouped_by_whether_a_pair_reaches_into_the_past() {
        let now = Stamp::now();
        let body = json!({"events_to_register": [
            {"event": "a", "urls_to_register": [{"url": "http://h/1"}, {"url": "http://h/2", "datetime_start": "20200101000000.0", "count": 1}]},
            {"event": "b.*", "urls_to_register": [{"url": "http://h/1", "transaction_id": "t"}, {"url": "http://h/3", "start_after": 7}]},
        ]});
        let answer = answer(&Registrations::parse(&body, now).unwrap(), now);
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"registered_for_events":{"a":{"http://h/1":{}}},"registered_for_retro_event_retrieval":{"a":{"http://h/2":{"datetime_start":"20200101000000.0","count":1}},"b.*":{"http://h/1":{"transaction_id":"t"},"http://h/3":{"start_after":7}}}}"#
        );
    }
}
