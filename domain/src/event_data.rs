//! The payload of an event posted to the receiver: a JSON object, kept byte for byte but for white space.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

use crate::field_error::FieldError;
use crate::json_object::Key;

/// The key by which events belong together.
pub const TRANSACTION_ID: &str = "transaction_id";
const REDIRECT_URL: &str = "redirect_url";
/// The longest transaction id, in bytes.
pub const MAX_TRANSACTION_ID_BYTES: usize = 256;

/// A JSON object in compact form. Numbers, escapes, key order and repeated keys stay as they were sent: only white
/// space between tokens is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventData {
    compact: Vec<u8>,
    transaction_id: Option<String>,
    redirect_url: Option<Url>,
}

/// Why a body is not the payload of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEventData {
    /// It is not UTF-8.
    #[error("the body is not UTF-8: {0}")]
    NotUtf8(std::str::Utf8Error),
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not what an event may be.
    #[error("the body is not an event's data")]
    Unacceptable(Vec<FieldError>),
}

/// The keys that mean something to the receiver. An absent key is `None`, a `null` is `Some`.
#[derive(Default)]
struct KnownKeys<'a> {
    transaction_id: Option<&'a RawValue>,
    redirect_url: Option<&'a RawValue>,
}

/// Not derived: a derived one reads every key as text, which not every key is.
impl<'de: 'a, 'a> Deserialize<'de> for KnownKeys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = KnownKeys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<KnownKeys<'de>, A::Error> {
                let mut known = KnownKeys::default();
                while let Some(key) = members.next_key::<Key<'de>>()? {
                    let (place, name) = match key.as_bytes() {
                        b"transaction_id" => (&mut known.transaction_id, TRANSACTION_ID),
                        b"redirect_url" => (&mut known.redirect_url, REDIRECT_URL),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if place.replace(members.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field(name));
                    }
                }
                Ok(known)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl EventData {
    /// Reads a body: a JSON object; `transaction_id`, if there, a non-empty string; `redirect_url`, if a non-empty
    /// string, an absolute `http` or `https` URL.
    pub fn parse(body: &[u8]) -> Result<Self, NotEventData> {
        let text = std::str::from_utf8(body).map_err(NotEventData::NotUtf8)?;
        let is_object = text.trim_start().starts_with('{');
        let known = match serde_json::from_str::<KnownKeys<'_>>(text) {
            Ok(known) if is_object => known,
            known => return Err(what_it_is_not(text, is_object, known.err())),
        };

        let mut faults = Vec::new();
        let transaction_id = known.transaction_id.and_then(|raw| parse_transaction_id(raw, &mut faults));
        let redirect_url = known.redirect_url.and_then(|raw| parse_redirect_url(raw, &mut faults));
        if faults.is_empty() {
            Ok(Self { compact: compact(text), transaction_id, redirect_url })
        } else {
            Err(NotEventData::Unacceptable(faults))
        }
    }

    /// The transaction that the data names.
    pub fn transaction_id(&self) -> Option<&str> {
        self.transaction_id.as_deref()
    }

    /// Where the sender wants to be sent on to.
    pub fn redirect_url(&self) -> Option<&Url> {
        self.redirect_url.as_ref()
    }

    /// The transaction's id and the bytes to store; where the data names no transaction, `default` is added as its
    /// last key. `default` is plain ASCII, as a stamp is.
    pub fn into_transaction(mut self, default: &str) -> (String, Bytes) {
        if let Some(id) = self.transaction_id {
            return (id, self.compact.into());
        }
        self.compact.pop();
        if self.compact.len() > 1 {
            self.compact.push(b',');
        }
        self.compact.extend_from_slice(format!("\"{TRANSACTION_ID}\":\"{default}\"}}").as_bytes());
        (default.to_owned(), self.compact.into())
    }
}

/// Why a text is no event's data, where that is so because it is no JSON, no object, or has a key twice.
fn what_it_is_not(text: &str, is_object: bool, error: Option<serde_json::Error>) -> NotEventData {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return NotEventData::NotJson(error.to_string());
    }
    let detail = match error {
        Some(error) if is_object => error.to_string(),
        _ => "an event's data is a JSON object, like `{\"name\": \"cat\"}`".to_owned(),
    };
    NotEventData::Unacceptable(vec![FieldError::at("", detail)])
}

/// The transaction id in a JSON object of any origin, if it has one that is a non-empty string.
pub fn transaction_id_of(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let known: KnownKeys<'_> = serde_json::from_str(text).ok()?;
    parse_transaction_id(known.transaction_id?, &mut Vec::new())
}

fn parse_transaction_id(raw: &RawValue, faults: &mut Vec<FieldError>) -> Option<String> {
    match serde_json::from_str::<String>(raw.get()) {
        Ok(id) if !id.is_empty() && id.len() <= MAX_TRANSACTION_ID_BYTES => return Some(id),
        Ok(id) => faults.push(FieldError::at(
            "/transaction_id",
            format!("it has {} bytes; a transaction id has 1 to {MAX_TRANSACTION_ID_BYTES}", id.len()),
        )),
        Err(_) => faults.push(FieldError::at("/transaction_id", "it must be a string; leave it out to have one made")),
    }
    None
}

fn parse_redirect_url(raw: &RawValue, faults: &mut Vec<FieldError>) -> Option<Url> {
    if raw.get() == "null" {
        return None;
    }
    let Ok(text) = serde_json::from_str::<String>(raw.get()) else {
        faults.push(FieldError::at("/redirect_url", "it must be a string with an http or https URL"));
        return None;
    };
    if text.is_empty() {
        return None;
    }
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Some(url),
        Ok(url) => {
            let detail = format!("its scheme is `{}`; it must be `http` or `https`", url.scheme());
            faults.push(FieldError::at("/redirect_url", detail));
        }
        Err(e) => faults.push(FieldError::at("/redirect_url", format!("not an absolute URL: {e}"))),
    }
    None
}

