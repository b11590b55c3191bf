//! What is posted: an HTTP request in bytes, with fields of twenty digits in which a number is written for each sending.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an event's data.
pub(crate) const EVENT_BYTES: usize = 256;
const DIGITS: usize = 20;
const BLANK: &str = "00000000000000000000";

/// A request, and where its numbers stand.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    fields: Vec<usize>,
}

impl Request {
    /// One event's data for this path.
    pub(crate) fn event(path: &str) -> Self {
        Self::new(path, "application/json", &data())
    }

    /// So many CloudEvents of a type, each with an id of its own.
    pub(crate) fn batch(event_type: &str, count: usize) -> Self {
        let event = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{BLANK}\",\"source\":\"/bench\",\"type\":\"{event_type}\",\"data\":{}}}",
            data().replace(BLANK, "--------------------")
        );
        let body = format!("[{}]", vec![event; count].join(","));
        Self::new("/v1/events", "application/cloudevents-batch+json", &body)
    }

    fn new(path: &str, content_type: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let fields = text.match_indices(BLANK).map(|(at, _)| at).collect();
        Self { bytes: text.into_bytes(), fields }
    }

    /// The request with this moment in every field.
    pub(crate) fn sent_at(&mut self, micros: u64) -> &[u8] {
        self.write(|_| micros)
    }

    /// The request with numbers that no request has had.
    pub(crate) fn numbered(&mut self) -> &[u8] {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let count = self.fields.len() as u64;
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        self.write(|i| first + i)
    }

    /// How many numbers it has: one for each event.
    pub(crate) fn events(&self) -> usize {
        self.fields.len()
    }

    fn write(&mut self, number: impl Fn(u64) -> u64) -> &[u8] {
        for (at, i) in self.fields.iter().zip(0..) {
            let mut rest = number(i);
            for digit in self.bytes[*at..*at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// The data of an event, with a blank for the moment at which it is sent.
pub(crate) fn data() -> String {
    let start = format!("{{\"sent_at\":\"{BLANK}\",\"transaction_id\":\"benchmark\",\"filler\":\"");
    let filler = "x".repeat(EVENT_BYTES - start.len() - 2);
    format!("{start}{filler}\"}}")
}

/// The moment in the data of an event.
pub(crate) fn sent_at(data: &[u8]) -> Option<u64> {
    let digits = data.strip_prefix(b"{\"sent_at\":\"")?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_its_size_and_gives_back_the_moment() {
        let mut request = Request::event("/x");
        let bytes = request.sent_at(123_456).to_vec();
        let body = &bytes[bytes.len() - EVENT_BYTES..];
        assert_eq!((sent_at(body), request.events()), (Some(123_456), 1));
        serde_json::from_slice::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn every_event_of_a_batch_has_another_id() {
        let mut request = Request::batch("a", 3);
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let bytes = request.numbered();
            let start = bytes.iter().position(|byte| *byte == b'[').unwrap();
            let events: Vec<serde_json::Value> = serde_json::from_slice(&bytes[start..]).unwrap();
            ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        }
        assert_eq!(ids.len(), 6);
    }
}
