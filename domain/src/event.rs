//! An event as it stands in the log, with the headers that are delivered with it.

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::event_data;
use crate::event_type::EventType;
use crate::header_value;
use crate::stamp::Stamp;
use crate::trace_parent::TraceParent;

/// Header names: CloudEvents attributes in binary mode (HTTP and NATS binding alike), and what mer adds.
pub mod header {
    /// The CloudEvents version, always [`super::SPEC_VERSION`] for what mer stores.
    pub const SPEC_VERSION: &str = "ce-specversion";
    /// The event's id, unique for its source.
    pub const ID: &str = "ce-id";
    /// Where the event came from, a URI reference.
    pub const SOURCE: &str = "ce-source";
    /// The event's type.
    pub const TYPE: &str = "ce-type";
    /// When the event happened, RFC 3339.
    pub const TIME: &str = "ce-time";
    /// The transaction that the event belongs to.
    pub const TRANSACTION_ID: &str = "ce-transactionid";
    /// The data's media type.
    pub const CONTENT_TYPE: &str = "content-type";
    /// W3C trace context of the sender.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace state of the sender.
    pub const TRACESTATE: &str = "tracestate";
    /// Added on delivery: the event's sequence in the log, 20 digits.
    pub const SEQUENCE: &str = "ce-sequence";
    /// Added on delivery: the sequence delivered to the same URL before this one, 20 digits, zeros for none.
    pub const PREVIOUS_SEQUENCE: &str = "ce-previoussequence";
    /// Added on delivery: the name of the log that the sequences are of, eight hexadecimal digits.
    pub const LOG_EPOCH: &str = "ce-logepoch";
    /// Added on delivery: whether the event is from before the registration.
    pub const REPLAY: &str = "ce-replay";
    /// Of what is delivered again because somebody asked for it: the id of that request.
    pub const REDELIVERY: &str = "ce-redelivery";
    /// Added on delivery: the registration's `listener_data`.
    pub const LISTENER_DATA: &str = "ce-listenerdata";

    pub(super) const ADDED_ON_DELIVERY: [&str; 6] =
        [SEQUENCE, PREVIOUS_SEQUENCE, LOG_EPOCH, REPLAY, REDELIVERY, LISTENER_DATA];
}

/// The CloudEvents version that mer speaks.
pub const SPEC_VERSION: &str = "1.0";
/// The greatest place in the log that can be asked for: what fits into a signed 64-bit integer, as OpenAPI's `int64`.
pub const MAX_SEQUENCE: u64 = i64::MAX as u64;
/// The media type of JSON.
pub const JSON: &str = "application/json";
/// The media type of what is not known to be anything else.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// The source of an event that a plain NATS client published.
const PLAIN_SOURCE: &str = "nats";
/// The source of the events that come in by the original call, and of those that come in as plain JSON.
pub const ORIGINAL_SOURCE: &str = "/receive_event";
/// See [`ORIGINAL_SOURCE`].
pub const JSON_SOURCE: &str = "/v1/events";
/// The sources of events whose time is that at which a receiver took them.
const OWN_SOURCES: [&str; 2] = [ORIGINAL_SOURCE, JSON_SOURCE];
/// How many headers of a message are read, beside the usual ones: more than any HTTP server takes, and fewer than a map of
/// them can hold.
const MAX_HEADERS: usize = 4096;
/// The names that nearly all events have, ready-made.
static USUAL: [HeaderName; 8] = [
    HeaderName::from_static(header::SPEC_VERSION),
    HeaderName::from_static(header::ID),
    HeaderName::from_static(header::SOURCE),
    HeaderName::from_static(header::TYPE),
    HeaderName::from_static(header::TIME),
    HeaderName::from_static(header::TRANSACTION_ID),
    HeaderName::from_static(header::CONTENT_TYPE),
    HeaderName::from_static(header::TRACEPARENT),
];

