//! Dead letters as they are shown.

use domain::TargetUrl;
use serde::Serialize;
use utoipa::ToSchema;
use web::EventView;

/// An event that a subscription has given up on
#[derive(Serialize, ToSchema)]
pub struct DeadLetter<'a> {
    /// The dead letter's own place in the stream `DEAD_LETTERS`, from 1; not the event's place in the log
    #[schema(minimum = 1)]
    sequence: u64,
    /// The id of the subscription that gave the event up
    subscription: &'a str,
    /// The event, as `GET /v1/events` shows it
    #[schema(value_type = Object)]
    event: EventView<'a>,
    /// How many times the event was tried
    attempts: u32,
    /// The HTTP status of the target's answer to the last attempt; null: there was no answer
    code: Option<u16>,
    /// Why the last attempt failed; at most 200 characters
    error: &'a str,
    /// When the event was given up: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    at: String,
    /// The subscription's URL; absent where the subscription is no longer there
    #[schema(nullable = false, value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a TargetUrl>,
}

impl<'a> DeadLetter<'a> {
    /// A dead letter with its own sequence, of a subscription that now delivers to `url`, if it is still there.
    pub fn of(sequence: u64, letter: &'a domain::DeadLetter, url: Option<&'a TargetUrl>) -> Self {
        Self {
            sequence,
            subscription: letter.subscription.as_str(),
            event: EventView::of(&letter.event),
            attempts: letter.attempts,
            code: letter.code,
            error: &letter.error,
            at: letter.at.to_rfc3339(),
            url,
        }
    }
}

/// Dead letters, the oldest first
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"dead_letters": [{
    "sequence": 1, "subscription": "127-0-0-1-8888-hello_0123456789abcdef", "url": "http://127.0.0.1:8888/hello/",
    "event": {"sequence": 17, "id": "4711", "type": "order.created", "source": "/shop", "time": "2026-01-31T09:30:00.000000Z", "transaction_id": "20260131093000.000000", "data": {"n": 1}},
    "attempts": 3, "code": 500, "error": "answered 500", "at": "2026-01-31T09:30:01.000000Z",
}], "next": null}))]
pub struct DeadLetterPage<'a> {
    /// The dead letters, at most `limit` of them; fewer do not mean that there is nothing more: see `next`
    pub dead_letters: Vec<DeadLetter<'a>>,
    /// The sequences of messages in the page's range that cannot be read, whatever the filters are; absent where there are none.
    /// `DELETE /v1/dead-letters/{sequence}` removes one
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100_000)]
    pub unreadable: Vec<u64>,
    /// The value of `after` that reads the next page; null: there is nothing more
    pub next: Option<u64>,
}
