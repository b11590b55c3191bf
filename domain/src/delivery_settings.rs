//! How events are delivered to one URL, beside what each registration says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many events a batch has at most where nothing is said.
const DEFAULT_BATCH_EVENTS: u32 = 100;
/// How many requests are under way at a time where nothing is said.
const DEFAULT_CONCURRENCY: u32 = 10;

/// What was set; everything else is as for any other subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySettings {
    /// How many events go at a time, and in which order.
    #[serde(default)]
    pub mode: Mode,
    /// In [`Mode::Batched`]: how many events one request has at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max_events: Option<u32>,
    /// In [`Mode::Batched`]: how much data the events of one request have at most, in bytes, unless one alone has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max_bytes: Option<u32>,
    /// In [`Mode::Batched`]: how long the first event of a batch waits for more, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max_wait_ms: Option<u64>,
    /// In [`Mode::Concurrent`]: how many requests are under way at a time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long the target may take to answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often an event is tried. `None`: until the target takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// What becomes of an event that was tried so often.
    #[serde(default, skip_serializing_if = "OnExhausted::is_default")]
    pub on_exhausted: OnExhausted,
    /// What a lane does that stood beyond the place where the log became another one.
    #[serde(default, skip_serializing_if = "OnFork::is_default")]
    pub on_fork: OnFork,
    /// What a lane does that comes to events which the log has lost.
    #[serde(default, skip_serializing_if = "OnHole::is_default")]
    pub on_hole: OnHole,
    /// How many deliveries may begin in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
}

/// How many events go at a time, and in which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One after the other, in the log's order.
    #[default]
    Ordered,
    /// Many in one request, in the log's order; the next request goes when all of it is acknowledged.
    Batched,
    /// Several requests at a time; the events of one transaction one after the other.
    Concurrent,
}

/// What becomes of an event that was tried [`DeliverySettings::max_attempts`] times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It waits, and the ones behind it, until the subscription is resumed.
    #[default]
    Hold,
    /// It is kept as a dead letter, and the ones behind it go on.
    DeadLetter,
    /// The subscription is switched off until it is resumed or registered again.
    Disable,
}

/// What a lane does that stood beyond the place where the log became another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFork {
    /// It goes back to what both logs share, and delivers what the present one has behind it.
    #[default]
    Continue,
    /// It waits there until the subscription is resumed.
    Wait,
}

/// What a lane does that comes to events which the log has lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHole {
    /// It waits there until the subscription is resumed.
    #[default]
    Wait,
    /// It goes on behind them.
    Continue,
}

impl DeliverySettings {
    /// How many events one request has at most.
    pub fn batch_max_events(&self) -> usize {
        let most = self.batch_max_events.unwrap_or(DEFAULT_BATCH_EVENTS);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// How much data the events of one request have at most, in bytes, where that was set.
    pub fn batch_max_bytes(&self) -> Option<usize> {
        self.batch_max_bytes.map(|most| usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// How long the first event of a batch waits for more.
    pub fn batch_max_wait(&self) -> Duration {
        Duration::from_millis(self.batch_max_wait_ms.unwrap_or(0))
    }

    /// How many requests are under way at a time at most.
    pub fn concurrency(&self) -> usize {
        let most = self.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

impl OnFork {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl OnHole {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl OnExhausted {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_batch_has_as_much_data_as_was_set() {
        for (most, expected) in [(None, None), (Some(7), Some(7)), (Some(u32::MAX), Some(4_294_967_295))] {
            let settings = DeliverySettings { batch_max_bytes: most, ..DeliverySettings::default() };
            assert_eq!(settings.batch_max_bytes(), expected);
        }
    }

    #[test]
    fn what_is_not_said_is_as_documented_and_is_not_written() {
        let of = |json: serde_json::Value| serde_json::from_value::<DeliverySettings>(json).unwrap();
        let all = |settings: &DeliverySettings| {
            (settings.batch_max_events(), settings.batch_max_wait().as_millis(), settings.concurrency())
        };
        assert_eq!(all(&of(json!({}))), (100, 0, 10));
        let said = json!({"batch_max_events": 7, "batch_max_wait_ms": 250, "concurrency": 3});
        assert_eq!(all(&of(said)), (7, 250, 3));
        let written = |settings: serde_json::Value| serde_json::to_value(of(settings)).unwrap();
        let plain = written(json!({"on_exhausted": "hold", "on_fork": "continue"}));
        assert_eq!((plain.get("on_exhausted"), plain.get("on_fork")), (None, None));
        let other = written(json!({"on_exhausted": "disable", "on_fork": "wait"}));
        assert_eq!((other.get("on_exhausted"), other.get("on_fork")), (Some(&json!("disable")), Some(&json!("wait"))));
    }
}
