//! `/v1/dead-letters`: events that subscriptions have given up on, and having them delivered again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State as Extract};
use axum::response::{IntoResponse, Json, Response};
use broker::Unavailable;
use broker::dead_letters::End;
use domain::event::MAX_SEQUENCE;
use domain::subscription::{MAX_ONLY, Redelivery, Start};
use domain::{DeadLetter, Event, FieldError, Stamp, Subscription, SubscriptionId, TargetUrl, TypePattern};
use http::StatusCode;
use uuid::Uuid;
use web::openapi::{AccessProblems, BodyProblems, Moment, NatsProblems, NoSuchThing, ProblemDetails, ValueProblems};
use web::{Problem, query};

use crate::answers::{self, DeadLetterPage};
use crate::by_id::no_such;
use crate::json_body::JsonBody;
use crate::requests::{Letters, RedriveRequest};
use crate::status::Snapshot;
use crate::subscriptions::{change, read};
use crate::{Registrar, unavailable};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// How many dead letters are read at a time.
const READ_AT_A_TIME: usize = 1000;
/// How often a page may read on. One that matches little ends early, with where to go on.
const READS_PER_PAGE: usize = 100;
/// How much data a page holds before it ends early, in bytes.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Which dead letters a request wants.
#[derive(Debug, Default)]
struct Query {
    subscription: Option<SubscriptionId>,
    pattern: Option<TypePattern>,
    from: Option<Stamp>,
    to: Option<Stamp>,
    after: u64,
    limit: Option<usize>,
}

