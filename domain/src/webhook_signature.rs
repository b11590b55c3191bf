//! How a request to a target is signed, after Standard Webhooks:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::event::Event;
use crate::stamp::Stamp;
use crate::subscription::Test;
use crate::webhook_secret::WebhookSecret;

/// Header names of Standard Webhooks.
pub mod header {
    /// What is signed with the body; the same whenever the same event is sent.
    pub const ID: &str = "webhook-id";
    /// When this attempt was made, in seconds since 1970.
    pub const TIMESTAMP: &str = "webhook-timestamp";
    /// A signature by every current secret, separated by spaces.
    pub const SIGNATURE: &str = "webhook-signature";
}

/// A `webhook-id`. It is written out only where something is signed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// That of an event.
    Event {
        /// The event's place in the log.
        sequence: u64,
        /// When the log took it.
        stored_at: Stamp,
    },
    /// Another one.
    Text(String),
}

/// The `webhook-id` of an event: the same in every attempt, in every replay and for every URL, and no other event's.
///
/// `ce-id` is not it: senders choose it, it is unique for one source only, and it has full stops in it, which separate
/// what is signed. The sequence alone is not it either: a log that was restored from an older copy gives numbers out
/// again, and a target that remembers ids would take a new event for an old one. So the moment of storing is part of it.
pub fn id_of(event: &Event) -> Id {
    Id::Event { sequence: event.sequence, stored_at: event.stored_at }
}

/// The `webhook-id` of events that are delivered together: that of the first with a digest of which they are. It is
/// the same in every attempt at the same ones; with one more or one less among them it is another one, so that a target
/// which remembers ids takes no batch for one that it has had.
pub fn id_of_batch<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Id> {
    let mut events = events.into_iter().peekable();
    let first = id_of(events.peek()?);
    let mut digest = Sha256::new();
    for event in events {
        digest.update(event.sequence.to_be_bytes());
    }
    let digest = digest.finalize();
    Some(Id::Text(format!("{first}_{}", URL_SAFE_NO_PAD.encode(&digest[..12]))))
}

/// The `webhook-id` of a test.
pub fn id_of_test(test: &Test) -> Id {
    Id::Text(format!("msg_{}", test.id))
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { sequence, stored_at } => write!(f, "msg_{sequence}_{}", stored_at.as_micros()),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The value of [`header::TIMESTAMP`].
pub fn timestamp_of(now: Stamp) -> String {
    now.as_micros().div_euclid(1_000_000).to_string()
}

/// The value of [`header::SIGNATURE`].
pub fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a WebhookSecret>,
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> String {
    let content = [id.as_bytes(), timestamp.as_bytes(), body].join(&b'.');
    let signatures: Vec<String> = secrets.into_iter().map(|secret| secret.sign(&content)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook_secret::{RANDOM_BYTES, SecretType};
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use ed25519_dalek::{Signature, Verifier, VerifyingKey};

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    #[test]
    fn the_example_of_standard_webhooks_is_signed_as_it_says() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = timestamp_of(Stamp::from_micros(1_614_265_330_999_999));
        assert_eq!(
            signatures([&secret], ID, &at, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn every_secret_signs_and_an_ed25519_signature_verifies_with_the_public_key_alone() {
        let symmetric = WebhookSecret::new(SecretType::V1, &[1; RANDOM_BYTES]);
        let ed25519 = WebhookSecret::new(SecretType::V1a, &[2; RANDOM_BYTES]);
        let value = signatures([&symmetric, &ed25519], ID, "7", b"\xff{}");
        let (first, second) = value.split_once(' ').unwrap();
        assert_eq!(first, signatures([&symmetric], ID, "7", b"\xff{}"));
        let public_key = ed25519.public_key().unwrap();
        let public_key = STANDARD.decode(public_key.strip_prefix("whpk_").unwrap()).unwrap();
        let public_key = VerifyingKey::from_bytes(&public_key.try_into().unwrap()).unwrap();
        let signature = STANDARD.decode(second.strip_prefix("v1a,").unwrap()).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        assert!(public_key.verify(b"msg_p5jXN8AQM9LWM0D4loKWxJek.7.\xff{}", &signature).is_ok());
        assert!(public_key.verify(b"msg_p5jXN8AQM9LWM0D4loKWxJek.8.\xff{}", &signature).is_err());
    }

    #[test]
    fn an_id_is_the_events_own_and_has_no_full_stop() {
        let event = |sequence: u64, at: i64| {
            let at = Stamp::from_micros(at);
            Event::from_message("EVENTS", "events.a.b", sequence, at, [("ce-id", "a.b")], Bytes::new()).unwrap()
        };
        assert_eq!(id_of(&event(17, 5)).to_string(), "msg_17_5");
        assert_ne!(id_of(&event(17, 5)), id_of(&event(17, 6)), "of a log that gives numbers out again");
        let batch = |sequences: &[u64]| {
            let events: Vec<Event> = sequences.iter().map(|n| event(*n, 5)).collect();
            id_of_batch(&events).map(|id| id.to_string())
        };
        let three = batch(&[1, 2, 3]).unwrap();
        assert!(three.starts_with("msg_1_5_") && !three.contains('.'), "{three}");
        assert_eq!(batch(&[1, 2, 3]), Some(three.clone()));
        for other in [&[1, 3][..], &[1, 2, 3, 4], &[1]] {
            assert_ne!(batch(other), Some(three.clone()));
        }
        assert_eq!(batch(&[]), None);
    }
}
