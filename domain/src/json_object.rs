//! A JSON object whose keys may be anything that JSON allows: `"\ud83d"`, half of a pair of surrogates, is a legal key and no
//! text. Read as text, one such key hides all others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// The key of a member, unescaped: UTF-8, but for halves of surrogate pairs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'a>(Cow<'a, [u8]>);

impl Key<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the key of a member")
            }

            fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_vec())))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The members of an object, of those with the same key the last one; `None` where the data is none.
pub(crate) fn members(data: &[u8]) -> Option<BTreeMap<Key<'_>, &RawValue>> {
    serde_json::from_slice(data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_other_keys_are_a_member_is_found() {
        for other in [r"\ud83d", r"\udc00x", r"\u0000", "", "é", r"a\tb"] {
            let json = format!(r#"{{"{other}":1,"k\u0065y":[2]}}"#);
            let members = members(json.as_bytes()).unwrap_or_else(|| panic!("{json}"));
            assert_eq!((members.len(), members[&Key::from("key")].get()), (2, "[2]"), "{json}");
        }
        assert!(members(b"[1]").is_none());
    }
}