/// List dead letters, the oldest first
///
/// Dead letters are events that were tried as often as `max_attempts` says, where `on_exhausted` is `dead_letter`. They are
/// kept until somebody removes them. A page may end early where little matches or there is
/// much data; `next` says where to go on. A message of another NATS client that cannot be read is passed over: `unreadable`
/// names it.
#[utoipa::path(
    get,
    operation_id = "list_dead_letters",
    path = "/v1/dead-letters",
    tag = "Dead letters",
    params(
        ("subscription" = Option<String>, Query, description = "Only dead letters of the subscription with this id", pattern = "^[A-Za-z0-9_-]{1,100}$", example = "127-0-0-1-8888-hello_0123456789abcdef"),
        ("type" = Option<String>, Query, description = "Only events of this type, or of types that match this pattern: `*` stands for a token, `>` at the end for the rest", example = "order.*", max_length = 200, pattern = r"^(?!\$|mer\.)(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+)(\.(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+))*(\.>)?$"),
        ("from" = Option<Moment>, Query, description = "Only events that were given up at this moment or later"),
        ("to" = Option<Moment>, Query, description = "Only events that were given up at this moment or earlier"),
        ("after" = Option<u64>, Query, description = "Only dead letters behind the one with this sequence of its own; left out: from the first"),
        ("limit" = Option<u64>, Query, description = "How many dead letters a page has at most; 100 where it is left out", minimum = 1, maximum = 1000),
    ),
    responses((status = 200, description = "A page of dead letters", body = DeadLetterPage), ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn list(Extract(registrar): Extract<Arc<Registrar>>, RawQuery(text): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(text.as_deref())?;
    let Page { letters, unreadable, next } = page(&registrar, &query).await.map_err(|error| unavailable(&error))?;
    let urls = urls_of(&registrar, &letters).await.map_err(|error| unavailable(&error))?;
    let shown = letters.iter().map(|(sequence, letter)| {
        let url = urls.get(&letter.subscription);
        answers::DeadLetter::of(*sequence, letter, url)
    });
    Ok(Json(DeadLetterPage { dead_letters: shown.collect(), unreadable, next }).into_response())
}

/// Have dead letters delivered again
///
/// The subscription that gave them up gets these events alone, in the log's order, with the request's id as `ce-redelivery`
/// (`status.replay.id`); then deliveries go on where they were. They are named by `sequences` of dead letters, or by when they
/// were given up (`from`, `to`); at most 1,000 events. The dead letters stay; an event that is given up again becomes a new one.
/// What is left of an earlier redrive is delivered too; a replay of a part of the log that is under way ends.
#[utoipa::path(
    post,
    operation_id = "redrive_dead_letters",
    path = "/v1/dead-letters/redrive",
    tag = "Dead letters",
    request_body(content = RedriveRequest),
    responses(
        (status = 202, description = "The subscription, which begins to deliver them again", body = answers::Subscription),
        (status = 409, description = "The subscription is completed, or an earlier redrive has too much left to do", body = ProblemDetails, content_type = "application/problem+json", example = json!({"title": "Conflict", "status": 409, "detail": "host_0123456789abcdef is completed: register it again to have events delivered again"})),
        BodyProblems, NoSuchThing, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn redrive(
    Extract(registrar): Extract<Arc<Registrar>>,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let RedriveRequest { subscription: id, letters } = RedriveRequest::parse(&body).map_err(Problem::unacceptable)?;
    let current = registrar.store.get(&id).await.map_err(|error| unavailable(&error))?;
    let current = current.ok_or_else(|| no_such(&id))?;
    let snapshot = Snapshot::read(&registrar, &id, &current).await.map_err(|error| unavailable(&error))?;
    if snapshot.is_completed() {
        let detail = format!("{id} is completed: register it again to have events delivered again");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let events = events_of(&registrar, &id, &current, &letters).await?;
    let (now, name) = (Stamp::now(), Uuid::now_v7().to_string());
    let (mut was_there, mut has_room) = (false, true);
    change(&registrar, &id, |current| {
        let mut subscription = current?;
        let only = &events | &left_of(&subscription, &snapshot);
        (was_there, has_room) = (true, only.len() <= MAX_ONLY);
        if has_room {
            subscription.redelivery = Redelivery::of_only(name.clone(), now, only);
        }
        Some(subscription)
    })
    .await?;
    match (was_there, has_room) {
        (false, _) => Err(no_such(&id)),
        (true, false) => Err(no_room()),
        (true, true) => {
            tracing::info!(%id, events = events.len(), "dead_letters.redriven");
            let answer = read(&registrar, &id).await?.after_redriving(events.len());
            Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
        }
    }
}

/// Remove a dead letter
///
/// The event stays in the log. A redrive that has the event left to deliver delivers it all the same.
#[utoipa::path(
    delete,
    operation_id = "delete_dead_letter",
    path = "/v1/dead-letters/{sequence}",
    tag = "Dead letters",
    params(("sequence" = u64, Path, description = "The dead letter's own sequence, from 1", minimum = 1)),
    responses((status = 204, description = "The dead letter is removed"), NoSuchThing, ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn delete(
    Extract(registrar): Extract<Arc<Registrar>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    let sequence: u64 = query::whole_number(&text, 1..=MAX_SEQUENCE)
        .map_err(|detail| Problem::unacceptable_question(vec![FieldError::parameter("sequence", detail)]))?;
    let was_there = registrar.dead_letters.remove(sequence).await.map_err(|error| unavailable(&error))?;
    tracing::info!(sequence, was_there, "dead_letters.removed");
    if was_there {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no dead letter with sequence {sequence}")))
    }
}

/// 409: what an earlier redrive has left to do leaves no room for more.
fn no_room() -> Problem {
    let detail =
        format!("with what an earlier redrive has left to do, these are more than {MAX_ONLY} events: wait for it");
    Problem::new(StatusCode::CONFLICT, detail)
}

/// A page of the dead letters that a request wants.
struct Page {
    letters: Vec<(u64, DeadLetter)>,
    /// The sequences of those that cannot be read, whatever is wanted.
    unreadable: Vec<u64>,
    /// Where to go on, if there may be more.
    next: Option<u64>,
}

async fn page(registrar: &Registrar, query: &Query) -> Result<Page, Unavailable> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let (mut letters, mut bytes, mut from) = (Vec::new(), 0, query.after.saturating_add(1));
    let mut unreadable = Vec::new();
    for _ in 0..READS_PER_PAGE {
        let page = registrar.dead_letters.read(from, query.subscription.as_ref(), READ_AT_A_TIME).await?;
        unreadable.extend(page.unreadable);
        for (sequence, letter) in page.letters.into_iter().filter(|(_, letter)| query.wants(letter)) {
            if letters.len() == limit {
                unreadable.retain(|unreadable| *unreadable < sequence);
                return Ok(Page { letters, unreadable, next: Some(sequence - 1) });
            }
            bytes += letter.event.data.len();
            letters.push((sequence, letter));
        }
        match page.end {
            End::OfLog => return Ok(Page { letters, unreadable, next: None }),
            End::Before(next) => from = next,
        }
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(Page { letters, unreadable, next: Some(from - 1) })
}

/// Where the events of these subscriptions go, as far as they are still there.
async fn urls_of(
    registrar: &Registrar,
    letters: &[(u64, DeadLetter)],
) -> Result<HashMap<SubscriptionId, TargetUrl>, Unavailable> {
    let ids: BTreeSet<&SubscriptionId> = letters.iter().map(|(_, letter)| &letter.subscription).collect();
    let mut urls = HashMap::new();
    for id in ids {
        if let Some(subscription) = registrar.store.get(id).await? {
            urls.insert(id.clone(), subscription.url);
        }
    }
    Ok(urls)
}

/// The events that are to be delivered again: those of the dead letters that are meant which are still in the log, and
/// wanted.
async fn events_of(
    registrar: &Registrar,
    id: &SubscriptionId,
    subscription: &Subscription,
    letters: &Letters,
) -> Result<BTreeSet<u64>, Problem> {
    let first_in_log = registrar.log.bounds().await.map_err(|error| unavailable(&error))?.first_sequence;
    let is_wanted = |letter: &DeadLetter| letter.event.sequence >= first_in_log && wants(subscription, &letter.event);
    let (mut from, last) = match letters {
        Letters::Named(sequences) => (sequences.first().copied().unwrap_or(1), sequences.last().copied()),
        Letters::Of { .. } => (1, None),
    };
    let at = if last.is_some() { "/sequences" } else { "/from" };
    let fault = |detail: String| Problem::unacceptable(vec![FieldError::at(at, detail)]);
    let mut events = BTreeSet::new();
    while last.is_none_or(|last| from <= last) {
        let page = registrar.dead_letters.read(from, Some(id), READ_AT_A_TIME);
        let page = page.await.map_err(|error| unavailable(&error))?;
        let meant =
            page.letters.iter().filter(|(sequence, letter)| letters.hold(*sequence, letter) && is_wanted(letter));
        events.extend(meant.map(|(_, letter)| letter.event.sequence));
        if events.len() > MAX_ONLY {
            return Err(fault(format!("these are more than {MAX_ONLY} events: ask for fewer at a time")));
        }
        match page.end {
            End::OfLog => break,
            End::Before(next) => from = next,
        }
    }
    if events.is_empty() {
        return Err(fault(format!(
            "there are no such dead letters of {id} whose events are still in the log and wanted"
        )));
    }
    Ok(events)
}

fn wants(subscription: &Subscription, event: &Event) -> bool {
    let mut entries = subscription.entries.iter();
    entries.any(|(pattern, entry)| pattern.matches(&event.event_type) && entry.lets_through(event, Start::Counts))
}

/// The events of an earlier redrive that have not been delivered again yet.
fn left_of(subscription: &Subscription, snapshot: &Snapshot) -> BTreeSet<u64> {
    let earlier = subscription.redelivery.as_ref().and_then(|request| Some((request, request.only.as_ref()?)));
    let Some((request, only)) = earlier else { return BTreeSet::new() };
    only.range(snapshot.next_of(request)..).copied().collect()
}

impl Query {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        query::read(text, |name, value| {
            let moment = || Stamp::parse(&value).map_err(|error| error.to_string());
            match name {
                "subscription" => {
                    parsed.subscription = Some(SubscriptionId::parse(&value).map_err(|error| error.to_string())?);
                }
                "type" => parsed.pattern = Some(TypePattern::parse(&value).map_err(|error| error.to_string())?),
                "from" => parsed.from = Some(moment()?),
                "to" => parsed.to = Some(moment()?),
                "after" => parsed.after = query::whole_number(&value, 0..=MAX_SEQUENCE)?,
                "limit" => parsed.limit = Some(query::whole_number(&value, 1..=MAX_LIMIT)?),
                _ => query::no_such_parameter()?,
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(&letter.event.event_type))
            && self.from.is_none_or(|from| letter.at >= from)
            && self.to.is_none_or(|to| letter.at <= to)
    }
}
