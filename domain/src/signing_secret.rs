//! The secrets of a subscription as they are kept, and what rotating them does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sealed::{NONCE_BYTES, Sealed, SealingKeys};
use crate::stamp::Stamp;
use crate::target_url::SubscriptionId;
use crate::webhook_secret::{SecretType, WebhookSecret};

/// How many secrets of a type may be current at a time: each makes every delivery's headers longer.
pub const MAX_OF_A_TYPE: usize = 5;

/// A secret of a subscription: when it signs, and itself under seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// How it signs.
    #[serde(rename = "type")]
    pub kind: SecretType,
    /// When it was made.
    pub created: Stamp,
    /// From when on it signs no more; `None`: not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Stamp>,
    /// What its signatures are verified with, where that is not the secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Itself.
    pub sealed: Sealed,
}

/// Why a secret that is kept does not become one that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// The keys are others, or it is not this subscription's.
    #[error(transparent)]
    CannotOpen(#[from] crate::sealed::CannotOpen),
    /// It opens, and holds something else.
    #[error("what is under the seal is no secret")]
    NoSecret,
}

/// As many secrets of a type as there may be are current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_OF_A_TYPE} secrets of type {kind} are current, which is the most: the first of them expires at {}; or rotate \
     with a shorter `grace_secs`: 0 ends them all now",
    .until.to_rfc3339()
)]
pub struct TooMany {
    kind: SecretType,
    until: Stamp,
}

impl SigningSecret {
    /// A secret of a subscription, made now and sealed. A nonce is taken once, and nobody can guess it.
    pub fn seal(
        secret: &WebhookSecret,
        id: &SubscriptionId,
        keys: &SealingKeys,
        nonce: [u8; NONCE_BYTES],
        now: Stamp,
    ) -> Self {
        Self {
            kind: secret.kind(),
            created: now,
            expires: None,
            public_key: secret.public_key(),
            sealed: keys.seal(secret.expose().as_bytes(), id.as_str(), nonce),
        }
    }

    /// The secret itself.
    pub fn open(&self, id: &SubscriptionId, keys: &SealingKeys) -> Result<WebhookSecret, NotOpened> {
        let plain = keys.open(&self.sealed, id.as_str())?;
        let text = std::str::from_utf8(&plain).map_err(|_| NotOpened::NoSecret)?;
        WebhookSecret::parse(text).map_err(|_| NotOpened::NoSecret)
    }

