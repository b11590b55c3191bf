//! The URL that events are pushed to, and the name that is derived from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

/// The longest URL, in bytes, as it is stored and sent: percent-encoded.
pub const MAX_BYTES: usize = 2048;
/// The longest readable part of an id, in characters.
const MAX_SLUG: usize = 60;
/// Bytes of SHA-256 in an id: 64 bits, as hexadecimal.
const ID_HASH_BYTES: usize = 8;

/// An absolute `http` or `https` URL with a host and without a fragment, normalised as the URL standard does.
///
/// It serialises whole. It displays without user information and query, where secrets live: use that in logs and
/// metadata, and [`TargetUrl::as_url`] only to connect.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetUrl(Url);

/// Why a text is not a URL that events can be pushed to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// It is over [`MAX_BYTES`].
    #[error("a URL has at most {MAX_BYTES} bytes, percent-encoded; this one has {0}")]
    TooLong(usize),
    /// It does not parse as an absolute URL.
    #[error("not an absolute URL like `http://host:port/path`: {0}")]
    Malformed(String),
    /// Its scheme is neither `http` nor `https`.
    #[error("the scheme is `{0}`; it must be `http` or `https`")]
    Scheme(String),
    /// It has a part after `#`, which is never sent.
    #[error("it has a fragment (`#…`), which is never sent: leave it out")]
    Fragment,
    /// It is no URL as RFC 3986 has it, though programs take it for one, and not all for the same.
    #[error("{0}: write it like `http://host:port/path`, percent-encoded")]
    Spelling(&'static str),
}

impl TargetUrl {
    /// Reads a URL as a request has it. See [`NotATarget`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, NotATarget> {
        if text.len() > MAX_BYTES {
            return Err(NotATarget::TooLong(text.len()));
        }
        let url = Self::read(text)?;
        url.is_spelt_by(text)?;
        match url.0.as_str().len() {
            ..=MAX_BYTES => Ok(url),
            bytes => Err(NotATarget::TooLong(bytes)),
        }
    }

    /// Reads a URL, however long: earlier builds bounded what was typed, and stored what is longer percent-encoded.
    fn read(text: &str) -> Result<Self, NotATarget> {
        let url = Url::parse(text).map_err(|e| NotATarget::Malformed(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotATarget::Scheme(url.scheme().to_owned()));
        }
        if url.fragment().is_some() {
            return Err(NotATarget::Fragment);
        }
        Ok(Self(url))
    }

    /// Refuses what the URL standard mends without a word.
    fn is_spelt_by(&self, text: &str) -> Result<(), NotATarget> {
        let behind_scheme = text.get(self.0.scheme().len()..).unwrap_or_default();
        let authority = behind_scheme.strip_prefix("://").unwrap_or_default();
        if text.contains(|c: char| c.is_ascii_control()) {
            Err(NotATarget::Spelling("it has a control character"))
        } else if text.starts_with(' ') || text.ends_with(' ') {
            Err(NotATarget::Spelling("it has a space at its beginning or end"))
        } else if text.contains('\\') {
            Err(NotATarget::Spelling("it has a backslash"))
        } else if authority.is_empty() || authority.starts_with('/') {
            Err(NotATarget::Spelling("two slashes stand behind the scheme, no fewer and no more"))
        } else {
            Ok(())
        }
    }

    /// The one of its spellings that RFC 3986, section 6.2.2, calls equal under which a new subscription is made: what needs no
    /// percent-encoding has none, and the others are in upper case. The URL standard has seen to the rest.
    pub fn normalised(&self) -> Self {
        let text = self.0.as_str();
        let mut normal = String::with_capacity(text.len());
        let mut pieces = text.split('%');
        normal.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let encoded = digits.and_then(|digits| Some((u8::from_str_radix(digits, 16).ok()?, digits)));
            match encoded {
                Some((byte, _)) if is_unreserved(byte) => normal.push(byte.into()),
                Some((_, digits)) => normal.extend(['%'].into_iter().chain(digits.to_ascii_uppercase().chars())),
                None => normal.push('%'),
            }
            normal.push_str(if encoded.is_some() { &piece[2..] } else { piece });
        }
        Self::read(&normal).unwrap_or_else(|_| self.clone())
    }

    /// The whole URL, secrets and all.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The id of the subscription of this URL, in this spelling.
    pub fn subscription_id(&self) -> SubscriptionId {
        let hash = Sha256::digest(self.0.as_str().as_bytes());
        let hash: String = hash.iter().take(ID_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        SubscriptionId(format!("{}_{hash}", self.slug()))
    }

    /// Host, port and path with everything that a NATS name may not hold as `-`: what makes an id readable.
    fn slug(&self) -> String {
        let port = self.0.port().map(|port| format!("-{port}")).unwrap_or_default();
        let readable = format!("{}{port}{}", self.0.host_str().unwrap_or_default(), self.0.path());
        let mut slug = String::new();
        for c in readable.chars() {
            match c {
                c if c.is_ascii_alphanumeric() || c == '_' => slug.push(c),
                _ if slug.ends_with('-') || slug.is_empty() => {}
                _ => slug.push('-'),
            }
        }
        slug.truncate(MAX_SLUG);
        slug.trim_end_matches('-').to_owned()
    }
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.0.scheme(), self.0.host_str().unwrap_or_default(), self.0.path())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({self})")
    }
}

