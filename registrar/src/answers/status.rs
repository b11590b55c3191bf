//! How far a subscription has come, as it is shown.

use std::collections::BTreeMap;

use domain::lane::{self, Phase, Why, Word};
use domain::subscription::Redelivery;
use domain::{Entry, Stamp, TypePattern};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::HoleView;
use web::openapi::schema_of;

/// How far a subscription has come
#[derive(Serialize, ToSchema)]
pub struct Status {
    /// Whether it delivers, and if not, why.
    #[schema(schema_with = state)]
    pub state: Word,
    /// Whether what it delivers is past or present; `None`: it has not begun.
    #[schema(required = true, schema_with = phase)]
    pub phase: Option<Phase>,
    /// The sequence up to which the target has acknowledged everything that it is to get; 0: nothing yet
    pub position: u64,
    /// How many events are to be delivered and are not acknowledged yet; null: it is not known
    pub lag: Option<u64>,
    /// The sequence of the event that was delivered last; 0: none
    pub last_delivered: u64,
    /// By type or pattern: how many events were `delivered`, `skipped` for want of `required_data`, and `dead_lettered`
    /// since it was registered, whether it is `completed` and gets no more, and `from_sequence`, with which sequence it
    /// begins: a replica whose own position is before that lacks what lies between
    #[schema(value_type = BTreeMap<String, Object>)]
    pub events: BTreeMap<TypePattern, Progress>,
    /// The last attempt to deliver; null: there was none
    pub last_attempt: Option<Attempt>,
    /// What came of the last test of the target; absent where there was none
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_test: Option<TestOutcome>,
    /// Why deliveries have ended; absent while they have not
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// What was removed from the log before it could be delivered: in state `gap` it waits there; in another state it goes on
    /// without what the log lacked when the transaction that it asks for was registered. Absent where there is nothing
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Where the log became another one, if it waits because of that; absent where it does not
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// The hole in the log that it has come to, or comes to next: in state `gap` with the same `from_sequence` it waits there.
    /// Absent where there is none
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hole: Option<HoleView>,
    /// How far the last request to deliver events again has come; absent where there was none
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<RedeliveryProgress>,
}

fn state() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string", "enum": ["active", "paused", "held", "gone", "gap", "forked", "completed"],
        "description": "Whether it delivers. `active`: it does. `paused`: it waits until it is resumed. `held`: the target does \
            not take an event, which is tried again. `gone`: the target answered 410; it waits until it is resumed or registered \
            again. `gap`: events were removed from the log before they were delivered, or the log has lost them; it waits until it is \
            resumed. \
            `forked`: the log is another one behind a place that the subscription had passed; it waits until it is resumed. \
            `completed`: nothing more is to come",
    }))
}

fn phase() -> RefOr<Schema> {
    schema_of(json!({
        "type": ["string", "null"], "enum": ["replaying", "live", null],
        "description": "`replaying`: it delivers events from before its registration, or again. `live`: it has caught up. \
            Null: it has not begun",
    }))
}

/// How far one event of a subscription has come.
#[derive(Serialize)]
pub struct Progress {
    delivered: u64,
    skipped: u64,
    dead_lettered: u64,
    completed: bool,
    from_sequence: u64,
}

impl Progress {
    /// How far an entry has come, where its lane knows it; one that is new to the lane has had nothing.
    pub fn of(entry: &Entry, progress: Option<&lane::Progress>) -> Self {
        let known = progress.filter(|progress| progress.line == entry.line());
        let (delivered, skipped, dead_lettered) =
            known.map_or((0, 0, 0), |known| (known.delivered, known.skipped, known.dead_lettered));
        let completed = known.is_some_and(|known| known.completed);
        Self { delivered, skipped, dead_lettered, completed, from_sequence: entry.begins_with() }
    }
}

/// One attempt to deliver an event, or a batch of them
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"sequence": 17, "at": "2026-01-31T09:30:00.000000Z", "attempt": 2, "code": 503, "duration_ms": 3, "error": "answered 503", "answer": "overloaded"}))]
pub struct Attempt {
    /// The event's place in the log; of a batch, the first event's; 0 for a test, which is no event
    sequence: u64,
    /// When the attempt was made: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    at: String,
    /// Which attempt at this event it was, counted from 1
    attempt: u32,
    /// The HTTP status of the target's answer; null: there was no answer
    code: Option<u16>,
    /// How long the attempt took, in milliseconds
    duration_ms: u64,
    /// Of a batch, the last event's place in the log; absent for a single event
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    to_sequence: Option<u64>,
    /// Why the attempt failed; absent where the target took the event
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The beginning of the body that the target answered a failed attempt with; absent where there was none
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// When the event is tried again: RFC 3339 in UTC; null: when the subscription is resumed or registered again; absent where nothing waits
    #[schema(format = DateTime, value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<Option<String>>,
}

