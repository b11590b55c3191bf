//! An event as it is read by a user: JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::event::{self, Event, header};
use domain::{event_data, header_value};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// An event in the log. Data that is not said to be JSON is a string, and `data_base64` where it is not text either
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
#[schema(example = json!({"sequence": 17, "id": "4711", "type": "order.created", "source": "/shop", "time": "2026-01-31T09:30:00.000000Z", "transaction_id": "20260131093000.000000", "data": {"n": 1}}))]
pub struct EventView<'a> {
    /// The event's place in the log: a whole number from 1 that grows with each event
    #[schema(minimum = 1)]
    sequence: u64,
    /// The event's id, unique for its source
    id: String,
    /// The event's type
    #[serde(rename = "type")]
    event_type: &'a str,
    /// Where the event came from: a URI reference; `nats` for what a NATS client published without saying so
    source: String,
    /// When the event happened: RFC 3339 in UTC, with microseconds
    #[schema(format = DateTime)]
    time: String,
    /// The transaction that the event belongs to
    transaction_id: &'a str,
    /// The data: any JSON, byte for byte as it was stored (line breaks between tokens are left out); data of another content
    /// type, or of none, is a string. Absent where there is `data_base64`, and where there is no data
    #[schema(required = false, value_type = serde_json::Value)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// The data in base64, where it is not UTF-8
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> EventView<'a> {
    /// The view of an event.
    pub fn of(event: &'a Event) -> Self {
        let (data, data_base64) = data_of(event);
        let attribute = |name| header_value::decode(event.header(name).unwrap_or_default()).into_owned();
        Self {
            sequence: event.sequence,
            id: attribute(header::ID),
            event_type: event.event_type.as_str(),
            source: attribute(header::SOURCE),
            time: event.time.to_rfc3339(),
            transaction_id: &event.transaction_id,
            data,
            data_base64,
        }
    }

    /// As compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// `data`, or else `data_base64`; neither where there is none.
fn data_of(event: &Event) -> (Option<Box<RawValue>>, Option<String>) {
    if event.data.is_empty() {
        return (None, None);
    }
    let Ok(text) = std::str::from_utf8(&event.data) else {
        return (None, Some(STANDARD.encode(&event.data)));
    };
    let is_json = event::is_json(event.header(header::CONTENT_TYPE).unwrap_or_default());
    match serde_json::from_str::<Box<RawValue>>(text) {
        Ok(data) if is_json => (Some(in_one_line(data)), None),
        _ => (serde_json::value::to_raw_value(text).ok(), None),
    }
}

/// The same JSON without line breaks: an event is shown in one line.
fn in_one_line(data: Box<RawValue>) -> Box<RawValue> {
    if !data.get().contains(['\n', '\r']) {
        return data;
    }
    let compact = String::from_utf8(event_data::compact(data.get())).ok();
    compact.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use domain::Stamp;

    #[test]
    fn data_is_shown_as_what_it_is() {
        let shown = |content_type: &'static str, data: &'static [u8]| {
            let headers = [("content-type", content_type), ("ce-id", "a%20b"), ("ce-transactionid", "T")];
            let at = Stamp::from_micros(0);
            let event = Event::from_message("EVENTS", "events.t", 3, at, headers, Bytes::from(data)).unwrap();
            String::from_utf8(EventView::of(&event).to_json()).unwrap()
        };
        let start = r#"{"sequence":3,"id":"a b","type":"t","source":"nats","time":"1970-01-01T00:00:00.000000Z","transaction_id":"T","#;
        assert_eq!(shown("application/json", br#"{"n": 1.50}"#), format!("{start}\"data\":{{\"n\": 1.50}}}}"));
        assert_eq!(shown("application/json", b"{\n \"n\": 1\n}"), format!("{start}\"data\":{{\"n\":1}}}}"));
        assert_eq!(shown("text/plain", b"1"), format!("{start}\"data\":\"1\"}}"));
        assert_eq!(shown("application/json", b"no json"), format!("{start}\"data\":\"no json\"}}"));
        assert_eq!(shown("image/png", b"\xff"), format!("{start}\"data_base64\":\"/w==\"}}"));
        assert_eq!(shown("application/json", b""), format!("{}}}", start.trim_end_matches(',')));
    }
}
