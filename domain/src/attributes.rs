//! What a registration says beside its type and URL: when to start and end, how many, and which events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stamp::Stamp;

/// The order of delivery where nothing is said: lower goes first.
pub const DEFAULT_PRIORITY: f64 = 100.0;

/// A place in the log where a registration begins, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// The target states its position: it has had everything up to this sequence, and lacks what comes behind it.
    After(u64),
}

/// The attributes of one registration, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attributes {
    /// Where in the log it begins, where that is not said by a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartAt>,
    /// The first moment whose events are wanted (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime_start: Option<Stamp>,
    /// The last moment whose events are wanted (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime_end: Option<Stamp>,
    /// How many seconds after acceptance that is, where it was said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after: Option<f64>,
    /// How many successful deliveries complete the registration, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Only events of this transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// Lower goes first when deliveries wait; finite.
    #[serde(default = "default_priority")]
    pub priority: f64,
    /// Keys that a delivery has to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_data: Vec<String>,
    /// Given back with each delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_data: Option<Value>,
    /// Whether a start before the oldest retained event is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_gap: bool,
}

fn default_priority() -> f64 {
    DEFAULT_PRIORITY
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            start: None,
            datetime_start: None,
            datetime_end: None,
            expire_after: None,
            count: None,
            transaction_id: None,
            priority: DEFAULT_PRIORITY,
            required_data: Vec::new(),
            listener_data: None,
            allow_gap: false,
        }
    }
}

impl Attributes {
    /// Whether the registration reaches into the past: it begins at a place in the log, or at `now` or before, or asks for a
    /// transaction without saying since when.
    pub fn is_retroactive(&self, now: Stamp) -> bool {
        match (self.start, self.datetime_start) {
            (Some(StartAt::After(_)), _) => true,
            (None, Some(start)) => start <= now,
            (None, None) => self.transaction_id.is_some(),
        }
    }

    /// Whether the same was said as by others: an `expire_after` is the same, though it comes to another end each time.
    pub fn say_the_same_as(&self, others: &Self) -> bool {
        match (self.expire_after, others.expire_after) {
            (Some(_), Some(_)) => *self == Self { datetime_end: self.datetime_end, ..others.clone() },
            // An end that was shown is said again as it was shown.
            _ => *self == Self { expire_after: self.expire_after, ..others.clone() },
        }
    }

    /// Whether a start is named, as a time or as a place in the log.
    pub fn names_start(&self) -> bool {
        self.start.is_some() || self.datetime_start.is_some()
    }

    /// The position that the target has stated.
    pub fn stated_position(&self) -> Option<u64> {
        self.start.map(|StartAt::After(sequence)| sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn what_is_not_stored_is_as_it_is_by_default() {
        assert_eq!(serde_json::from_str::<Attributes>("{}").unwrap(), Attributes::default());
    }

    #[test]
    fn an_expiry_says_the_same_though_it_comes_to_another_end() {
        let ends = |expire_after, end: i64| Attributes {
            expire_after,
            datetime_end: Some(NOW.plus_micros(end)),
            ..Attributes::default()
        };
        for (one, other, same) in [
            (ends(Some(60.0), 1), ends(Some(60.0), 2), true),
            (ends(Some(60.0), 1), ends(Some(61.0), 1), false),
            (ends(Some(60.0), 1), ends(None, 1), true),
            (ends(Some(60.0), 1), ends(None, 2), false),
            (ends(None, 1), ends(None, 2), false),
            (ends(Some(60.0), 1), Attributes { count: Some(1), ..ends(Some(60.0), 2) }, false),
        ] {
            assert_eq!((one.say_the_same_as(&other), other.say_the_same_as(&one)), (same, same), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_stated_position_reads_back_and_reaches_back() {
        let attributes = Attributes { start: Some(StartAt::After(7)), ..Attributes::default() };
        let stored = serde_json::to_string(&attributes).unwrap();
        assert_eq!(stored, r#"{"start":{"after":7},"priority":100.0}"#);
        assert_eq!(serde_json::from_str::<Attributes>(&stored).unwrap(), attributes);
        assert!(attributes.is_retroactive(NOW) && attributes.names_start());
    }

    #[test]
    fn a_past_start_and_a_transaction_without_one_reach_back() {
        let is_retroactive = |start: Option<Stamp>, transaction: Option<&str>| {
            let transaction_id = transaction.map(str::to_owned);
            Attributes { datetime_start: start, transaction_id, ..Attributes::default() }.is_retroactive(NOW)
        };
        let later = NOW.plus_micros(1);
        assert!(is_retroactive(Some(NOW), None));
        assert!(!is_retroactive(Some(later), None));
        assert!(is_retroactive(None, Some("t")));
        assert!(!is_retroactive(Some(later), Some("t")));
        assert!(!is_retroactive(None, None));
    }
}
