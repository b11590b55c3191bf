//! What the receiver answers: each type is serialised as it is, and describes itself for OpenAPI.

use bytes::Bytes;
use domain::Stamp;
use serde::Serialize;
use utoipa::ToSchema;
use web::{EventView, HoleView};

/// The answer to an event that is stored
#[derive(ToSchema)]
#[schema(example = json!({"event_received": {"data": {"name": "tismoj", "transaction_id": "20261121201614.555388"}, "event": "request_from_human:20261121201614.555388"}}))]
pub struct Received {
    /// The event that was stored
    pub event_received: ReceivedEvent,
}

/// An event as stored
#[derive(ToSchema)]
pub struct ReceivedEvent {
    /// The data as stored: what was sent without white space between its tokens, and with a `transaction_id`
    #[schema(value_type = serde_json::Value)]
    pub data: Bytes,
    /// The event's type, a colon, and the stamp that mer gave it: `YYYYmmddHHMMSS.ffffff` in UTC
    pub event: String,
}

impl Received {
    /// As compact JSON. Written by hand: the data is JSON already, and serialising it would read all of it once more.
    pub fn to_json(&self) -> Vec<u8> {
        let ReceivedEvent { data, event } = &self.event_received;
        // Writing a string into memory does not fail.
        let event = serde_json::to_vec(event).unwrap_or_default();
        [b"{\"event_received\":{\"data\":".as_slice(), data, b",\"event\":", &event, b"}}"].concat()
    }
}

/// The places of the events that were stored, in the order in which they were sent
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"events": [{"id": "0192f3c4-6d1b-7a55-9d57-3d5e6a4d1c11", "type": "order.created", "sequence": 17, "time": "2026-01-31T09:30:00.000000Z"}]}))]
pub struct Receipts {
    /// One for each event that was sent; of one that was there already, its first place
    pub events: Vec<Receipt>,
}

/// The place of an event
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// The event's id: the CloudEvent's own, or the UUID (version 7) that mer gave it
    id: String,
    /// The event's type
    #[serde(rename = "type")]
    event_type: String,
    /// The event's place in the log: a whole number from 1 that grows with each event
    #[schema(minimum = 1)]
    sequence: u64,
    /// When the event happened, or was received: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    time: String,
    /// True where the event was there already, under the same key, or source and id: nothing was stored. Absent otherwise
    #[schema(required = false)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl Receipt {
    /// The place of an event of this id, type and time.
    pub fn new(id: String, event_type: String, sequence: u64, time: Stamp) -> Self {
        Self { id, event_type, sequence, time: time.to_rfc3339(), duplicate: false }
    }

    /// The same of one that was there already.
    pub fn of_duplicate(self) -> Self {
        Self { duplicate: true, ..self }
    }

    /// Whether it was there already.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// Events in the log's order
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"events": [{"sequence": 17, "id": "4711", "type": "order.created", "source": "/shop", "time": "2026-01-31T09:30:00.000000Z", "transaction_id": "20260131093000.000000", "data": {"n": 1}}], "next": 17}))]
pub struct EventPage<'a> {
    /// The events, at most `limit` of them; fewer do not mean that there is nothing more: see `next`
    pub events: Vec<EventView<'a>>,
    /// The value of `after_sequence` that reads the next page; null: there is nothing more
    pub next: Option<u64>,
}

