//! An event's type: its name, and the subject it is published on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What every event's subject starts with: the type `order.created` is published on `events.order.created`.
pub const SUBJECT_PREFIX: &str = "events.";
/// The longest type, in bytes of UTF-8.
pub const MAX_BYTES: usize = 200;
/// Types that start so belong to the system itself.
const RESERVED: [&str; 2] = ["$", "mer."];

/// The type of an event: dot-separated tokens, legal as a NATS subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

/// Why a text is not an event type (or a pattern of types).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAType {
    /// There is nothing.
    #[error("an event type has at least one character")]
    Empty,
    /// It is over [`MAX_BYTES`].
    #[error("an event type has at most {MAX_BYTES} bytes; this one has {0}")]
    TooLong(usize),
    /// It begins or ends with a dot, or has two in a row.
    #[error("`{0}` has an empty token: dots stand between tokens only")]
    EmptyToken(String),
    /// White space, a control character, `/`, or a wildcard where none may be.
    #[error("`{text}` holds {character:?}: white space, control characters, `/`, `*` and `>` are not allowed")]
    IllegalCharacter {
        /// The text that was given.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// It starts like the system's own events.
    #[error("`{0}` starts with `$` or `mer.`, which is reserved")]
    Reserved(String),
    /// A wildcard that does not stand for whole tokens, or a `>` that is not last.
    #[error("`{0}` is not a pattern: `*` stands for one whole token, `>` for all the rest and only at the end")]
    BadWildcard(String),
}

impl EventType {
    /// Reads a type. See [`NotAType`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, NotAType> {
        check_tokens(text)?;
        check_characters(text, |c| matches!(c, '*' | '>'))?;
        Ok(Self(text.to_owned()))
    }

    /// The type of what was published on this subject, if it is one of ours.
    pub fn from_subject(subject: &str) -> Option<Self> {
        Self::parse(subject.strip_prefix(SUBJECT_PREFIX)?).ok()
    }

    /// The subject that an event of this type is published on.
    pub fn subject(&self) -> String {
        format!("{SUBJECT_PREFIX}{}", self.0)
    }

    /// The type as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a type and a pattern have in common: length, tokens, and no reserved beginning.
pub(crate) fn check_tokens(text: &str) -> Result<(), NotAType> {
    if text.is_empty() {
        return Err(NotAType::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(NotAType::TooLong(text.len()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(NotAType::EmptyToken(text.to_owned()));
    }
    if RESERVED.iter().any(|reserved| text.starts_with(reserved)) {
        return Err(NotAType::Reserved(text.to_owned()));
    }
    Ok(())
}

/// Refuses white space, control characters, `/`, and whatever else the caller forbids.
pub(crate) fn check_characters(text: &str, forbidden: impl Fn(char) -> bool) -> Result<(), NotAType> {
    let illegal = |c: &char| c.is_whitespace() || c.is_control() || *c == '/' || forbidden(*c);
    match text.chars().find(illegal) {
        Some(character) => Err(NotAType::IllegalCharacter { text: text.to_owned(), character }),
        None => Ok(()),
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = NotAType;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for EventType {
    type Error = NotAType;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_name_is_a_type_and_a_subject() {
        for text in ["a", "request_from_human", "order.created", "größe.geändert", "x-1.2.3", "merger", "a$b"] {
            let event_type = EventType::parse(text).unwrap();
            assert_eq!(EventType::from_subject(&event_type.subject()), Some(event_type));
        }
    }

    #[test]
    fn a_bad_name_is_refused_by_what_is_wrong_with_it() {
        let long = "x".repeat(201);
        for (text, wrong) in [
            ("", "at least one"),
            (long.as_str(), "201"),
            (".a", "empty token"),
            ("a.", "empty token"),
            ("a..b", "empty token"),
            ("a b", "' '"),
            ("a\u{a0}b", "white space"),
            ("a\u{7}", "control"),
            ("a/b", "'/'"),
            ("a.*", "'*'"),
            ("a.>", "'>'"),
            ("$JS.API", "reserved"),
            ("mer.gap", "reserved"),
        ] {
            let error = EventType::parse(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_type_may_be_as_long_as_is_documented_and_is_written_as_it_is() {
        let longest = "x".repeat(MAX_BYTES);
        for text in ["a.b", longest.as_str()] {
            let event_type = EventType::parse(text).unwrap();
            assert_eq!((event_type.to_string(), String::from(event_type)), (text.to_owned(), text.to_owned()));
        }
    }
}
