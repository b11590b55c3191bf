//! How subscriptions stand, as it is shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::openapi::schema_of;

use super::Secret;

/// Subscriptions, by id
#[derive(ToSchema)]
#[schema(example = json!({"subscriptions": [], "next": null}))]
pub struct SubscriptionPage {
    subscriptions: Vec<Subscription>,
    /// Where to go on, as `after`; null: there is nothing more
    next: Option<String>,
}

/// All that a URL is registered for, and how it stands
#[derive(ToSchema)]
#[schema(example = json!({
    "id": "127-0-0-1-8888-hello_0123456789abcdef", "url": "http://127.0.0.1:8888/hello/", "group": null,
    "events": [{"type": "request_from_human", "priority": 100.0}], "delivery": {"mode": "ordered"}, "secrets": [],
    "status": {"state": "active", "phase": "live", "position": 17, "lag": 0, "last_delivered": 17,
        "events": {"request_from_human": {"delivered": 3, "skipped": 0, "dead_lettered": 0, "completed": false}},
        "last_attempt": {"sequence": 17, "at": "2026-01-31T09:30:00.000000Z", "attempt": 1, "code": 200, "duration_ms": 3}},
}))]
pub struct Subscription {
    id: String,
    url: String,
    group: Option<String>,
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    #[schema(value_type = Object)]
    delivery: Value,
    /// The current ones
    secrets: Vec<Secret>,
    status: Status,
}

/// How a subscription stands
#[derive(ToSchema)]
pub struct Status {
    #[schema(schema_with = state)]
    state: String,
    #[schema(schema_with = phase)]
    phase: String,
    /// The last sequence up to which all has been acknowledged
    position: u64,
    /// Events that are not delivered yet; null where it is not known
    lag: Option<u64>,
    /// The sequence delivered last; 0 for none
    last_delivered: u64,
    /// By type or pattern: how many were delivered, how many skipped, how many became dead letters, whether it is
    /// completed
    #[schema(value_type = BTreeMap<String, Object>)]
    events: BTreeMap<String, Value>,
    last_attempt: Option<Attempt>,
    #[schema(nullable = false)]
    last_test: Option<TestOutcome>,
    #[schema(nullable = false)]
    gap: Option<Gap>,
    #[schema(nullable = false)]
    stopped: Option<Stopped>,
    #[schema(nullable = false)]
    replay: Option<Replay>,
}

fn state() -> RefOr<Schema> {
    schema_of(json!({"type": "string", "enum": ["active", "paused", "held", "gone", "gap", "completed"]}))
}

fn phase() -> RefOr<Schema> {
    schema_of(json!({"type": ["string", "null"], "enum": ["replaying", "live", null]}))
}

/// One attempt to deliver
#[derive(ToSchema)]
#[schema(example = json!({"sequence": 17, "at": "2026-01-31T09:30:00.000000Z", "attempt": 2, "code": 503, "duration_ms": 3, "error": "answered 503", "answer": "overloaded"}))]
pub struct Attempt {
    /// The event; the first one, where several went in one request
    sequence: u64,
    /// The last one, where several went in one request
    #[schema(nullable = false)]
    to_sequence: Option<u64>,
    #[schema(format = DateTime)]
    at: String,
    /// Which attempt at this event it was
    attempt: u32,
    /// The status that the target answered with, if it did
    code: Option<u16>,
    duration_ms: u64,
    #[schema(nullable = false)]
    error: Option<String>,
    /// How the target's answer began
    #[schema(nullable = false)]
    answer: Option<String>,
    /// When it is tried again; null: when the subscription is resumed
    #[schema(format = DateTime)]
    next_attempt: Option<String>,
}

/// Attempts, the latest first
#[derive(ToSchema)]
#[schema(example = json!({"attempts": []}))]
pub struct Attempts {
    attempts: Vec<Attempt>,
}

/// What came of a test; null: nothing yet
#[derive(ToSchema)]
#[schema(example = json!({"id": "0192f3c4-6d1b-7a55-9d57-3d5e6a4d1c11", "outcome": {"sequence": 0, "at": "2026-01-31T09:30:00.000000Z", "attempt": 1, "code": 200, "duration_ms": 3}}))]
pub struct TestOutcome {
    id: String,
    outcome: Option<Attempt>,
}

/// What was removed from the log before it could be delivered
#[derive(ToSchema)]
pub struct Gap {
    from_sequence: u64,
    to_sequence: u64,
    #[schema(format = DateTime)]
    noticed: String,
}

/// Why nothing is delivered any more, until the subscription is resumed or registered again
#[derive(ToSchema)]
pub struct Stopped {
    /// `gone`: the target answered 410; `exhausted`: too many attempts, and `on_exhausted` is `disable`
    why: String,
    sequence: u64,
    #[schema(format = DateTime)]
    at: String,
}

/// How far a replay has come, in sequences of the log
#[derive(ToSchema)]
pub struct Replay {
    from_sequence: u64,
    to_sequence: u64,
    done: u64,
    total: u64,
    is_finished: bool,
    #[schema(nullable = false)]
    rate_per_second: Option<f64>,
}