/// Which log it is, and how much of it there is
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"epoch": "5f0c11aa", "epochs": [{"epoch": "5f0c11aa", "from_sequence": 1, "at": "2026-01-31T09:30:00.000000Z", "reason": "the first one"}], "first_sequence": 1, "last_sequence": 17, "first_time": "2026-01-31T09:30:00.000000Z", "last_time": "2026-01-31T09:31:00.000000Z", "events": 17, "bytes": 5423, "limits": {"max_age_secs": null, "max_bytes": null, "max_events": null, "discard": "old"}, "missing": 0, "holes": []}))]
pub struct LogView {
    /// The log's name: 8 hexadecimal digits, as `ce-logepoch` has it; null: it has none, as the bucket `LOG` is not there
    #[schema(required = true)]
    pub epoch: Option<String>,
    /// All names that it has had, the present one last
    pub epochs: Vec<EpochOfLog>,
    /// The oldest event's sequence; one more than `last_sequence` where there is none
    pub first_sequence: u64,
    /// The newest event's sequence; 0: there has never been one
    pub last_sequence: u64,
    /// When the oldest event was stored: RFC 3339 in UTC, with microseconds; null: there is none
    #[schema(required = true, format = DateTime)]
    pub first_time: Option<String>,
    /// When the newest event was stored: RFC 3339 in UTC, with microseconds; null: there is none
    #[schema(required = true, format = DateTime)]
    pub last_time: Option<String>,
    /// How many events there are
    pub events: u64,
    /// How many bytes they take
    pub bytes: u64,
    /// What the log may hold
    pub limits: LogLimits,
    /// How many sequences between `first_sequence` and `last_sequence` hold no event, as nats-server counts them
    pub missing: u64,
    /// Where they are, as far as mer has recorded it: at most 100
    pub holes: Vec<HoleView>,
}

/// What the log may hold
#[derive(Serialize, ToSchema)]
pub struct LogLimits {
    /// The greatest age of an event, in seconds; null: any
    #[schema(required = true)]
    pub max_age_secs: Option<u64>,
    /// How many bytes the events may take; null: any number
    #[schema(required = true)]
    pub max_bytes: Option<u64>,
    /// How many events there may be; null: any number
    #[schema(required = true)]
    pub max_events: Option<u64>,
    /// What happens at `max_bytes` or `max_events`. `old`: the oldest events are removed. `new`: what is new is refused
    pub discard: &'static str,
}

/// One name that the log has had
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"epoch": "5f0c11aa", "from_sequence": 1, "at": "2026-01-31T09:30:00.000000Z", "reason": "the first one"}))]
pub struct EpochOfLog {
    /// The name: 8 hexadecimal digits
    pub epoch: String,
    /// The first sequence that belongs to this log and not to the one before
    pub from_sequence: u64,
    /// When it was declared: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    pub at: String,
    /// Why
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_event_is_answered_with_its_data_byte_for_byte() {
        let data = Bytes::from_static(br#"{"n":1.50,"transaction_id":"T"}"#);
        let received = Received { event_received: ReceivedEvent { data, event: "a\"b:T".to_owned() } };
        let json = String::from_utf8(received.to_json()).unwrap();
        assert_eq!(json, r#"{"event_received":{"data":{"n":1.50,"transaction_id":"T"},"event":"a\"b:T"}}"#);
        assert!(serde_json::from_str::<Value>(&json).is_ok());
    }

    #[test]
    fn a_receipt_says_id_type_sequence_and_time() {
        let receipt = Receipt::new("4711".to_owned(), "a.b".to_owned(), 17, Stamp::from_micros(5));
        assert_eq!(
            serde_json::to_string(&Receipts { events: vec![receipt] }).unwrap(),
            r#"{"events":[{"id":"4711","type":"a.b","sequence":17,"time":"1970-01-01T00:00:00.000005Z"}]}"#
        );
    }

    #[test]
    fn a_receipt_of_a_duplicate_says_so() {
        let receipt = Receipt::new("4711".to_owned(), "a.b".to_owned(), 17, Stamp::from_micros(5)).of_duplicate();
        assert!(serde_json::to_string(&receipt).unwrap().ends_with(r#","duplicate":true}"#));
    }

    #[test]
    fn a_page_ends_with_where_to_go_on_or_null() {
        for (next, text) in [(Some(17), r#"{"events":[],"next":17}"#), (None, r#"{"events":[],"next":null}"#)] {
            assert_eq!(serde_json::to_string(&EventPage { events: Vec::new(), next }).unwrap(), text);
        }
    }
}
