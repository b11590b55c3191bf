//! What happened in a run, line by line as it happened. The checker reads this and knows nothing else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Which of a run's URLs.
pub(crate) type Url = usize;

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) transaction: String,
    /// Whether its data has the key that registrations may require.
    pub(crate) has_key: bool,
    /// In microseconds.
    pub(crate) time: i64,
}

/// What a registration says of one type or pattern. Times are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Words {
    pub(crate) transaction: Option<String>,
    pub(crate) start: Option<i64>,
    pub(crate) end: Option<i64>,
    pub(crate) count: Option<u64>,
    /// `required_data` names the key.
    pub(crate) requires: bool,
    pub(crate) allow_gap: bool,
    /// The start is in the past, or there is a transaction and no start.
    pub(crate) is_retro: bool,
}

impl Words {
    /// Whether these are the same words: a start that was to come may be in the past by now.
    pub(crate) fn are_same(&self, other: &Self) -> bool {
        Self { is_retro: other.is_retro, ..self.clone() } == *other
    }
}

/// A pattern, and what is said of it.
pub(crate) type Entry = (String, Words);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    #[default]
    Ordered,
    Batched,
    Concurrent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnExhausted {
    #[default]
    Hold,
    DeadLetter,
    Disable,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) mode: Mode,
    pub(crate) batch_max_events: Option<u64>,
    pub(crate) concurrency: Option<u64>,
    pub(crate) max_attempts: Option<u64>,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) rate_per_second: Option<u64>,
    pub(crate) timeout_ms: Option<u64>,
}

/// A call that changes what one URL is to get: as it is planned, or as it is made. `Said` is what is said of a pattern, `Time` a
/// moment of the log, `Letters` which dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallOf<Said, Time, Letters> {
    Register(Vec<(String, Said)>),
    Unregister(Vec<String>),
    Put(Vec<(String, Said)>, Delivery),
    PatchEvents(Vec<(String, Said)>),
    PatchDelivery(Delivery),
    Delete,
    Pause,
    Resume,
    /// From and to.
    Replay(Time, Option<Time>),
    Redrive(Letters),
}

/// A call as it is made: moments in microseconds, dead letters by the sequences of their events.
pub(crate) type Ask = CallOf<Words, i64, Vec<u64>>;

/// One event of a request to a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) previous: u64,
    pub(crate) is_replay: bool,
}

/// What a target answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Status(u16),
    /// 409 with `Resume-After`.
    At(u64),
    /// Nothing: the connection ends, by the target or by mer.
    Nothing,
}

/// A subscription as it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) state: String,
    pub(crate) phase: Option<String>,
    pub(crate) position: u64,
    pub(crate) lag: Option<u64>,
    /// How many were delivered, by pattern.
    pub(crate) delivered: BTreeMap<String, u64>,
    pub(crate) gap: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// An event was acknowledged; posting it began when there were so many lines.
    Posted { began: usize, event: Event },
    /// A post has no certain answer.
    Unknown,
    /// A call began.
    Called { call: u32, url: Url, ask: Ask },
    /// It ended: with a 2xx, or refused. It was made so many times.
    Returned { call: u32, is_taken: bool, tries: u32 },
    /// A request came to a target.
    Came { request: u32, url: Url, is_batch: bool, items: Vec<Item> },
    /// It was answered.
    Answered { request: u32, said: Said },
    /// Something was killed or stopped: what was under way may come again.
    Disturbed,
    /// That is over.
    Recovered,
    /// A gap that a subscription told of.
    Gap { url: Url, from: u64, to: u64 },
    /// Events that a URL has dead letters of.
    Letters { url: Url, events: Vec<u64> },
    /// What stands in the log.
    Log { first: u64, events: Vec<Event> },
    /// All is at rest, and so the subscriptions stand; `None`: there is none.
    Rest { statuses: Vec<Option<Status>> },
}

/// What happened, and when, in milliseconds since the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// Where lines are added, and none is changed.
pub(crate) struct History {
    began: Instant,
    lines: Mutex<Vec<Line>>,
}

impl History {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), lines: Mutex::default() }
    }

    pub(crate) fn add(&self, what: What) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        lines.push(Line { at, what });
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