impl FromStr for TargetUrl {
    type Err = NotATarget;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TargetUrl {
    type Error = NotATarget;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::read(&text)
    }
}

impl From<TargetUrl> for String {
    fn from(url: TargetUrl) -> Self {
        url.0.into()
    }
}

/// The name of a URL's subscription: key in both buckets, and name of its consumer. `host-port-path_hash`.
///
/// Derived from the URL alone; ASCII letters, digits, `-` and `_` only; at most 77 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubscriptionId(String);

/// A text that cannot be the id of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a subscription id: letters, digits, `-` and `_`, at most 100")]
pub struct NotAnId(String);

impl SubscriptionId {
    /// Reads an id, as it stands in a bucket or comes in a path.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !text.is_empty() && text.len() <= 100 && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnId(text.chars().take(100).collect()))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SubscriptionId {
    type Error = NotAnId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SubscriptionId> for String {
    fn from(id: SubscriptionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> String {
        TargetUrl::parse(text).unwrap().subscription_id().to_string()
    }

    #[test]
    fn an_id_is_readable_legal_and_the_same_for_the_same_url() {
        assert!(id("http://127.0.0.1:8888/hello/").starts_with("127-0-0-1-8888-hello_"));
        assert_eq!(id("http://HOST:80/a"), id("http://host/a"));
        assert_ne!(id("http://host/a"), id("https://host/a"));
        assert_ne!(id("http://host/a?x=1"), id("http://host/a?x=2"));
        assert_ne!(id("http://host/a-b"), id("http://host/a.b"));
        let long = format!("http://[::1]:9/{}", "ü.*>/".repeat(150));
        assert!(SubscriptionId::parse(&id(&long)).is_ok(), "{}", id(&long));
    }

    #[test]
    fn what_can_not_be_pushed_to_is_refused() {
        let long = format!("http://host/{}", "x".repeat(2048));
        let long_when_encoded = format!("http://host/{}", "ü".repeat(900));
        for (text, wrong) in [
            ("", "not an absolute URL"),
            ("/hello/", "not an absolute URL"),
            ("host:8888/hello", "scheme is `host`"),
            ("ftp://host/", "scheme is `ftp`"),
            ("javascript:alert(1)", "scheme"),
            ("http://", "not an absolute URL"),
            ("http://host:99999/", "not an absolute URL"),
            ("http://host/#part", "fragment"),
            ("http:127.0.0.1/x", "two slashes"),
            ("http:/host/x", "two slashes"),
            ("http:///host/x", "two slashes"),
            (r"http:\\host\x", "backslash"),
            (r"http://host\x", "backslash"),
            ("http://host/x\ty", "control character"),
            ("http://ho\nst/x", "control character"),
            (" http://host/", "space"),
            ("http://host/ ", "space"),
            (long.as_str(), "2060"),
            (long_when_encoded.as_str(), "5412"),
        ] {
            let error = TargetUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn spellings_that_are_equal_come_to_one() {
        for (spelt, normal) in [
            ("http://host/ü", "http://host/%C3%BC"),
            ("http://host/%c3%bc", "http://host/%C3%BC"),
            ("http://host/a%2fb?q=%2f%7e", "http://host/a%2Fb?q=%2F~"),
            ("http://host/%73p", "http://host/sp"),
            ("http://host/%2E%2e/a%2Eb", "http://host/a.b"),
            ("http://us%65r:p%3aw@HOST:80/", "http://user:p%3Aw@host/"),
            ("http://host/100%", "http://host/100%"),
            ("http://host/%zz%4", "http://host/%zz%4"),
            ("http://host/%+1", "http://host/%+1"),
            ("http://host/%2541", "http://host/%2541"),
        ] {
            let normalised = TargetUrl::parse(spelt).unwrap().normalised();
            assert_eq!(normalised.as_url().as_str(), normal, "{spelt}");
        }
    }

    #[test]
    fn display_and_debug_hide_user_information_and_query() {
        let url = TargetUrl::parse("https://user:canary@host:8443/in?token=canary").unwrap();
        assert_eq!(url.to_string(), "https://host:8443/in");
        assert!(!format!("{url:?} {}", url.subscription_id()).contains("canary"));
        assert!(String::from(url).contains("user:canary@"));
    }

    #[test]
    fn a_longer_url_that_an_earlier_build_stored_is_read() {
        let url = format!("http://host/{}", "%C3%BC".repeat(900));
        let stored: TargetUrl = serde_json::from_value(url.clone().into()).unwrap();
        assert_eq!(String::from(stored), url);
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_within_the_bound_and_reads_back(
            text in "https?://[a-z]{1,9}(:[0-9]{1,4})?/.{0,40}(%[0-9a-fA-F]{2}|[ü~./]){0,300}(\\?.{0,9})?"
        ) {
            if let Ok(url) = TargetUrl::parse(&text) {
                prop_assert!(url.as_url().as_str().len() <= MAX_BYTES);
                let stored = serde_json::to_string(&url).unwrap();
                prop_assert_eq!(&serde_json::from_str::<TargetUrl>(&stored).unwrap(), &url);
                prop_assert_eq!(TargetUrl::parse(url.as_url().as_str()).unwrap().subscription_id(), url.subscription_id());
                let normal = url.normalised();
                prop_assert_eq!(normal.normalised(), normal.clone());
                prop_assert_eq!(TargetUrl::parse(normal.as_url().as_str()), Ok(normal));
            }
        }
    }

    #[test]
    fn a_url_may_be_as_long_as_is_documented_and_no_longer() {
        let of = |bytes: usize| format!("http://host/{}", "x".repeat(bytes - "http://host/".len()));
        for bytes in [MAX_BYTES - 1, MAX_BYTES] {
            assert!(TargetUrl::parse(&of(bytes)).is_ok(), "{bytes}");
        }
        assert_eq!(TargetUrl::parse(&of(MAX_BYTES + 1)), Err(NotATarget::TooLong(MAX_BYTES + 1)));
    }

    #[test]
    fn an_id_has_what_can_be_read_of_the_url_and_is_what_nats_lets_be_a_name() {
        for (url, slug) in
            [("http://host:8080/a//b.c/", "host-8080-a-b-c_"), ("http://[::1]/a", "1-a_"), ("http://h/", "h_")]
        {
            let id = TargetUrl::parse(url).unwrap().subscription_id();
            assert!(id.as_str().starts_with(slug), "{id}");
            assert_eq!(String::from(id.clone()), id.as_str());
        }
        let long = "x".repeat(100);
        for (text, is_id) in [
            ("a-b_C9", true),
            (long.as_str(), true),
            (&format!("{long}x"), false),
            ("", false),
            ("a.b", false),
            ("a b", false),
        ] {
            assert_eq!(SubscriptionId::parse(text).is_ok(), is_id, "{text}");
        }
        assert_eq!(format!("{:?}", TargetUrl::parse("http://u:p@host/?q").unwrap()), "TargetUrl(http://host/)");
    }
}
