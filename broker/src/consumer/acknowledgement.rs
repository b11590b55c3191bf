//! The subject that a consumer's message is acknowledged at, and what it says of the message.
//!
//! async-nats does this too, but for a message with a context of its own: each has a copy of what all have in common, and
//! keeps headers and payload until it is acknowledged.

use std::sync::Arc;

use async_nats::Subject;
use bytes::Bytes;
use domain::Stamp;

use crate::connection::handles::Handles;
use crate::error::Unavailable;
use crate::log::message::stamp_of;

/// What begins each of them.
const PREFIX: &str = "$JS.ACK.";

/// How a message is acknowledged.
pub(crate) struct Acknowledgement {
    pub(crate) handles: Arc<Handles>,
    pub(crate) subject: Subject,
}

impl Acknowledgement {
    /// Acknowledges it; does not wait for the server.
    pub(crate) async fn send(&self) -> Result<(), Unavailable> {
        let sent = self.handles.client.publish(self.subject.clone(), Bytes::new()).await;
        sent.map_err(|error| Unavailable::new("acknowledging", error))
    }
}

/// What a consumer says of a message that it sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageInfo {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// How many messages the consumer has sent, this one included.
    pub(crate) number: u64,
    /// When it was stored.
    pub(crate) stored_at: Stamp,
    /// How many messages are to come after it.
    pub(crate) pending: u64,
}

impl MessageInfo {
    /// Reads it; `None` where this is no such subject.
    /// <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-15.md>
    pub(crate) fn parse(subject: &str) -> Option<Self> {
        let tokens = subject.strip_prefix(PREFIX)?.split('.');
        // Stream, consumer, and how often it was sent; before them, in the longer form, domain and account.
        let before = match tokens.clone().count() {
            7 => 3,
            9.. => 5,
            _ => return None,
        };
        let mut numbers = tokens.skip(before);
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let (sequence, sent, nanos, pending) = (number()?, number()?, number()?, number()?);
        Some(Self { sequence, number: sent, stored_at: stamp_of(nanos.into()), pending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let info =
            MessageInfo { sequence: 7, number: 8, stored_at: Stamp::from_micros(1_700_000_000_000_001), pending: 9 };
        for form in ["EVENTS.c.1", "_.hash.EVENTS.c.1", "hub.hash.EVENTS.c.1"] {
            let subject = format!("$JS.ACK.{form}.7.8.1700000000000001234.9");
            assert_eq!(MessageInfo::parse(&subject).as_ref(), Some(&info), "{subject}");
        }
        assert_eq!(MessageInfo::parse("$JS.ACK._.hash.EVENTS.c.1.7.8.1700000000000001234.9.token.more"), Some(info));
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        let none = ["", "$JS.ACK.", "_INBOX.x", "$JS.ACK.EVENTS.c.1.7.8.9", "$JS.ACK.EVENTS.c.1.x.8.9.10"];
        assert!(none.iter().all(|subject| MessageInfo::parse(subject).is_none()));
        assert!(MessageInfo::parse("$JS.ACK._.EVENTS.c.1.7.8.9.10").is_none(), "neither form");
    }
}
