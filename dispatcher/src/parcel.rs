//! What one request carries: an event in CloudEvents binary mode, several as a batch, or a test.

use bytes::Bytes;
use domain::event::{self, header};
use domain::lane::Due;
use domain::structured_event;
use domain::subscription::Test;
use domain::{Event, SubscriptionId, digits, header_value, webhook_signature};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// The type of what is posted to try a target out.
const TEST_TYPE: &str = "mer.test";

/// The names that nearly all events have, ready-made.
static NAMES: [HeaderName; 8] = [
    HeaderName::from_static(header::SPEC_VERSION),
    HeaderName::from_static(header::ID),
    HeaderName::from_static(header::SOURCE),
    HeaderName::from_static(header::TYPE),
    HeaderName::from_static(header::TIME),
    HeaderName::from_static(header::TRANSACTION_ID),
    HeaderName::from_static(header::CONTENT_TYPE),
    HeaderName::from_static(header::TRACEPARENT),
];
/// For how many headers there is room beside the event's own: those of the delivery, of the signature, of the target.
const ADDED: usize = 12;

/// A request's headers and body, before it is signed.
pub struct Parcel {
    /// What is signed with the body: the same whenever the same is sent.
    pub(crate) id: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An event, how it is due, and the sequence that is delivered to the same URL before it, 0 for none.
pub type Item<'a> = (&'a Event, &'a Due, u64);

impl Parcel {
    /// CloudEvents binary mode: the event's own attributes, and what is true of this delivery; the body is the data.
    pub fn of_event((event, due, previous): Item<'_>) -> Self {
        let mut headers = HeaderMap::with_capacity(event.headers.len() + ADDED);
        for (name, value) in &event.headers {
            // Names and values were made safe when the event was read; one that a plain client made up and HTTP cannot
            // carry is left out rather than holding the lane for ever.
            if let (Some(name), Ok(value)) = (name_of(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        headers.insert(header::SEQUENCE, twenty_digits(event.sequence));
        headers.insert(header::PREVIOUS_SEQUENCE, twenty_digits(previous));
        headers.insert(header::REPLAY, HeaderValue::from_static(if due.is_replay { "true" } else { "false" }));
        if let Some(listener_data) = &due.listener_data {
            let value = header_value::encode(&listener_data.to_string()).into_owned();
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header::LISTENER_DATA, value);
            }
        }
        Self { id: webhook_signature::id_of(event), headers, body: due.data.clone() }
    }

    /// CloudEvents batched mode: an array of events in the JSON event format, in order.
    pub fn of_batch(items: &[Item<'_>]) -> Self {
        let mut body = vec![b'['];
        for (i, (event, due, previous)) in items.iter().enumerate() {
            if i > 0 {
                body.push(b',');
            }
            structured_event::write(&mut body, event, due, *previous);
        }
        body.push(b']');
        let id = webhook_signature::id_of_batch(items.iter().map(|(event, ..)| *event)).unwrap_or_default();
        let content_type = HeaderValue::from_static(structured_event::BATCH);
        let headers = HeaderMap::from_iter([(HeaderName::from_static(header::CONTENT_TYPE), content_type)]);
        Self { id, headers, body: body.into() }
    }

    /// What is no event, for the sake of the answer: a CloudEvent of type `mer.test` without a sequence.
    pub fn of_test(id: &SubscriptionId, test: &Test) -> Self {
        let data = json!({"message": "a test: nothing has happened", "subscription": id}).to_string();
        let (source, time) = (format!("/v1/subscriptions/{id}"), test.asked_at.to_rfc3339());
        let pairs = [
            (header::SPEC_VERSION, event::SPEC_VERSION),
            (header::ID, &test.id),
            (header::SOURCE, &source),
            (header::TYPE, TEST_TYPE),
            (header::TIME, &time),
            (header::CONTENT_TYPE, event::JSON),
        ];
        let headers = pairs.into_iter().filter_map(|(name, value)| pair(name, value)).collect();
        Self { id: webhook_signature::id_of_test(test), headers, body: data.into() }
    }
}

pub(crate) fn pair(name: &'static str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
}

fn name_of(name: &str) -> Option<HeaderName> {
    NAMES.iter().find(|known| known.as_str() == name).cloned().or_else(|| HeaderName::try_from(name).ok())
}

fn twenty_digits(sequence: u64) -> HeaderValue {
    HeaderValue::from_bytes(&digits::of_sequence(sequence)).unwrap_or_else(|_| HeaderValue::from(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Stamp;

    fn event() -> Event {
        let given = [("ce-id", "x"), ("ce-sequence", "9"), ("content-type", "application/json; charset=utf-8")];
        let at = Stamp::from_micros(0);
        Event::from_message("EVENTS", "events.größe", 7, at, given, Bytes::from("{}")).unwrap()
    }

    fn due(event: &Event) -> Due {
        let listener_data = Some(json!({"a": "ü"}));
        Due { is_replay: true, priority: 1.0, listener_data, data: event.data.clone() }
    }

    #[test]
    fn a_delivery_carries_the_events_attributes_and_its_own() {
        let event = event();
        let Parcel { headers, body, .. } = Parcel::of_event((&event, &due(&event), 5));
        for (name, value) in [
            ("ce-id", "x"),
            ("ce-type", "gr%C3%B6%C3%9Fe"),
            ("ce-sequence", "00000000000000000007"),
            ("ce-previoussequence", "00000000000000000005"),
            ("ce-replay", "true"),
            ("ce-listenerdata", "{%22a%22:%22%C3%BC%22}"),
            ("content-type", "application/json; charset=utf-8"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert_eq!(body, "{}");
    }

    #[test]
    fn a_batch_is_an_array_in_order() {
        let (first, second) = (event(), Event { sequence: 8, ..event() });
        let batch = Parcel::of_batch(&[(&first, &due(&first), 5), (&second, &due(&second), 7)]);
        assert_eq!(batch.headers["content-type"], "application/cloudevents-batch+json");
        let body: serde_json::Value = serde_json::from_slice(&batch.body).unwrap();
        let sequences = |i: usize| (body[i]["sequence"].clone(), body[i]["previoussequence"].clone());
        assert_eq!(sequences(0), (json!("00000000000000000007"), json!("00000000000000000005")));
        assert_eq!(sequences(1), (json!("00000000000000000008"), json!("00000000000000000007")));
        assert!(body.get(2).is_none());
    }
}
