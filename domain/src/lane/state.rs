//! What a lane does, with what belongs to it. In the bucket it is a word, and fields beside it, as earlier builds read them.

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::log_epoch::LogEpoch;
use crate::stamp::Stamp;

/// What a lane does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub enum State {
    /// It delivers what comes.
    Active,
    /// Its target does not take an event; it tries again and again.
    Held(Failure),
    /// It waits until it is resumed. With what it did before, which is no pause itself.
    Paused(Box<State>),
    /// Events were removed from the log before they could be delivered: it waits until it is told to go on without them.
    Gap(Gap),
    /// The log has become another one, and the lane stood beyond what both share: it waits until it is told to go on with the
    /// present one.
    Forked(Fork),
    /// It waits until it is registered again, or resumed.
    Stopped(Stop),
    /// Every entry has had all that it asked for.
    Completed,
}

impl State {
    /// Whether it delivers, or tries to.
    pub fn is_at_work(&self) -> bool {
        matches!(self, Self::Active | Self::Held(_))
    }

    /// The word for it, as it stands in the bucket and in answers.
    pub fn word(&self) -> Word {
        match self {
            Self::Active => Word::Active,
            Self::Held(_) => Word::Held,
            Self::Paused(_) => Word::Paused,
            Self::Gap(_) => Word::Gap,
            Self::Forked(_) => Word::Forked,
            Self::Stopped(stop) => match stop.why {
                Why::Gone => Word::Gone,
                Why::Exhausted => Word::Paused,
            },
            Self::Completed => Word::Completed,
        }
    }

    /// What it does, or did before it was paused.
    pub fn beneath(&self) -> &Self {
        match self {
            Self::Paused(before) => before,
            other => other,
        }
    }

    /// What retention removed, where the lane waits because of it, paused or not.
    pub fn gap(&self) -> Option<Gap> {
        match self.beneath() {
            Self::Gap(gap) => Some(*gap),
            _ => None,
        }
    }

    /// Where the log has become another one, where the lane waits because of it, paused or not.
    pub fn fork(&self) -> Option<&Fork> {
        match self.beneath() {
            Self::Forked(fork) => Some(fork),
            _ => None,
        }
    }

    /// What has ended deliveries, paused or not.
    pub fn stop(&self) -> Option<&Stop> {
        match self.beneath() {
            Self::Stopped(stop) => Some(stop),
            _ => None,
        }
    }

    /// The delivery that did not succeed, paused or not.
    pub fn failure(&self) -> Option<&Failure> {
        match self.beneath() {
            Self::Held(failure) => Some(failure),
            _ => None,
        }
    }
}

/// A part of the log that was removed before a lane came to it. Whether it held anything that the lane's entries wanted
/// cannot be known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first sequence of it.
    pub from_sequence: u64,
    /// The last sequence of it.
    pub to_sequence: u64,
    /// When it was noticed.
    pub noticed: Stamp,
}

/// Where the log became another one, before a lane that stood further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The last sequence that both logs share: where the lane goes on behind.
    pub shared_to: u64,
    /// Where the lane stood in the log of before.
    pub was_at: u64,
    /// The name of the present log.
    pub epoch: LogEpoch,
    /// When it was noticed.
    pub noticed: Stamp,
}

/// Why nothing is delivered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The target has said that it is gone (410).
    Gone,
    /// An event was tried as often as was asked for, and the subscription is to be switched off then.
    Exhausted,
}

/// The end of deliveries, until the subscription is resumed or registered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub why: Why,
    /// The event that was being delivered.
    pub sequence: u64,
    /// When.
    pub at: Stamp,
    /// The act of registering that was known then: another one ends the stop.
    #[serde(default)]
    pub registered: Option<String>,
}

/// A state as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It delivers what comes.
    Active,
    /// Its target does not take an event; it tries again and again.
    Held,
    /// It waits until it is resumed.
    Paused,
    /// Events were removed from the log before they could be delivered.
    Gap,
    /// The log has become another one. In the bucket this is written as `gap`, which earlier builds read.
    Forked,
    /// The target has said that it is gone.
    Gone,
    /// Every entry has had all that it asked for.
    Completed,
}

/// A state as it is written.
#[derive(Serialize, Deserialize)]
struct Record {
    state: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forked: Option<Fork>,
}

impl Fork {
    /// As earlier builds read it: a gap without anything in it, behind the place where the lane goes on.
    fn as_gap(&self) -> Gap {
        Gap { from_sequence: self.shared_to + 1, to_sequence: self.shared_to, noticed: self.noticed }
    }
}

