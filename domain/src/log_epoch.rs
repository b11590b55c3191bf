//! Which log it is. A sequence alone lies after a restore, as numbers are given out again: so the log has a name, its *epoch*,
//! and places of it are remembered by what stood there.
//!
//! - [`Mark`]: what identifies an event at its place. [`LogEpoch`]: the log's name. [`LogRecord`]: all names that it has had, and
//!   checkpoints: what stood where. It is the value of a key in the bucket `LOG`.
//! - `judge`: whether a log is the continuation of the one that was recorded. `thinning`: which checkpoints are kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::stamp::Stamp;

mod judge;
mod record;
mod thinning;

pub use judge::{Evidence, Judgement, Verdict, judge};
pub use record::{Epoch, LogRecord, MAX_REASON_BYTES};

/// How much of an event's id is kept, in bytes. Its time of storing goes with it, so more is not needed to tell it from another.
const MAX_ID_BYTES: usize = 64;
/// How many hexadecimal digits an epoch has.
const DIGITS: usize = 8;

/// What identifies a message of the log, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its place.
    pub sequence: u64,
    /// The beginning of the event's id, in header form; empty where the message is no event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// When the stream took it.
    pub stored_at: Stamp,
}

/// The name of a log: eight lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogEpoch(String);

/// A text that is not the name of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the epoch of a log has {DIGITS} lowercase hexadecimal digits")]
pub struct NotAnEpoch;

impl Mark {
    /// The mark of an event.
    pub fn of(event: &Event) -> Self {
        Self::new(event.sequence, event.id(), event.stored_at)
    }

    /// The mark of a message: its place, the id of the event that it is, and when it was stored.
    pub fn new(sequence: u64, id: &str, stored_at: Stamp) -> Self {
        Self { sequence, id: beginning_of(id).to_owned(), stored_at }
    }

    /// Becomes the mark of another event, in the memory that it has.
    pub(crate) fn move_to(&mut self, event: &Event) {
        self.sequence = event.sequence;
        self.stored_at = event.stored_at;
        self.id.clear();
        self.id.push_str(beginning_of(event.id()));
    }
}

fn beginning_of(id: &str) -> &str {
    &id[..id.floor_char_boundary(MAX_ID_BYTES)]
}

impl LogEpoch {
    /// The epoch of a number, which is best a random one.
    pub fn of(number: u32) -> Self {
        Self(format!("{number:08x}"))
    }

    /// Reads an epoch.
    pub fn parse(text: &str) -> Result<Self, NotAnEpoch> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == DIGITS && text.bytes().all(is_digit) { Ok(Self(text.to_owned())) } else { Err(NotAnEpoch) }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LogEpoch {
    type Error = NotAnEpoch;

    fn try_from(text: String) -> Result<Self, NotAnEpoch> {
        Self::parse(&text)
    }
}

impl From<LogEpoch> for String {
    fn from(epoch: LogEpoch) -> Self {
        epoch.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_eight_lowercase_digits() {
        assert_eq!(LogEpoch::of(0xc0ffee).as_str(), "00c0ffee");
        assert_eq!(LogEpoch::parse("00c0ffee").unwrap(), LogEpoch::of(0xc0ffee));
        for text in ["", "00c0ffe", "00c0ffeea", "00C0FFEE", "00c0ffeg", "+0c0ffee"] {
            assert!(LogEpoch::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mark_is_short_whatever_the_id_is() {
        let at = Stamp::from_micros(7);
        let long = format!("{}ü and more", "x".repeat(MAX_ID_BYTES - 1));
        let mark = Mark::new(3, &long, at);
        assert_eq!(mark.id.len(), MAX_ID_BYTES - 1, "no character is cut in two");
        let written = serde_json::to_string(&Mark::new(3, "", at)).unwrap();
        assert_eq!(written, r#"{"sequence":3,"stored_at":"19700101000000.000007"}"#);
        assert_eq!(serde_json::from_str::<Mark>(&written).unwrap(), Mark::new(3, "", at));
    }

    #[test]
    fn an_epoch_is_shown_as_it_is_written() {
        assert_eq!(
            (LogEpoch::of(0xc0ffee).to_string(), LogEpoch::of(0xc0ffee).as_str()),
            ("00c0ffee".into(), "00c0ffee")
        );
    }
}