/// An event in the log. Complete: what a plain NATS message lacks has been filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// When the stream took it.
    pub stored_at: Stamp,
    /// Its type, from the subject.
    pub event_type: EventType,
    /// When it happened: `ce-time`, else [`Event::stored_at`].
    pub time: Stamp,
    /// The transaction it belongs to.
    pub transaction_id: String,
    /// What a delivery carries as headers, in header form (percent-encoded): made once, for all that it is delivered to.
    pub headers: HeaderMap,
    /// The payload, byte for byte.
    pub data: Bytes,
}

impl Event {
    /// An event from a stream's message, or `None` where the subject is not that of a legal type.
    ///
    /// What says that it is a CloudEvent has the media type that it names, or none. A message without CloudEvents headers is an event too: its id is `<stream>-<sequence>`, its time the stream's,
    /// its transaction the data's `transaction_id` or else the stamp of that time.
    pub fn from_message<'a>(
        stream: &str,
        subject: &str,
        sequence: u64,
        stored_at: Stamp,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        data: Bytes,
    ) -> Option<Self> {
        let event_type = EventType::from_subject(subject)?;
        let mut own = HeaderMap::with_capacity(USUAL.len());
        for (name, value) in headers {
            // What is said twice counts as it was said first.
            if let Some(name) = delivered_name(name)
                && (own.len() < MAX_HEADERS || USUAL.contains(&name))
                && let Entry::Vacant(free) = own.entry(name)
                && let Ok(value) = HeaderValue::try_from(header_value::encode_stored(value))
            {
                free.insert(value);
            }
        }

        let is_plain = !own.contains_key(header::SPEC_VERSION);
        let time = text_of(&own, header::TIME).and_then(|text| Stamp::parse(&header_value::decode(text)).ok());
        if time.is_none() {
            own.remove(header::TIME);
        }
        let time = time.unwrap_or(stored_at);
        let transaction_id = match text_of(&own, header::TRANSACTION_ID) {
            Some(value) => header_value::decode(value).into_owned(),
            None => event_data::transaction_id_of(&data).unwrap_or_else(|| stored_at.to_string()),
        };

        let mut fill = |name: &'static str, value: &dyn Fn() -> String| {
            if let Entry::Vacant(free) = own.entry(HeaderName::from_static(name))
                && let Ok(value) = HeaderValue::try_from(value())
            {
                free.insert(value);
            }
        };
        fill(header::SPEC_VERSION, &|| SPEC_VERSION.to_owned());
        fill(header::ID, &|| format!("{stream}-{sequence}"));
        fill(header::SOURCE, &|| PLAIN_SOURCE.to_owned());
        fill(header::TYPE, &|| header_value::encode(event_type.as_str()).into_owned());
        fill(header::TIME, &|| time.to_rfc3339());
        fill(header::TRANSACTION_ID, &|| header_value::encode(&transaction_id).into_owned());
        if is_plain {
            fill(header::CONTENT_TYPE, &|| media_type_of(&data).to_owned());
        }
        Some(Self { sequence, stored_at, event_type, time, transaction_id, headers: own, data })
    }

    /// The value of one of [`Event::headers`], in header form.
    pub fn header(&self, name: &str) -> Option<&str> {
        text_of(&self.headers, name)
    }

    /// Its id, in header form: one line, no matter who gave it.
    pub fn id(&self) -> &str {
        self.header(header::ID).unwrap_or_default()
    }

    /// Whether its transaction has no earlier event, by what it says itself: a receiver made the transaction's id out of the
    /// moment at which it took this event, so nobody could name it before.
    ///
    /// Where the sender says when the event happened, its own time proves nothing; then the event was stored about when
    /// the id says. `margin_micros`: how far clocks may differ.
    pub fn began_its_transaction(&self, margin_micros: i64) -> bool {
        let Some(began) = Stamp::of_transaction(&self.transaction_id) else { return false };
        let skew = self.stored_at.as_micros().abs_diff(began.as_micros());
        self.time == began || !self.is_of_receivers_time() && skew <= margin_micros.unsigned_abs()
    }

    /// Whether its time is when a receiver took it, by the receiver's clock. A CloudEvent's may be its sender's.
    pub fn is_of_receivers_time(&self) -> bool {
        OWN_SOURCES.contains(&self.header(header::SOURCE).unwrap_or_default())
    }

    /// The trace that it belongs to, if it names one.
    pub fn trace_id(&self) -> Option<&str> {
        Some(TraceParent::parse(self.header(header::TRACEPARENT)?)?.trace_id())
    }
}