impl From<State> for Record {
    fn from(state: State) -> Self {
        let state_word = state.word();
        let nothing = Self { state: state_word, failure: None, gap: None, stopped: None, forked: None };
        match state {
            State::Active | State::Completed => nothing,
            State::Held(failure) => Self { failure: Some(failure), ..nothing },
            State::Gap(gap) => Self { gap: Some(gap), ..nothing },
            State::Forked(fork) => Self { state: Word::Gap, gap: Some(fork.as_gap()), forked: Some(fork), ..nothing },
            State::Stopped(stop) => Self { stopped: Some(stop), ..nothing },
            State::Paused(before) => Self { state: Word::Paused, ..Self::from(*before) },
        }
    }
}

impl From<Record> for State {
    /// Reads what any build has written. Where a record has more than one cause, the strongest one stands.
    fn from(record: Record) -> Self {
        let Record { state, failure, gap, stopped, forked } = record;
        let waits = forked.map(Self::Forked).or(gap.map(Self::Gap));
        match (state, stopped, waits, failure) {
            (Word::Completed, ..) => Self::Completed,
            (Word::Paused, Some(stop), ..) if stop.why == Why::Exhausted => Self::Stopped(stop),
            (Word::Paused, stop, waits, failure) => {
                let before = match (stop, waits, failure) {
                    (Some(stop), ..) => Self::Stopped(stop),
                    (None, Some(waits), _) => waits,
                    (None, None, Some(failure)) => Self::Held(failure),
                    (None, None, None) => Self::Active,
                };
                Self::Paused(Box::new(before))
            }
            (_, Some(stop), ..) => Self::Stopped(stop),
            (_, None, Some(waits), _) => waits,
            (_, None, None, Some(failure)) => Self::Held(failure),
            (_, None, None, None) => Self::Active,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure() -> Failure {
        Failure { sequence: 4, attempts: 2, error: "answered 500".into(), next_attempt: None, letter: None }
    }

    fn stop(why: Why) -> Stop {
        Stop { why, sequence: 4, at: Stamp::from_micros(0), registered: None }
    }

    #[test]
    fn what_is_written_reads_back_and_is_what_earlier_builds_read() {
        let gap = Gap { from_sequence: 1, to_sequence: 3, noticed: Stamp::from_micros(0) };
        let failed = json!({"sequence": 4, "attempts": 2, "error": "answered 500"});
        for (state, word, field, value) in [
            (State::Active, "active", None, None),
            (State::Held(failure()), "held", Some("failure"), Some(failed.clone())),
            (State::Gap(gap), "gap", Some("gap"), None),
            (State::Stopped(stop(Why::Gone)), "gone", Some("stopped"), None),
            (State::Stopped(stop(Why::Exhausted)), "paused", Some("stopped"), None),
            (State::Paused(Box::new(State::Active)), "paused", None, None),
            (State::Paused(Box::new(State::Held(failure()))), "paused", Some("failure"), Some(failed)),
            (State::Paused(Box::new(State::Gap(gap))), "paused", Some("gap"), None),
            (State::Paused(Box::new(State::Stopped(stop(Why::Gone)))), "paused", Some("stopped"), None),
            (State::Completed, "completed", None, None),
        ] {
            let written = serde_json::to_value(&state).unwrap();
            assert_eq!(written["state"], word);
            let fields: Vec<&str> = written.as_object().unwrap().keys().skip(1).map(String::as_str).collect();
            assert_eq!(fields, field.into_iter().collect::<Vec<_>>(), "{state:?}");
            if let (Some(field), Some(value)) = (field, value) {
                assert_eq!(written[field], value);
            }
            assert_eq!(serde_json::from_value::<State>(written).unwrap(), state);
        }
    }

    #[test]
    fn a_lane_that_waits_because_of_a_fork_is_a_gap_to_earlier_builds() {
        let (epoch, noticed) = (LogEpoch::of(1), Stamp::from_micros(0));
        let forked = State::Forked(Fork { shared_to: 4, was_at: 9, epoch, noticed });
        for (state, word) in [(forked.clone(), "gap"), (State::Paused(Box::new(forked)), "paused")] {
            let written = serde_json::to_value(&state).unwrap();
            assert_eq!(written["state"], word);
            assert_eq!((&written["gap"]["from_sequence"], &written["gap"]["to_sequence"]), (&json!(5), &json!(4)));
            assert_eq!(serde_json::from_value::<State>(written).unwrap(), state);
        }
    }

    #[test]
    fn a_record_with_several_causes_has_the_strongest_one() {
        let failed = json!({"sequence": 4, "attempts": 2, "error": "answered 500"});
        let stopped = json!({"why": "gone", "sequence": 4, "at": Stamp::from_micros(0)});
        let read = |record| serde_json::from_value::<State>(record).unwrap();
        assert_eq!(
            read(json!({"state": "gone", "failure": failed, "stopped": stopped})),
            State::Stopped(stop(Why::Gone))
        );
        assert_eq!(read(json!({"state": "held"})), State::Active, "nothing is known to fail");
        assert_eq!(read(json!({"state": "active", "failure": failed})), State::Held(failure()));
    }
}
