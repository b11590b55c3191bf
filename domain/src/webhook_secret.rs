//! A secret that deliveries are signed with, after Standard Webhooks.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How many random bytes a new secret is made of.
pub const RANDOM_BYTES: usize = 32;
/// The shortest and the longest symmetric secret, in bytes.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What HMAC-SHA256 hashes at a time, in bytes: a key of up to so many is the same with zeros behind it (RFC 2104).
const BLOCK_BYTES: usize = 64;

const SYMMETRIC_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// How a secret signs. Written as the name that its signatures begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretType {
    /// HMAC-SHA256; the verifier has the same secret.
    #[default]
    V1,
    /// ed25519; the verifier has the public key.
    V1a,
}

/// A secret. It does not say itself where it is shown for debugging, and is wiped from memory when it is dropped.
pub struct WebhookSecret(Key);

enum Key {
    Symmetric(Zeroizing<Vec<u8>>),
    Ed25519(Box<SigningKey>),
}

/// Why a text is not a secret. None of them repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// It begins with neither prefix.
    #[error("a secret begins with `{SYMMETRIC_PREFIX}`, or with `{PRIVATE_PREFIX}` for ed25519")]
    Prefix,
    /// What follows is no base64.
    #[error("a secret is base64 behind its prefix")]
    Base64,
    /// It has too few or too many bytes.
    #[error("a secret has 24 to 64 bytes, one for ed25519 has 32; this one has {0}")]
    Length(usize),
}

impl SecretType {
    /// Reads the name of a type.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::V1, Self::V1a].into_iter().find(|known| known.as_str() == name)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }
}

impl fmt::Display for SecretType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl WebhookSecret {
    /// A new secret out of bytes that nobody can guess.
    pub fn new(kind: SecretType, random: &[u8; RANDOM_BYTES]) -> Self {
        Self(match kind {
            SecretType::V1 => Key::Symmetric(Zeroizing::new(random.to_vec())),
            SecretType::V1a => Key::Ed25519(Box::new(SigningKey::from_bytes(random))),
        })
    }

    /// Reads `whsec_…` or `whsk_…`.
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let decode = |base64: &str| STANDARD.decode(base64).map(Zeroizing::new).map_err(|_| NotASecret::Base64);
        if let Some(base64) = text.strip_prefix(SYMMETRIC_PREFIX) {
            let bytes = decode(base64)?;
            return match SYMMETRIC_BYTES.contains(&bytes.len()) {
                true => Ok(Self(Key::Symmetric(bytes))),
                false => Err(NotASecret::Length(bytes.len())),
            };
        }
        let bytes = decode(text.strip_prefix(PRIVATE_PREFIX).ok_or(NotASecret::Prefix)?)?;
        let seed: &[u8; RANDOM_BYTES] = bytes.as_slice().try_into().map_err(|_| NotASecret::Length(bytes.len()))?;
        Ok(Self::new(SecretType::V1a, seed))
    }

    /// How it signs.
    pub fn kind(&self) -> SecretType {
        match self.0 {
            Key::Symmetric(_) => SecretType::V1,
            Key::Ed25519(_) => SecretType::V1a,
        }
    }

    /// The secret itself, `whsec_…` or `whsk_…`: to be sealed, or to be answered once to the user who asked for it.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.0 {
            Key::Symmetric(bytes) => format!("{SYMMETRIC_PREFIX}{}", STANDARD.encode(bytes)),
            Key::Ed25519(key) => format!("{PRIVATE_PREFIX}{}", STANDARD.encode(key.as_bytes())),
        })
    }

    /// What its signatures are verified with, where that is not the secret itself: `whpk_…`.
    pub fn public_key(&self) -> Option<String> {
        match &self.0 {
            Key::Symmetric(_) => None,
            Key::Ed25519(key) => Some(format!("{PUBLIC_PREFIX}{}", STANDARD.encode(key.verifying_key().as_bytes()))),
        }
    }

    /// A signature as it is sent, `v1,<base64>` or `v1a,<base64>`.
    pub(crate) fn sign(&self, content: &[u8]) -> String {
        let signature = match &self.0 {
            Key::Symmetric(bytes) => {
                let mut block = Zeroizing::new([0; BLOCK_BYTES]);
                block[..bytes.len()].copy_from_slice(bytes);
                let mut hmac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into());
                hmac.update(content);
                STANDARD.encode(hmac.finalize().into_bytes())
            }
            Key::Ed25519(key) => STANDARD.encode(key.sign(content).to_bytes()),
        };
        format!("{},{signature}", self.kind())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecret({}, …)", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        for kind in [SecretType::V1, SecretType::V1a] {
            let secret = WebhookSecret::new(kind, &[7; RANDOM_BYTES]);
            let again = WebhookSecret::parse(&secret.expose()).unwrap();
            assert_eq!((again.kind(), &again.expose()), (kind, &secret.expose()));
            assert_eq!(again.sign(b"x"), secret.sign(b"x"));
            assert_eq!(SecretType::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let of = |prefix: &str, bytes: usize| format!("{prefix}{}", STANDARD.encode(vec![0; bytes]));
        for (text, refused) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), NotASecret::Prefix),
            (of("whpk_", 32), NotASecret::Prefix),
            ("whsec_%".to_owned(), NotASecret::Base64),
            (of("whsec_", 23), NotASecret::Length(23)),
            (of("whsec_", 65), NotASecret::Length(65)),
            (of("whsk_", 31), NotASecret::Length(31)),
            (of("whsk_", 64), NotASecret::Length(64)),
        ] {
            assert_eq!(WebhookSecret::parse(&text).map(|_| ()), Err(refused), "{text}");
        }
        for good in [of("whsec_", 24), of("whsec_", 64), of("whsk_", 32)] {
            assert!(WebhookSecret::parse(&good).is_ok(), "{good}");
        }
    }

    #[test]
    fn only_ed25519_has_a_public_key_and_neither_secret_shows_itself() {
        let symmetric = WebhookSecret::new(SecretType::V1, &[0x41; RANDOM_BYTES]);
        let ed25519 = WebhookSecret::new(SecretType::V1a, &[0x41; RANDOM_BYTES]);
        assert_eq!(symmetric.public_key(), None);
        assert!(ed25519.public_key().unwrap().starts_with("whpk_"));
        assert_eq!(format!("{symmetric:?} {ed25519:?}"), "WebhookSecret(v1, …) WebhookSecret(v1a, …)");
    }
}