/// Valid JSON without the white space between its tokens.
pub fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 64);
    let (mut in_string, mut escaped, mut copied) = (false, false, 0);
    for (at, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            out.extend_from_slice(&json.as_bytes()[copied..at]);
            copied = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.extend_from_slice(&json.as_bytes()[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(body: &str) -> String {
        let (_, bytes) = EventData::parse(body.as_bytes()).unwrap().into_transaction("T");
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn faults(body: &str) -> Vec<FieldError> {
        match EventData::parse(body.as_bytes()) {
            Err(NotEventData::Unacceptable(faults)) => faults,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_transaction_id_is_added_last_only_where_none_is_given() {
        assert_eq!(stored(r#"{"name": "cat"}"#), r#"{"name":"cat","transaction_id":"T"}"#);
        assert_eq!(stored(" { } "), r#"{"transaction_id":"T"}"#);
        assert_eq!(stored(r#"{"transaction_id": "X", "a": 1}"#), r#"{"transaction_id":"X","a":1}"#);
        assert_eq!(stored(r#"{"in": {"transaction_id": 5}}"#), r#"{"in":{"transaction_id":5},"transaction_id":"T"}"#);
    }

    #[test]
    fn a_key_that_is_no_text_hides_no_other() {
        let body = r#"{"\ud83d":1,"transaction_id":"T","\udc00":2}"#;
        assert_eq!(stored(body), body);
        assert_eq!(transaction_id_of(body.as_bytes()).as_deref(), Some("T"));
    }

    #[test]
    fn all_but_white_space_stays_byte_for_byte() {
        let body = "{ \"big\" : 123456789012345678901234567890 , \"f\": 1.50e+01,\n\t\"s\": \"a \\\" b\\\\\" , \"é\\u00e9\": [ ], \"big\": -0 }";
        let expected = r#"{"big":123456789012345678901234567890,"f":1.50e+01,"s":"a \" b\\","é\u00e9":[],"big":-0,"transaction_id":"T"}"#;
        assert_eq!(stored(body), expected);
    }

    #[test]
    fn a_redirect_is_taken_from_a_non_empty_http_url_only() {
        let redirect = |body: &str| EventData::parse(body.as_bytes()).unwrap().redirect_url().map(Url::to_string);
        assert_eq!(redirect(r#"{"redirect_url":"https://host/done?x=1"}"#).as_deref(), Some("https://host/done?x=1"));
        assert_eq!(redirect(r#"{"redirect_url":""}"#), None);
        assert_eq!(redirect(r#"{"redirect_url":null}"#), None);
        assert_eq!(redirect("{}"), None);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let named = faults(r#"{"transaction_id": 5, "redirect_url": "javascript:alert(1)"}"#);
        let pointers: Vec<_> = named.iter().map(|f| format!("{:?}", f.place)).collect();
        assert_eq!(pointers, [r#"Pointer("/transaction_id")"#, r#"Pointer("/redirect_url")"#]);
        for body in [
            "[]",
            "5",
            "null",
            "\"x\"",
            r#"{"transaction_id":null}"#,
            r#"{"transaction_id":""}"#,
            r#"{"redirect_url":5}"#,
            r#"{"redirect_url":"/done"}"#,
            r#"{"transaction_id":"a","transaction_id":"b"}"#,
        ] {
            assert!(!faults(body).is_empty(), "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_not_json() {
        for body in ["", "{", "{\"a\":}", "{'a':1}", "{} {}", "nul", "{\"a\":01}", "{\"a\":NaN}"] {
            assert!(matches!(EventData::parse(body.as_bytes()), Err(NotEventData::NotJson(_))), "{body}");
        }
        assert!(matches!(EventData::parse(b"{\"a\":\"\xff\"}"), Err(NotEventData::NotUtf8(_))));
    }

    #[test]
    fn deep_nesting_is_data_like_any_other() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(EventData::parse(deep.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn compacting_does_not_change_what_it_means(keys in prop::collection::vec(("[a-z \"\\\\]{1,8}", any::<String>()), 0..6)) {
            let map: serde_json::Map<String, serde_json::Value> = keys.into_iter().map(|(k, v)| (k, v.into())).collect();
            let pretty = serde_json::to_string_pretty(&map).unwrap();
            prop_assert_eq!(compact(&pretty), serde_json::to_vec(&map).unwrap());
        }
    }

    #[test]
    fn what_is_no_object_is_told_from_an_object_with_a_fault() {
        let detail = |body: &str| match EventData::parse(body.as_bytes()) {
            Err(NotEventData::Unacceptable(faults)) => faults[0].detail.clone(),
            other => panic!("{body}: {other:?}"),
        };
        for body in ["[1]", "null", "\"x\"", "[]", "[null,null]"] {
            assert!(detail(body).contains("is a JSON object"), "{body}");
        }
        let twice = r#"{"transaction_id":"a","transaction_id":"b"}"#;
        assert!(!detail(twice).contains("is a JSON object"), "{}", detail(twice));
        let named = EventData::parse(br#"{"transaction_id":"T"}"#).unwrap();
        assert_eq!(named.transaction_id(), Some("T"));
        assert_eq!(EventData::parse(b"{}").unwrap().transaction_id(), None);
    }
}
