//! What only mer may read, sealed for a place that others read: XChaCha20-Poly1305, whose nonce is long enough to be
//! picked at random.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;
/// How many random bytes each sealing takes.
pub const NONCE_BYTES: usize = 24;
/// What a sealed text begins with: how it was sealed.
const PREFIX: &str = "xchacha20poly1305:";

/// Keys that seal and open. The first one seals, each may open: so a new one can be put first while old ones are still
/// needed. They do not say themselves where they are shown for debugging.
#[derive(Clone)]
pub struct SealingKeys(Arc<[XChaCha20Poly1305]>);

/// Something sealed: `xchacha20poly1305:` and base64 of nonce and ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed {
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
}

/// Why a text is not a list of keys. It does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "key {number} of {count} is not base64 of {KEY_BYTES} bytes: make one with `openssl rand -base64 {KEY_BYTES}`, and \
     separate several with commas"
)]
pub struct NotAKey {
    /// Which one, counted from 1.
    pub number: usize,
    /// Of how many.
    pub count: usize,
}

/// A text does not look like something sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not `{PREFIX}` and base64 of a nonce and what it sealed")]
pub struct NotSealed;

/// None of the keys has sealed this for this place, or it was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the keys opens it")]
pub struct CannotOpen;

impl SealingKeys {
    /// Reads keys, each base64 of [`KEY_BYTES`] bytes, separated by commas.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let count = text.split(',').count();
        let key = |(i, base64): (usize, &str)| {
            let bytes = STANDARD.decode(base64.trim()).map(Zeroizing::new).ok();
            let key = bytes.and_then(|bytes| XChaCha20Poly1305::new_from_slice(&bytes).ok());
            key.ok_or(NotAKey { number: i + 1, count })
        };
        text.split(',').enumerate().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Seals something with the first key. `place` says where it belongs: elsewhere it does not open. A nonce is taken
    /// once, and nobody can guess it.
    pub fn seal(&self, plain: &[u8], place: &str, nonce: [u8; NONCE_BYTES]) -> Sealed {
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let ciphertext = self.0[0].encrypt(XNonce::from_slice(&nonce), payload);
        Sealed { nonce, ciphertext: ciphertext.expect("what is sealed is shorter than 256 GiB") }
    }

    /// What was sealed for this place with one of the keys.
    pub fn open(&self, sealed: &Sealed, place: &str) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let nonce = XNonce::from_slice(&sealed.nonce);
        let payload = || Payload { msg: &sealed.ciphertext, aad: place.as_bytes() };
        self.0.iter().find_map(|key| key.decrypt(nonce, payload()).ok()).map(Zeroizing::new).ok_or(CannotOpen)
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({}, …)", self.0.len())
    }
}

impl TryFrom<String> for Sealed {
    type Error = NotSealed;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let base64 = text.strip_prefix(PREFIX).ok_or(NotSealed)?;
        let bytes = STANDARD.decode(base64).map_err(|_| NotSealed)?;
        let (nonce, ciphertext) = bytes.split_first_chunk().ok_or(NotSealed)?;
        Ok(Self { nonce: *nonce, ciphertext: ciphertext.to_vec() })
    }
}

impl From<Sealed> for String {
    fn from(Sealed { nonce, ciphertext }: Sealed) -> Self {
        format!("{PREFIX}{}", STANDARD.encode([nonce.as_slice(), &ciphertext].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_BYTES] = [9; NONCE_BYTES];

    fn text_of(keys: &[u8]) -> String {
        let keys: Vec<String> = keys.iter().map(|byte| STANDARD.encode([*byte; KEY_BYTES])).collect();
        keys.join(",")
    }

    fn keys(keys: &[u8]) -> SealingKeys {
        SealingKeys::parse(&text_of(keys)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_any_of_the_keys_at_its_place_only() {
        let sealed = keys(&[1]).seal(b"secret", "here", NONCE);
        for (opening, place, opens) in [
            (&[1][..], "here", true),
            (&[2, 1], "here", true),
            (&[1, 2], "here", true),
            (&[2], "here", false),
            (&[1], "there", false),
        ] {
            let opened = keys(opening).open(&sealed, place);
            let expected = if opens { Ok(b"secret".to_vec()) } else { Err(CannotOpen) };
            assert_eq!(opened.map(|plain| plain.to_vec()), expected, "{opening:?} {place}");
        }
        let by_the_first = keys(&[2, 1]).seal(b"secret", "here", NONCE);
        assert!(keys(&[2]).open(&by_the_first, "here").is_ok() && keys(&[1]).open(&by_the_first, "here").is_err());
    }

    #[test]
    fn what_was_tampered_with_does_not_open() {
        let sealed = keys(&[1]).seal(b"secret", "here", NONCE);
        for i in 0..sealed.ciphertext.len() {
            let mut tampered = sealed.clone();
            tampered.ciphertext[i] ^= 1;
            assert_eq!(keys(&[1]).open(&tampered, "here").map(drop), Err(CannotOpen), "{i}");
        }
        let other_nonce = Sealed { nonce: [8; NONCE_BYTES], ..sealed.clone() };
        let cut = Sealed { ciphertext: Vec::new(), ..sealed };
        assert!(keys(&[1]).open(&other_nonce, "here").is_err() && keys(&[1]).open(&cut, "here").is_err());
    }

    #[test]
    fn it_is_written_as_a_text_that_does_not_hold_the_secret() {
        let sealed = keys(&[1]).seal(b"secret", "here", NONCE);
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(text.starts_with("\"xchacha20poly1305:CQkJ") && !text.contains(&STANDARD.encode("secret")), "{text}");
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
        for bad in ["\"\"", "\"CQkJ\"", "\"xchacha20poly1305:CQkJ\"", "\"xchacha20poly1305:%\"", "1"] {
            assert!(serde_json::from_str::<Sealed>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_named_by_number_and_never_shown() {
        let short = STANDARD.encode([1; 31]);
        for (text, number, count) in
            [("", 1, 1), ("%", 1, 1), (&short, 1, 1), (&format!("{},{short}", text_of(&[1])), 2, 2)]
        {
            assert_eq!(SealingKeys::parse(text).map(|_| ()), Err(NotAKey { number, count }), "{text}");
        }
        let spaced = format!(" {} , {}\n", text_of(&[1]), text_of(&[2]));
        assert_eq!(format!("{:?}", SealingKeys::parse(&spaced).unwrap()), "SealingKeys(2, …)");
    }
}