    /// Whether it signs at a moment.
    pub fn is_current(&self, now: Stamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The secrets of a subscription once a new one has been made: those of the same type expire after the grace time, or
/// before if that was decided earlier; those of the other type stay; what has expired is dropped.
pub fn rotated(secrets: &[SigningSecret], new: SigningSecret, grace: Duration) -> Result<Vec<SigningSecret>, TooMany> {
    let now = new.created;
    let end = now.plus_micros(i64::try_from(grace.as_micros()).unwrap_or(i64::MAX));
    let mut kept: Vec<SigningSecret> = secrets.to_vec();
    for secret in kept.iter_mut().filter(|secret| secret.kind == new.kind) {
        secret.expires = Some(secret.expires.map_or(end, |expires| expires.min(end)));
    }
    kept.retain(|secret| secret.is_current(now));
    let of_its_type = || kept.iter().filter(|secret| secret.kind == new.kind);
    if of_its_type().count() >= MAX_OF_A_TYPE {
        let until = of_its_type().filter_map(|secret| secret.expires).min().unwrap_or(end);
        return Err(TooMany { kind: new.kind, until });
    }
    kept.push(new);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_url::TargetUrl;
    use crate::webhook_secret::RANDOM_BYTES;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn id(url: &str) -> SubscriptionId {
        TargetUrl::parse(url).unwrap().subscription_id()
    }

    fn keys(byte: u8) -> SealingKeys {
        SealingKeys::parse(&STANDARD.encode([byte; 32])).unwrap()
    }

    fn at(seconds: i64) -> Stamp {
        Stamp::from_micros(seconds * 1_000_000)
    }

    fn made(kind: SecretType, seconds: i64) -> SigningSecret {
        let secret = WebhookSecret::new(kind, &[1; RANDOM_BYTES]);
        SigningSecret::seal(&secret, &id("http://h/"), &keys(1), [2; NONCE_BYTES], at(seconds))
    }

    /// Rotations of one type, as (moment, grace), and what is kept then, as (made, expires).
    fn after(rotations: &[(i64, u64)]) -> Vec<(i64, Option<i64>)> {
        let mut secrets = Vec::new();
        for (seconds, grace) in rotations {
            secrets = rotated(&secrets, made(SecretType::V1, *seconds), Duration::from_secs(*grace)).unwrap();
        }
        let seconds = |stamp: Stamp| stamp.as_micros() / 1_000_000;
        secrets.iter().map(|secret| (seconds(secret.created), secret.expires.map(seconds))).collect()
    }

    #[test]
    fn the_secrets_there_were_expire_after_the_grace_time_and_what_has_expired_is_dropped() {
        for (rotations, kept) in [
            (&[(100, 50)][..], vec![(100, None)]),
            (&[(100, 50), (200, 50)], vec![(100, Some(250)), (200, None)]),
            (&[(100, 50), (200, 0)], vec![(200, None)]),
            // A later rotation shortens what is left, and never lengthens it.
            (&[(100, 50), (200, 50), (210, 10)], vec![(100, Some(220)), (200, Some(220)), (210, None)]),
            (&[(100, 50), (200, 50), (210, 99)], vec![(100, Some(250)), (200, Some(309)), (210, None)]),
            (&[(100, 50), (200, 50), (250, 50)], vec![(200, Some(300)), (250, None)]),
        ] {
            assert_eq!(after(rotations), kept, "{rotations:?}");
        }
    }

    #[test]
    fn the_other_type_stays_as_it_is() {
        let first = rotated(&[], made(SecretType::V1a, 100), Duration::ZERO).unwrap();
        let both = rotated(&first, made(SecretType::V1, 200), Duration::ZERO).unwrap();
        assert_eq!((both.len(), &both[0]), (2, &first[0]));
    }

    #[test]
    fn a_secret_signs_until_it_expires() {
        let secret = SigningSecret { expires: Some(at(10)), ..made(SecretType::V1, 1) };
        assert!(secret.is_current(at(9)) && !secret.is_current(at(10)));
        assert!(made(SecretType::V1, 1).is_current(at(1_000_000_000)));
    }

    #[test]
    fn so_many_are_current_at_a_time_and_no_grace_time_ends_them() {
        let mut secrets = Vec::new();
        for seconds in 0..MAX_OF_A_TYPE {
            secrets = rotated(&secrets, made(SecretType::V1, seconds as i64), Duration::from_secs(100)).unwrap();
        }
        let one_more = |kind, grace| rotated(&secrets, made(kind, 50), Duration::from_secs(grace));
        assert!(one_more(SecretType::V1, 100).unwrap_err().to_string().contains("1970-01-01T00:01:41"));
        assert_eq!(one_more(SecretType::V1, 0).unwrap().len(), 1);
        assert_eq!(one_more(SecretType::V1a, 100).unwrap().len(), MAX_OF_A_TYPE + 1);
        let later = rotated(&secrets, made(SecretType::V1, 101), Duration::from_secs(100)).unwrap();
        assert_eq!(later.len(), MAX_OF_A_TYPE);
    }

    #[test]
    fn a_secret_opens_with_its_key_for_its_subscription_only() {
        for kind in [SecretType::V1, SecretType::V1a] {
            let kept = made(kind, 1);
            let opened = kept.open(&id("http://h/"), &keys(1)).unwrap();
            assert_eq!(*opened.expose(), *WebhookSecret::new(kind, &[1; RANDOM_BYTES]).expose());
            assert!(kept.open(&id("http://other/"), &keys(1)).is_err());
            assert!(kept.open(&id("http://h/"), &keys(2)).is_err());
            let written = serde_json::to_string(&kept).unwrap();
            assert_eq!(serde_json::from_str::<SigningSecret>(&written).unwrap(), kept);
            assert!(!written.contains("whsec_") && !written.contains("whsk_"), "{written}");
        }
    }

    #[test]
    fn what_is_under_the_seal_must_be_a_secret() {
        let sealed = keys(1).seal(b"whpk_", id("http://h/").as_str(), [3; NONCE_BYTES]);
        let kept = SigningSecret { sealed, ..made(SecretType::V1, 1) };
        assert_eq!(kept.open(&id("http://h/"), &keys(1)).map(drop), Err(NotOpened::NoSecret));
    }
}
