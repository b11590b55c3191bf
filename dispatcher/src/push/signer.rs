//! What the requests to one target are signed with.

use domain::signing_secret::NotOpened;
use domain::webhook_signature::{self, Id, header};
use domain::{SealingKeys, SigningSecret, Stamp, Subscription, SubscriptionId, WebhookSecret};

/// The secrets of a subscription, opened once for as long as the same is asked for.
pub struct Signer(Vec<Opened>);

struct Opened {
    kept: SigningSecret,
    secret: Result<WebhookSecret, CannotSign>,
}

/// The headers that sign a request; none where the subscription has no secrets.
pub(crate) type Signature = Vec<(&'static str, String)>;

/// Why a request is not made: it would not be signed with every current secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSign {
    /// The setting is missing.
    #[error("not sent: the subscription has a secret, and this dispatcher has no `MER_SECRET_KEY` to open it with")]
    NoKeys,
    /// The setting is another one than that which sealed it.
    #[error("not sent: the subscription's secret of type {kind} does not open with `MER_SECRET_KEY`: {reason}")]
    NotOpened {
        /// Which one.
        kind: domain::SecretType,
        /// What is the matter.
        reason: NotOpened,
    },
    /// Nothing that rotating does leaves it so.
    #[error("not sent: every secret of the subscription has expired: rotate it")]
    AllExpired,
}

impl Signer {
    /// Opens the secrets of a subscription. One that does not open matters only when it is to sign.
    pub fn open(id: &SubscriptionId, subscription: &Subscription, keys: Option<&SealingKeys>) -> Self {
        let open = |kept: &SigningSecret| match keys {
            Some(keys) => kept.open(id, keys).map_err(|reason| CannotSign::NotOpened { kind: kept.kind, reason }),
            None => Err(CannotSign::NoKeys),
        };
        Self(subscription.secrets.iter().map(|kept| Opened { secret: open(kept), kept: kept.clone() }).collect())
    }

    /// Signs a request that is made now.
    pub fn sign(&self, id: &Id, body: &[u8], now: Stamp) -> Result<Signature, CannotSign> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let current = self.0.iter().filter(|opened| opened.kept.is_current(now));
        let secrets: Vec<&WebhookSecret> =
            current.map(|opened| opened.secret.as_ref().map_err(|error| *error)).collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            return Err(CannotSign::AllExpired);
        }
        let (id, timestamp) = (id.to_string(), webhook_signature::timestamp_of(now));
        let signatures = webhook_signature::signatures(secrets, &id, &timestamp, body);
        Ok(vec![(header::ID, id), (header::TIMESTAMP, timestamp), (header::SIGNATURE, signatures)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{SecretType, TargetUrl};

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_500_000);

    fn msg_1() -> Id {
        Id::Text("msg_1".to_owned())
    }

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).unwrap()
    }

    fn subscription(expiries: &[Option<i64>], key: &SealingKeys) -> (SubscriptionId, Subscription) {
        let mut subscription = Subscription::new(TargetUrl::parse("http://h/").unwrap());
        let id = subscription.url.subscription_id();
        for (i, seconds) in (1..).zip(expiries) {
            let secret = WebhookSecret::new(SecretType::V1, &[i; 32]);
            let kept = SigningSecret::seal(&secret, &id, key, [i; 24], NOW);
            let expires = seconds.map(|seconds| NOW.plus_micros(seconds * 1_000_000));
            subscription.secrets.push(SigningSecret { expires, ..kept });
        }
        (id, subscription)
    }

    #[test]
    fn a_request_is_signed_with_every_current_secret_or_not_made() {
        let (here, elsewhere) = (keys(&format!("{}=", "A".repeat(43))), keys(&format!("{}E=", "A".repeat(42))));
        let not_opened = CannotSign::NotOpened { kind: SecretType::V1, reason: domain::sealed::CannotOpen.into() };
        for (expiries, keys, signed) in [
            (&[][..], None, Ok(None)),
            (&[None], Some(&here), Ok(Some(1))),
            (&[Some(60), None], Some(&here), Ok(Some(2))),
            (&[Some(-60), None], Some(&here), Ok(Some(1))),
            (&[Some(0)], Some(&here), Err(CannotSign::AllExpired)),
            (&[None], None, Err(CannotSign::NoKeys)),
            (&[Some(60), None], Some(&elsewhere), Err(not_opened)),
        ] {
            let (id, subscription) = subscription(expiries, &here);
            let signature = Signer::open(&id, &subscription, keys).sign(&msg_1(), b"{}", NOW);
            let count = |signature: Signature| signature.last().map(|(_, value)| value.matches("v1,").count());
            assert_eq!(signature.map(count), signed, "{expiries:?}");
        }
    }

    #[test]
    fn a_secret_that_does_not_open_is_no_matter_once_it_has_expired() {
        let (first, second) = (keys(&format!("{}=", "A".repeat(43))), keys(&format!("{}E=", "A".repeat(42))));
        let (id, mut both) = subscription(&[Some(60)], &first);
        both.secrets.extend(subscription(&[None], &second).1.secrets);
        let signer = Signer::open(&id, &both, Some(&second));
        assert!(signer.sign(&msg_1(), b"", NOW).is_err());
        let later = signer.sign(&msg_1(), b"", NOW.plus_micros(60_000_000)).unwrap();
        assert_eq!(later[..2], [(header::ID, "msg_1".to_owned()), (header::TIMESTAMP, "1700000060".to_owned())]);
    }
}
