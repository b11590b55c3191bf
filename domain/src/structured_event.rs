//! An event as a delivery of many has it: in the JSON event format of CloudEvents,
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use crate::digits;
use crate::event::{self, Event, header};
use crate::header_value;
use crate::lane::Due;

/// The media type of an array of them.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// What names and punctuation of one event take, beside its values, in bytes.
const FRAME: usize = 256;

/// Where an event stands that is delivered.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The sequence delivered before it, 0 for none.
    pub previous: u64,
    /// The name of the log, where it has one.
    pub log_epoch: Option<&'a str>,
}

/// Writes one event: the attributes that a delivery of its own would carry as headers, and its data.
pub fn write(out: &mut Vec<u8>, event: &Event, due: &Due, place: Place<'_>) {
    out.reserve(due.data.len() + FRAME);
    out.push(b'{');
    for (name, value) in &event.headers {
        let name = match name.as_str() {
            header::CONTENT_TYPE => "datacontenttype",
            name @ (header::TRACEPARENT | header::TRACESTATE) => name,
            name => match name.strip_prefix("ce-") {
                // What a plain client made up and CloudEvents has no name for is left out.
                Some(name) if name.bytes().all(|b| b.is_ascii_alphanumeric()) => name,
                _ => continue,
            },
        };
        write_name(out, name);
        write_text(out, &header_value::decode(value.to_str().unwrap_or_default()));
        out.push(b',');
    }
    write_number(out, "sequence", event.sequence);
    out.push(b',');
    write_number(out, "previoussequence", place.previous);
    if let Some(epoch) = place.log_epoch {
        out.push(b',');
        write_name(out, "logepoch");
        write_text(out, epoch);
    }
    out.push(b',');
    write_name(out, "replay");
    out.extend_from_slice(if due.is_replay { b"true" } else { b"false" });
    if let Some(redelivery) = &due.redelivery {
        out.push(b',');
        write_name(out, "redelivery");
        write_text(out, redelivery);
    }
    if let Some(listener_data) = &due.listener_data {
        out.push(b',');
        write_name(out, "listenerdata");
        write_text(out, &listener_data.to_string());
    }
    write_data(out, event.header(header::CONTENT_TYPE), &due.data);
    out.push(b'}');
}

/// Data of no media type is written in base64: as `data` it would be taken for JSON.
fn write_data(out: &mut Vec<u8>, content_type: Option<&str>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.push(b',');
    let is_json = content_type.is_some_and(event::is_json);
    match std::str::from_utf8(data) {
        Ok(text) if is_json && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            write_name(out, "data");
            out.extend_from_slice(data);
        }
        Ok(text) if content_type.is_some() && !is_json => {
            write_name(out, "data");
            write_text(out, text);
        }
        _ => {
            write_name(out, "data_base64");
            write_text(out, &STANDARD.encode(data));
        }
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_number(out: &mut Vec<u8>, name: &str, sequence: u64) {
    write_name(out, name);
    out.push(b'"');
    out.extend_from_slice(&digits::of_sequence(sequence));
    out.push(b'"');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string into memory does not fail.
        let _ = serde_json::to_writer(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud_event::CloudEvent;
    use crate::stamp::Stamp;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    fn written(headers: &[(&str, &str)], data: &[u8], listener_data: Option<Value>) -> String {
        let at = Stamp::parse("20260131093000.000007").unwrap();
        let data = Bytes::copy_from_slice(data);
        let event = Event::from_message("EVENTS", "events.a.b", 7, at, headers.iter().copied(), data).unwrap();
        let due = Due {
            is_replay: true,
            redelivery: Some("r7".to_owned()),
            priority: 1.0,
            listener_data,
            data: event.data.clone(),
        };
        let mut out = Vec::new();
        write(&mut out, &event, &due, Place { previous: 5, log_epoch: Some("00c0ffee") });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_has_what_a_delivery_of_its_own_has_in_headers() {
        let headers = [
            ("ce-id", "a%20%22b%22"),
            ("ce-source", "/s"),
            ("ce-shop", "gr%C3%B6%C3%9Fe"),
            ("ce-no-name", "x"),
            ("content-type", "application/json; charset=utf-8"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let json = written(&headers, br#"{"n": 1.50}"#, Some(json!({"a": "ü"})));
        assert!(json.ends_with(r#","data":{"n": 1.50}}"#), "byte for byte: {json}");
        let expected = json!({
            "id": "a \"b\"", "source": "/s", "shop": "größe", "specversion": "1.0", "type": "a.b",
            "time": "2026-01-31T09:30:00.000007Z", "transactionid": "20260131093000.000007",
            "datacontenttype": "application/json; charset=utf-8",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "sequence": "00000000000000000007", "previoussequence": "00000000000000000005", "logepoch": "00c0ffee", "replay": true, "redelivery": "r7",
            "listenerdata": "{\"a\":\"ü\"}", "data": {"n": 1.5},
        });
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
    }

    #[test]
    fn data_is_what_its_media_type_says() {
        let data = |content_type: &str, data: &[u8]| {
            let event: Value = serde_json::from_str(&written(&[("content-type", content_type)], data, None)).unwrap();
            (event.get("data").cloned(), event.get("data_base64").cloned())
        };
        assert_eq!(data("application/json", b"[1]"), (Some(json!([1])), None));
        assert_eq!(data("text/plain", b"1 \" \n"), (Some(json!("1 \" \n")), None));
        assert_eq!(data("application/json", b"no json"), (None, Some(json!("bm8ganNvbg=="))));
        assert_eq!(data("image/png", b"\xff"), (None, Some(json!("/w=="))));
        assert_eq!(data("application/json", b""), (None, None));
    }

    #[test]
    fn data_of_no_media_type_gets_none() {
        let json = written(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s")], b"{}", None);
        let event: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((event.get("datacontenttype"), event.get("data")), (None, None), "{json}");
        let read = CloudEvent::from_structured(&RawValue::from_string(json).unwrap(), "").unwrap();
        assert_eq!((read.content_type, &read.data[..]), (None, &b"{}"[..]));
    }

    proptest! {
        #[test]
        fn whatever_is_in_it_it_is_a_cloud_event_with_the_same_data(
            id in "[ -~äß€]{1,20}", content_type in "(application/json|text/plain|image/png)",
            data in prop_oneof!["[ -~\\n]{1,40}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 1..40),
                Just(br#"{"a": [1, "\u00fc"]}"#.to_vec())],
        ) {
            let id = header_value::encode(&id).into_owned();
            let json = written(&[("ce-id", &id), ("content-type", &content_type)], &data, None);
            let read = CloudEvent::from_structured(&RawValue::from_string(json).unwrap(), "").unwrap();
            prop_assert_eq!(header_value::encode(&read.id).into_owned(), id);
            let is_json_text = content_type == "application/json";
            prop_assert!(read.data == data || (is_json_text && serde_json::from_slice::<Value>(&read.data).ok() == serde_json::from_slice(&data).ok()));
        }
    }

    #[test]
    fn a_text_is_written_as_json_has_it_whatever_is_in_it() {
        for text in ["plain", "a \" b", "a \\ b", "a \n b", "\u{7f}", "ü", "\n", "\"\"", "\\", ""] {
            let mut out = Vec::new();
            write_text(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
