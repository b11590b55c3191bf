//! `GET /v1/subscriptions/{id}/attempts`: what came of the last attempts to deliver.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Json;
use domain::event::MAX_SEQUENCE;
use domain::lane::Attempt;
use web::openapi::{AccessProblems, NatsProblems, NoSuchThing, ValueProblems};
use web::{Problem, query};

use crate::answers::{self, Attempts};
use crate::by_id::{ById, no_such};
use crate::{Registrar, unavailable};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// Which attempts a request wants.
struct Query {
    /// Those that failed, or those that did not.
    has_failed: Option<bool>,
    from_sequence: u64,
    to_sequence: u64,
    limit: usize,
}

/// List the last attempts to deliver, the latest first
///
/// All failures are kept, and of each second the latest successes. They are kept for 7 days, of a subscription at most the last
/// 500 seconds in which there were any.
#[utoipa::path(
    get,
    operation_id = "list_attempts",
    path = "/v1/subscriptions/{id}/attempts",
    tag = "Subscriptions",
    params(
        ById,
        ("outcome" = Option<String>, Query, description = "Only attempts that failed (`failed`), or that the target took (`delivered`); left out: all", pattern = "^(failed|delivered)$"),
        ("from_sequence" = Option<u64>, Query, description = "Only attempts at the event with this sequence and at later ones"),
        ("to_sequence" = Option<u64>, Query, description = "Only attempts at the event with this sequence and at earlier ones"),
        ("limit" = Option<u64>, Query, description = "How many attempts are answered at most; 100 where it is left out", minimum = 1, maximum = 1000),
    ),
    responses((status = 200, description = "The attempts", body = Attempts), NoSuchThing, ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn list(
    State(registrar): State<Arc<Registrar>>,
    ById(id): ById,
    RawQuery(text): RawQuery,
) -> Result<Json<Attempts>, Problem> {
    let query = Query::parse(text.as_deref())?;
    if registrar.store.get(&id).await.map_err(|error| unavailable(&error))?.is_none() {
        return Err(no_such(&id));
    }
    let attempts = registrar.attempts.read(&id).await.map_err(|error| unavailable(&error))?;
    let wanted = attempts.iter().rev().filter(|attempt| query.wants(attempt)).take(query.limit);
    Ok(Json(Attempts { attempts: wanted.map(answers::Attempt::from).collect() }))
}

impl Query {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self { has_failed: None, from_sequence: 0, to_sequence: u64::MAX, limit: DEFAULT_LIMIT };
        query::read(text, |name, value| {
            match name {
                "outcome" => parsed.has_failed = Some(outcome(&value)?),
                "from_sequence" => parsed.from_sequence = query::whole_number(&value, 0..=MAX_SEQUENCE)?,
                "to_sequence" => parsed.to_sequence = query::whole_number(&value, 0..=MAX_SEQUENCE)?,
                "limit" => parsed.limit = query::whole_number(&value, 1..=MAX_LIMIT)?,
                _ => query::no_such_parameter()?,
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    fn wants(&self, attempt: &Attempt) -> bool {
        self.from_sequence <= attempt.to_sequence.unwrap_or(attempt.sequence)
            && attempt.sequence <= self.to_sequence
            && self.has_failed.is_none_or(|has_failed| attempt.error.is_some() == has_failed)
    }
}

fn outcome(text: &str) -> Result<bool, String> {
    match text {
        "failed" => Ok(true),
        "delivered" => Ok(false),
        _ => Err("it must be `failed` or `delivered`".to_owned()),
    }
}
