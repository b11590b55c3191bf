//! An event that a subscription has given up on, as a message of the stream `DEAD_LETTERS`.

use bytes::Bytes;

use crate::event::Event;
use crate::event_type::EventType;
use crate::header_value;
use crate::stamp::Stamp;
use crate::target_url::SubscriptionId;

/// What every subject of the stream starts with; the subscription's id follows.
pub const SUBJECT_PREFIX: &str = "dead_letters.";
/// How much is kept of what came of the last attempt, in characters.
const MAX_ERROR: usize = 200;

/// The names of the headers that a dead letter has beside the event's own.
pub mod header {
    /// The subscription's id.
    pub const SUBSCRIPTION: &str = "mer-subscription";
    /// The event's place in the log.
    pub const SEQUENCE: &str = "mer-sequence";
    /// The event's type, as its subject said it; percent-encoded.
    pub const TYPE: &str = "mer-type";
    /// When the log took the event.
    pub const STORED_AT: &str = "mer-stored-at";
    /// How often it was tried.
    pub const ATTEMPTS: &str = "mer-attempts";
    /// What came of the last attempt; percent-encoded.
    pub const ERROR: &str = "mer-error";
    /// The status that the target answered with, if it did.
    pub const CODE: &str = "mer-code";
    /// When it was given up.
    pub const AT: &str = "mer-at";
}

/// An event that was tried as often as was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose.
    pub subscription: SubscriptionId,
    /// The event, as it stands in the log.
    pub event: Event,
    /// How often it was tried.
    pub attempts: u32,
    /// The status that the target answered with at last, if it did.
    pub code: Option<u16>,
    /// What came of the last attempt.
    pub error: String,
    /// When it was given up.
    pub at: Stamp,
}

impl DeadLetter {
    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        format!("{SUBJECT_PREFIX}{}", self.subscription)
    }

    /// The message's headers: the event's own, and what is to be known of its end.
    pub fn headers(&self) -> Vec<(&str, String)> {
        let error: String = self.error.chars().take(MAX_ERROR).collect();
        let own = [
            (header::SUBSCRIPTION, self.subscription.to_string()),
            (header::SEQUENCE, self.event.sequence.to_string()),
            (header::TYPE, header_value::encode(self.event.event_type.as_str()).into_owned()),
            (header::STORED_AT, self.event.stored_at.to_rfc3339()),
            (header::ATTEMPTS, self.attempts.to_string()),
            (header::ERROR, header_value::encode(&error).into_owned()),
            (header::AT, self.at.to_rfc3339()),
        ];
        let code = self.code.map(|code| (header::CODE, code.to_string()));
        let of_event = self.event.headers.iter().map(|(name, value)| (name.as_str(), value.to_str()));
        let of_event = of_event.filter_map(|(name, value)| Some((name, value.ok()?.to_owned())));
        of_event.chain(own).chain(code).collect()
    }

    /// The dead letter that a message of the stream is; `None` for what somebody else has written there.
    pub fn from_message<'a>(
        log: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        data: Bytes,
    ) -> Option<Self> {
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        let find = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let event_type = EventType::parse(&header_value::decode(find(header::TYPE)?)).ok()?;
        let sequence = find(header::SEQUENCE)?.parse().ok()?;
        let stored_at = Stamp::parse(find(header::STORED_AT)?).ok()?;
        Some(Self {
            subscription: SubscriptionId::parse(find(header::SUBSCRIPTION)?).ok()?,
            attempts: find(header::ATTEMPTS)?.parse().ok()?,
            code: find(header::CODE).and_then(|code| code.parse().ok()),
            error: header_value::decode(find(header::ERROR)?).into_owned(),
            at: Stamp::parse(find(header::AT)?).ok()?,
            event: Event::from_message(log, &event_type.subject(), sequence, stored_at, headers, data)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        let at = Stamp::parse("20260131093000.000007").unwrap();
        let headers = [("ce-type", "said by its sender"), ("ce-shop", "größe"), ("Nats-Msg-Id", "key")];
        let event = Event::from_message("EVENTS", "events.bestellt.größe", 17, at, headers, "{}".into()).unwrap();
        DeadLetter {
            subscription: SubscriptionId::parse("host-80-_0123456789abcdef").unwrap(),
            event,
            attempts: 3,
            code: Some(500),
            error: "answered 500: 100 % \"größe\"\n".to_owned(),
            at: at.plus_micros(1),
        }
    }

    fn read(headers: &[(&str, String)]) -> Option<DeadLetter> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        DeadLetter::from_message("EVENTS", headers, "{}".into())
    }

    #[test]
    fn a_dead_letter_is_read_as_it_was_written() {
        for code in [Some(500), None] {
            let letter = DeadLetter { code, ..letter() };
            let headers = letter.headers();
            assert_eq!(read(&headers).as_ref(), Some(&letter));
            assert!(headers.iter().all(|(_, value)| value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')));
        }
        assert_eq!(letter().subject(), "dead_letters.host-80-_0123456789abcdef");
        let long = DeadLetter { error: "é".repeat(1000), ..letter() };
        assert_eq!(read(&long.headers()).unwrap().error.chars().count(), MAX_ERROR);
    }

    #[test]
    fn what_somebody_else_has_written_is_no_dead_letter() {
        let letter = letter();
        let all = letter.headers();
        for missing in [header::SUBSCRIPTION, header::SEQUENCE, header::TYPE, header::ATTEMPTS, header::AT] {
            let headers: Vec<_> = all.iter().filter(|(name, _)| *name != missing).cloned().collect();
            assert_eq!(read(&headers), None, "{missing}");
        }
    }
}
