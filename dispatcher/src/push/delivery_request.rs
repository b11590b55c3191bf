//! What one request carries: an event in CloudEvents binary mode, several as a batch, or a test.

use bytes::Bytes;
use domain::event::{self, header};
use domain::lane::Due;
use domain::structured_event::{self, Place};
use domain::subscription::Test;
use domain::{Event, SubscriptionId, digits, header_value, webhook_signature};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// The type of what is posted to try a target out.
const TEST_TYPE: &str = "mer.test";

/// A request's headers and body, before it is signed.
pub struct DeliveryRequest {
    /// What is signed with the body: the same whenever the same is sent.
    pub(crate) id: webhook_signature::Id,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An event, how it is due, and the sequence that is delivered to the same URL before it, 0 for none.
pub(crate) type Item<'a> = (&'a Event, &'a Due, u64);

impl DeliveryRequest {
    /// CloudEvents binary mode: the event's own attributes, and what is true of this delivery; the body is the data.
    /// `log_epoch`: the log's name, where it has one.
    pub fn of_event((event, due, previous): Item<'_>, log_epoch: Option<&HeaderValue>) -> Self {
        let mut headers = event.headers.clone();
        headers.insert(header::SEQUENCE, twenty_digits(event.sequence));
        headers.insert(header::PREVIOUS_SEQUENCE, twenty_digits(previous));
        if let Some(log_epoch) = log_epoch {
            headers.insert(header::LOG_EPOCH, log_epoch.clone());
        }
        headers.insert(header::REPLAY, HeaderValue::from_static(if due.is_replay { "true" } else { "false" }));
        if let Some(redelivery) = due.redelivery.as_ref().and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert(header::REDELIVERY, redelivery);
        }
        if let Some(listener_data) = &due.listener_data {
            let value = header_value::encode(&listener_data.to_string()).into_owned();
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header::LISTENER_DATA, value);
            }
        }
        Self { id: webhook_signature::id_of(event), headers, body: due.data.clone() }
    }

    /// CloudEvents batched mode: an array of events in the JSON event format, in order.
    pub fn of_batch(items: &[Item<'_>], log_epoch: Option<&HeaderValue>) -> Self {
        let log_epoch = log_epoch.and_then(|epoch| epoch.to_str().ok());
        let mut body = vec![b'['];
        for (i, (event, due, previous)) in items.iter().enumerate() {
            if i > 0 {
                body.push(b',');
            }
            structured_event::write(&mut body, event, due, Place { previous: *previous, log_epoch });
        }
        body.push(b']');
        let id = webhook_signature::id_of_batch(items.iter().map(|(event, ..)| *event));
        let content_type = HeaderValue::from_static(structured_event::BATCH);
        let headers = HeaderMap::from_iter([(HeaderName::from_static(header::CONTENT_TYPE), content_type)]);
        Self { id: id.unwrap_or(webhook_signature::Id::Text(String::new())), headers, body: body.into() }
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
        Due {
            is_replay: true,
            redelivery: Some("r7".to_owned()),
            priority: 1.0,
            listener_data,
            data: event.data.clone(),
        }
    }

    #[test]
    fn a_delivery_carries_the_events_attributes_and_its_own() {
        let event = event();
        let DeliveryRequest { headers, body, .. } =
            DeliveryRequest::of_event((&event, &due(&event), 5), Some(&HeaderValue::from_static("00c0ffee")));
        for (name, value) in [
            ("ce-id", "x"),
            ("ce-type", "gr%C3%B6%C3%9Fe"),
            ("ce-sequence", "00000000000000000007"),
            ("ce-previoussequence", "00000000000000000005"),
            ("ce-logepoch", "00c0ffee"),
            ("ce-replay", "true"),
            ("ce-redelivery", "r7"),
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
        let items = [(&first, &due(&first), 5), (&second, &due(&second), 7)];
        let batch = DeliveryRequest::of_batch(&items, Some(&HeaderValue::from_static("00c0ffee")));
        assert_eq!(batch.headers["content-type"], "application/cloudevents-batch+json");
        let body: serde_json::Value = serde_json::from_slice(&batch.body).unwrap();
        let sequences = |i: usize| (body[i]["sequence"].clone(), body[i]["previoussequence"].clone());
        assert_eq!(sequences(0), (json!("00000000000000000007"), json!("00000000000000000005")));
        assert_eq!(sequences(1), (json!("00000000000000000008"), json!("00000000000000000007")));
        assert!(body.get(2).is_none());
        assert_eq!(body[1]["logepoch"], "00c0ffee");
        let batch = DeliveryRequest::of_batch(&items, None);
        let body: serde_json::Value = serde_json::from_slice(&batch.body).unwrap();
        assert!(body[1].get("logepoch").is_none(), "a log without a name");
    }
}