/// Whether a media type is that of JSON.
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == JSON || essence == "text/json" || essence.ends_with("+json")
}

/// The name of a header under which it is delivered; `None` where it is not.
fn delivered_name(name: &str) -> Option<HeaderName> {
    if let Some(usual) = USUAL.iter().find(|usual| usual.as_str().eq_ignore_ascii_case(name)) {
        return Some(usual.clone());
    }
    let name = name.to_ascii_lowercase();
    let is_attribute =
        name.starts_with("ce-") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let is_delivered = name == header::TRACESTATE || (is_attribute && !header::ADDED_ON_DELIVERY.contains(&&*name));
    is_delivered.then(|| HeaderName::try_from(name).ok())?
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn media_type_of(data: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde::de::IgnoredAny>(data) {
        Ok(_) if std::str::from_utf8(data).is_ok() => JSON,
        _ => OCTET_STREAM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(headers: &[(&'static str, &'static str)], data: &'static str) -> Event {
        let at = Stamp::parse("20260131093000.000007").unwrap();
        Event::from_message("EVENTS", "events.order.created", 17, at, headers.iter().copied(), data.into()).unwrap()
    }

    #[test]
    fn a_plain_message_is_an_event_too() {
        let plain = event(&[], r#"{"transaction_id":"T 1"}"#);
        assert_eq!(plain.header(header::ID), Some("EVENTS-17"));
        assert_eq!(plain.header(header::TIME), Some("2026-01-31T09:30:00.000007Z"));
        assert_eq!(plain.header(header::TYPE), Some("order.created"));
        assert_eq!(plain.header(header::CONTENT_TYPE), Some(JSON));
        assert_eq!(plain.header(header::TRANSACTION_ID), Some("T%201"));
        assert_eq!(plain.transaction_id, "T 1");
        assert_eq!(event(&[], "not json").header(header::CONTENT_TYPE), Some(OCTET_STREAM));
        assert_eq!(event(&[], "[1]").transaction_id, "20260131093000.000007");
        assert_eq!(event(&[], "").header(header::CONTENT_TYPE), Some(OCTET_STREAM));
        assert_eq!(event(&[("ce-specversion", "1.0")], "{}").header(header::CONTENT_TYPE), None);
    }

    #[test]
    fn what_the_sender_gave_is_kept_and_what_is_not_for_targets_is_not_passed_on() {
        let given = event(
            &[
                ("Ce-Id", "a%20b"),
                ("ce-time", "2020-01-01T00:00:00Z"),
                ("ce-shop", "größe"),
                ("ce-sequence", "99"),
                ("Nats-Msg-Id", "secret"),
                ("authorization", "secret"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ],
            "{}",
        );
        assert_eq!(given.header(header::ID), Some("a%20b"));
        assert_eq!(given.time, Stamp::parse("2020-01-01T00:00:00Z").unwrap());
        assert_eq!(given.header("ce-shop"), Some("gr%C3%B6%C3%9Fe"));
        assert!(given.header(header::TRACEPARENT).is_some());
        assert_eq!((given.id(), given.trace_id()), ("a%20b", Some("0af7651916cd43dd8448eb211c80319c")));
        assert!(given.header(header::SEQUENCE).is_none());
        assert!(!format!("{:?}", given.headers).contains("secret"));
    }

    #[test]
    fn what_is_said_twice_counts_as_it_was_said_first() {
        let event = event(&[("ce-id", "first"), ("Ce-Id", "second")], "{}");
        assert_eq!(event.headers.get_all(header::ID).iter().collect::<Vec<_>>(), ["first"]);
    }

    #[test]
    fn headers_without_number_are_no_harm() {
        let names: Vec<String> = (0..100_000).map(|n| format!("ce-a{n}")).collect();
        let headers = names.iter().map(|name| (name.as_str(), "x")).chain([("ce-id", "given")]);
        let event = Event::from_message("EVENTS", "events.a", 1, Stamp::from_micros(0), headers, "{}".into()).unwrap();
        assert!(event.header("ce-a0").is_some() && event.id() == "given");
        assert!(event.headers.len() <= MAX_HEADERS + USUAL.len());
    }

    #[test]
    fn a_time_that_is_none_gives_way_to_the_streams() {
        let event = event(&[("ce-time", "yesterday")], "{}");
        assert_eq!(event.time, event.stored_at);
        assert_eq!(event.header(header::TIME), Some("2026-01-31T09:30:00.000007Z"));
    }

    #[test]
    fn an_event_begins_its_transaction_only_if_the_id_was_made_when_it_was_taken() {
        let begins = |id: &'static str, time: &'static str, source: &'static str| {
            event(&[("ce-transactionid", id), ("ce-time", time), ("ce-source", source)], "{}")
                .began_its_transaction(5_000_000)
        };
        let (id, time) = ("20260131093000.000003", "2026-01-31T09:30:00.000003Z");
        for (id, time, source, is_so) in [
            (id, time, "/receive_event", true),
            (id, time, "/shop", true),
            (id, "2020-01-01T00:00:00Z", "/shop", true),
            (id, "2026-01-31T09:30:00.000007Z", "/receive_event", false),
            ("20260131123000.000003", "2020-01-01T00:00:00Z", "/shop", false),
            ("20991231000000.000000", "2026-01-31T09:30:00Z", "/v1/events", false),
            ("my order", time, "/shop", false),
        ] {
            assert_eq!(begins(id, time, source), is_so, "{id} {time} {source}");
        }
    }

    #[test]
    fn a_subject_that_is_no_type_is_no_event() {
        let none = |subject| Event::from_message("EVENTS", subject, 1, Stamp::from_micros(0), [], Bytes::new());
        assert_eq!(none("events.mer.gap"), None);
        assert_eq!(none("events.a/b"), None);
        assert_eq!(none("other.a"), None);
    }

    #[test]
    fn an_attribute_that_is_stored_under_a_legal_name_is_delivered() {
        let names = |name: &'static str| event(&[(name, "x")], "{}").headers.contains_key(name);
        for (name, is_delivered) in
            [("ce-a_b", true), ("ce-a-b", true), ("ce-a9", true), ("ce-a.b", false), ("shop", false)]
        {
            assert_eq!(names(name), is_delivered, "{name}");
        }
    }

    #[test]
    fn data_that_is_no_text_is_no_json() {
        let at = Stamp::from_micros(0);
        for (data, media_type) in [(&b"{\"a\":\"b\"}"[..], JSON), (&b"{\"a\":\"\xff\"}"[..], OCTET_STREAM)] {
            let event = Event::from_message("EVENTS", "events.a", 1, at, [], Bytes::copy_from_slice(data)).unwrap();
            assert_eq!(event.headers[header::CONTENT_TYPE], media_type);
        }
    }

    #[test]
    fn an_event_has_so_many_headers_and_no_more() {
        let names: Vec<String> = (0..MAX_HEADERS + 9).map(|n| format!("ce-x{n}")).collect();
        let headers = names.iter().map(|name| (name.as_str(), "x"));
        let event = Event::from_message("EVENTS", "events.a", 1, Stamp::from_micros(0), headers, Bytes::new()).unwrap();
        assert_eq!(names.iter().filter(|name| event.headers.contains_key(name.as_str())).count(), MAX_HEADERS);
    }
}
