//! An event as it is read by a user: JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{self, Event, header};
use crate::{event_data, header_value};

/// `{"sequence","id","type","source","time","transaction_id","data"}`. Data that is not JSON is a string, and
/// `data_base64` where it is not text either.
#[derive(Debug, Serialize)]
pub struct EventView<'a> {
    sequence: u64,
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    source: String,
    time: String,
    transaction_id: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json { data: Box<RawValue> },
    Text { data: &'a str },
    Bytes { data_base64: String },
}

impl<'a> EventView<'a> {
    /// The view of an event.
    pub fn of(event: &'a Event) -> Self {
        let attribute = |name| header_value::decode(event.header(name).unwrap_or_default()).into_owned();
        Self {
            sequence: event.sequence,
            id: attribute(header::ID),
            event_type: event.event_type.as_str(),
            source: attribute(header::SOURCE),
            time: event.time.to_rfc3339(),
            transaction_id: &event.transaction_id,
            data: data_of(event),
        }
    }

    /// As compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn data_of(event: &Event) -> Data<'_> {
    let Ok(text) = std::str::from_utf8(&event.data) else {
        return Data::Bytes { data_base64: STANDARD.encode(&event.data) };
    };
    let is_json = event::is_json(event.header(header::CONTENT_TYPE).unwrap_or_default());
    match serde_json::from_str::<Box<RawValue>>(text) {
        Ok(data) if is_json => Data::Json { data: in_one_line(data) },
        _ => Data::Text { data: text },
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
    use crate::Stamp;
    use bytes::Bytes;

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
    }
}