impl Attempt {
    /// An attempt that failed, with when it is tried again: `None` where that is when the subscription is resumed.
    pub fn with_next(self, next_attempt: Option<Stamp>) -> Self {
        Self { next_attempt: Some(next_attempt.map(Stamp::to_rfc3339)), ..self }
    }
}

impl From<&lane::Attempt> for Attempt {
    fn from(attempt: &lane::Attempt) -> Self {
        Self {
            sequence: attempt.sequence,
            at: attempt.at.to_rfc3339(),
            attempt: attempt.attempt,
            code: attempt.code,
            duration_ms: attempt.duration_ms,
            to_sequence: attempt.to_sequence,
            error: attempt.error.clone(),
            answer: attempt.answer.clone(),
            next_attempt: None,
        }
    }
}

/// Attempts, the latest first
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"attempts": []}))]
pub struct Attempts {
    /// The attempts, at most `limit` of them
    pub attempts: Vec<Attempt>,
}

/// What came of a test of the target
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "0192f3c4-6d1b-7a55-9d57-3d5e6a4d1c11", "outcome": {"sequence": 0, "at": "2026-01-31T09:30:00.000000Z", "attempt": 1, "code": 200, "duration_ms": 3}}))]
pub struct TestOutcome {
    /// The test's id: a UUID (version 7)
    id: String,
    /// The attempt, whose `sequence` is 0; null: nothing has come of the test yet, or it was too old to be made
    outcome: Option<Attempt>,
}

impl TestOutcome {
    /// What came of the test of this id, if anything has.
    pub fn new(id: String, outcome: Option<&lane::TestOutcome>) -> Self {
        let attempt = outcome.and_then(|outcome| outcome.attempt.as_ref());
        Self { id, outcome: attempt.map(Attempt::from) }
    }
}

/// What was removed from the log before it could be delivered
#[derive(Serialize, ToSchema)]
pub struct Gap {
    /// The first sequence that is missing
    from_sequence: u64,
    /// The last sequence that is missing
    to_sequence: u64,
    /// When it was noticed: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    noticed: String,
}

impl From<lane::Gap> for Gap {
    fn from(gap: lane::Gap) -> Self {
        Self { from_sequence: gap.from_sequence, to_sequence: gap.to_sequence, noticed: gap.noticed.to_rfc3339() }
    }
}

/// Where the log became another one
#[derive(Serialize, ToSchema)]
pub struct Fork {
    /// The last sequence that both logs share: deliveries go on behind it; 0: they share nothing
    shared_to: u64,
    /// The last sequence that it had had of the log of before
    was_at: u64,
    /// The name of the present log
    epoch: String,
    /// When it was noticed: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    noticed: String,
}

impl From<&lane::Fork> for Fork {
    fn from(fork: &lane::Fork) -> Self {
        let lane::Fork { shared_to, was_at, epoch, noticed } = fork;
        Self { shared_to: *shared_to, was_at: *was_at, epoch: epoch.to_string(), noticed: noticed.to_rfc3339() }
    }
}

/// Why nothing is delivered any more, until the subscription is resumed or registered again
#[derive(Serialize, ToSchema)]
pub struct Stopped {
    /// `gone`: the target answered 410. `exhausted`: an event was tried `max_attempts` times, and `on_exhausted` is `disable`
    #[schema(value_type = String)]
    why: Why,
    /// The sequence of the event that was being delivered
    sequence: u64,
    /// When it was: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    at: String,
}

impl From<&lane::Stop> for Stopped {
    fn from(stop: &lane::Stop) -> Self {
        Self { why: stop.why, sequence: stop.sequence, at: stop.at.to_rfc3339() }
    }
}

/// How far a request to deliver events again has come, counted in sequences of the log
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub struct RedeliveryProgress {
    /// The id of the request: what it delivers has the id as `ce-redelivery`
    id: String,
    /// The first sequence of the part that is delivered again
    from_sequence: u64,
    /// The last sequence of it
    to_sequence: u64,
    /// How many sequences of the part are behind it, whether their events were wanted or not
    done: u64,
    /// How many sequences the part has
    total: u64,
    /// Whether all of it is done
    is_finished: bool,
    /// How many sequences a second were done since it was asked for, rounded; absent when it is finished
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<f64>,
}

impl RedeliveryProgress {
    /// How far a request has come at a moment, whose next sequence is `next`.
    pub fn of(request: &Redelivery, next: u64, now: Stamp) -> Self {
        let total = (request.to_sequence + 1).saturating_sub(request.from_sequence);
        let done = next.saturating_sub(request.from_sequence).min(total);
        let seconds = (now.as_micros() - request.asked_at.as_micros()).max(1) as f64 / 1e6;
        Self {
            id: request.id.clone(),
            from_sequence: request.from_sequence,
            to_sequence: request.to_sequence,
            done,
            total,
            is_finished: done == total,
            rate_per_second: (done < total).then(|| (done as f64 / seconds).round()),
        }
    }
}
