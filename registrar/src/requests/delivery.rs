//! How events are delivered to a URL, as it stands in a request.

use domain::delivery_settings::{DeliverySettings, Mode, OnExhausted, OnFork, OnHole};
use domain::field_error::{self, FieldError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::openapi::schema_of;

use super::values::whole_number;

/// The longest that a target may be given to answer, in milliseconds.
const MAX_TIMEOUT_MS: u64 = 600_000;
/// The most attempts that a request may set.
const MAX_ATTEMPTS: u64 = 1_000_000;
/// The most deliveries a second that a request may set.
const MAX_RATE: u64 = 1_000_000;
/// The most events of one batch that a request may set.
const MAX_BATCH_EVENTS: u32 = 1000;
/// The most data of one batch that a request may set, in bytes: what a window holds.
const MAX_BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// The longest wait of a batch for more events that a request may set, in milliseconds.
const MAX_BATCH_WAIT_MS: u64 = 60_000;
/// The most deliveries under way at a time that a request may set.
const MAX_CONCURRENCY: u32 = 256;

/// How events are delivered. A setting that is left out stays as it is, null makes it the default
#[derive(Debug, Clone, Default, PartialEq, Eq, ToSchema)]
#[schema(as = Delivery)]
#[serde(deny_unknown_fields)]
pub struct DeliveryChange {
    #[schema(required = false, schema_with = mode)]
    mode: Option<Mode>,
    /// `batched`: how many events one request has at most; null: 100
    #[schema(minimum = 1, maximum = 1000, value_type = Option<u64>)]
    batch_max_events: Option<Option<u32>>,
    /// `batched`: how much data the events of one request have at most, in bytes, unless one alone has more; the attributes, some
    /// hundred bytes an event, come on top. null: 4 MiB. After an answer 413 mer sends less by itself
    #[schema(minimum = 1, maximum = 4_194_304, value_type = Option<u64>)]
    batch_max_bytes: Option<Option<u32>>,
    /// `batched`: how long the first event of a batch waits for more, in milliseconds; null: not at all
    #[schema(minimum = 0, maximum = 60_000, value_type = Option<u64>)]
    batch_max_wait_ms: Option<Option<u64>>,
    /// `concurrent`: how many requests are under way at a time at most; null: 10
    #[schema(minimum = 1, maximum = 256, value_type = Option<u64>)]
    concurrency: Option<Option<u32>>,
    /// How long the target may take to answer, in milliseconds; null: what mer is configured with
    #[schema(minimum = 1, maximum = 600_000, value_type = Option<u64>)]
    timeout_ms: Option<Option<u64>>,
    /// How many times an event is tried; null: until the target takes it
    #[schema(minimum = 1, maximum = 1_000_000, value_type = Option<u64>)]
    max_attempts: Option<Option<u32>>,
    #[schema(required = false, schema_with = on_exhausted)]
    on_exhausted: Option<OnExhausted>,
    #[schema(required = false, schema_with = on_fork)]
    on_fork: Option<OnFork>,
    #[schema(required = false, schema_with = on_hole)]
    on_hole: Option<OnHole>,
    /// How many deliveries may begin in a second; null: as many as the target takes
    #[schema(minimum = 1, maximum = 1_000_000, value_type = Option<u64>)]
    rate_per_second: Option<Option<u32>>,
}

fn mode() -> RefOr<Schema> {
    schema_of(json!({
        "type": ["string", "null"], "enum": ["ordered", "batched", "concurrent", null],
        "description": "Null: `ordered`. `ordered`: one event after the other. `batched`: many in order in one request, as \
            `application/cloudevents-batch+json`. `concurrent`: several requests at a time, those of one transaction one \
            after the other",
    }))
}

fn on_exhausted() -> RefOr<Schema> {
    schema_of(json!({
        "type": ["string", "null"], "enum": ["hold", "dead_letter", "disable", null],
        "description": "What becomes of an event that was tried `max_attempts` times; null: `hold`. `hold`: it waits, and what comes behind \
            it, until the subscription is resumed or registered again. `dead_letter`: it becomes a dead letter, and the next one goes. `disable`: \
            the subscription is switched off until it is resumed or registered again",
    }))
}

fn on_fork() -> RefOr<Schema> {
    schema_of(json!({
        "type": ["string", "null"], "enum": ["continue", "wait", null],
        "description": "What becomes of a subscription that stood beyond the place where the log became another one (restored from \
            an older copy, made again, cut off by a lost node); null: `continue`. `continue`: it goes back to the last event that both logs share, \
            and gets all that is behind it in the present log; `ce-logepoch` names that. `wait`: it goes back, and waits in state \
            `forked` until it is resumed",
    }))
}

fn on_hole() -> RefOr<Schema> {
    schema_of(json!({
        "type": ["string", "null"], "enum": ["wait", "continue", null],
        "description": "What becomes of a subscription that comes to events which the log has lost (a damaged store); null: `wait`. `wait`: it \
            waits in state `gap`, and `status.hole` says where, until it is resumed. `continue`: it goes on behind them",
    }))
}

impl DeliveryChange {
    /// Reads the settings by their names; `null` takes one away. Faults are added to `faults`, with pointers below
    /// `/delivery`.
    pub fn parse(value: &Value, faults: &mut Vec<FieldError>) -> Self {
        let empty = Map::new();
        let object = value.as_object().unwrap_or_else(|| {
            faults.push(FieldError::at("/delivery", "it must be an object"));
            &empty
        });
        let mut change = Self::default();
        for (name, value) in object {
            if let Err(detail) = change.take_in(name, value) {
                faults.push(FieldError::at(field_error::push("/delivery", name), detail));
            }
        }
        change
    }

    fn take_in(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "mode" => self.mode = Some(one_of(value, "`ordered`, `batched` or `concurrent`")?),
            "batch_max_events" => self.batch_max_events = Some(limited_u32(value, MAX_BATCH_EVENTS.into())?),
            "batch_max_bytes" => self.batch_max_bytes = Some(limited_u32(value, MAX_BATCH_BYTES)?),
            "batch_max_wait_ms" => self.batch_max_wait_ms = Some(limited(value, 0, MAX_BATCH_WAIT_MS)?),
            "concurrency" => self.concurrency = Some(limited_u32(value, MAX_CONCURRENCY.into())?),
            "timeout_ms" => self.timeout_ms = Some(limited(value, 1, MAX_TIMEOUT_MS)?),
            "max_attempts" => self.max_attempts = Some(limited_u32(value, MAX_ATTEMPTS)?),
            "rate_per_second" => self.rate_per_second = Some(limited_u32(value, MAX_RATE)?),
            "on_exhausted" => self.on_exhausted = Some(one_of(value, "`hold`, `dead_letter` or `disable`")?),
            "on_fork" => self.on_fork = Some(one_of(value, "`continue` or `wait`")?),
            "on_hole" => self.on_hole = Some(one_of(value, "`wait` or `continue`")?),
            _ => {
                return Err(
                    "it is unknown; expected: mode, batch_max_events, batch_max_bytes, batch_max_wait_ms, concurrency, \
                            timeout_ms, max_attempts, on_exhausted, on_fork, on_hole, rate_per_second"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// The settings as they are then.
    pub fn apply(&self, settings: &mut DeliverySettings) {
        set(&mut settings.mode, self.mode);
        set(&mut settings.batch_max_events, self.batch_max_events);
        set(&mut settings.batch_max_bytes, self.batch_max_bytes);
        set(&mut settings.batch_max_wait_ms, self.batch_max_wait_ms);
        set(&mut settings.concurrency, self.concurrency);
        set(&mut settings.timeout_ms, self.timeout_ms);
        set(&mut settings.max_attempts, self.max_attempts);
        set(&mut settings.on_exhausted, self.on_exhausted);
        set(&mut settings.on_fork, self.on_fork);
        set(&mut settings.on_hole, self.on_hole);
        set(&mut settings.rate_per_second, self.rate_per_second);
    }
}

fn set<T>(setting: &mut T, change: Option<T>) {
    if let Some(value) = change {
        *setting = value;
    }
}

/// One of some words, or null for the default.
fn one_of<T: DeserializeOwned + Default>(value: &Value, words: &str) -> Result<T, String> {
    match value {
        Value::Null => Ok(T::default()),
        value => T::deserialize(value).map_err(|_| format!("it must be {words}, or null")),
    }
}

/// A whole number within limits, or null.
fn limited(value: &Value, least: u64, most: u64) -> Result<Option<u64>, String> {
    match whole_number(value) {
        Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
        None if value.is_null() => Ok(None),
        _ => Err(format!("it must be a whole number from {least} to {most}, or null")),
    }
}

fn limited_u32(value: &Value, most: u64) -> Result<Option<u32>, String> {
    limited(value, 1, most).map(|number| number.and_then(|number| u32::try_from(number).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let mut faults = Vec::new();
        let mut settings = DeliverySettings { timeout_ms: Some(5), ..DeliverySettings::default() };
        let change = json!({"mode": "ordered", "max_attempts": 3.0, "on_exhausted": "disable", "rate_per_second": 7});
        DeliveryChange::parse(&change, &mut faults).apply(&mut settings);
        assert_eq!((settings.timeout_ms, settings.max_attempts, settings.rate_per_second), (Some(5), Some(3), Some(7)));
        assert_eq!((settings.on_exhausted, faults.len()), (OnExhausted::Disable, 0));
        let change = json!({"timeout_ms": null, "max_attempts": null, "on_exhausted": "dead_letter"});
        DeliveryChange::parse(&change, &mut faults).apply(&mut settings);
        assert_eq!((settings.timeout_ms, settings.max_attempts), (None, None));
        assert_eq!((settings.on_exhausted, faults.len()), (OnExhausted::DeadLetter, 0));
        let change = json!({"mode": "batched", "on_fork": "wait", "on_hole": "continue", "batch_max_events": 1000, "batch_max_bytes": 4_194_304, "batch_max_wait_ms": 0, "concurrency": 256});
        DeliveryChange::parse(&change, &mut faults).apply(&mut settings);
        assert_eq!((settings.mode, settings.batch_max_events(), settings.concurrency()), (Mode::Batched, 1000, 256));
        assert_eq!(settings.batch_max_bytes(), Some(4_194_304));
        assert_eq!((settings.on_fork, settings.on_hole), (OnFork::Wait, OnHole::Continue));
        DeliveryChange::parse(&json!({"timeout_ms": 5}), &mut faults).apply(&mut settings);
        assert_eq!((settings.mode, faults.len()), (Mode::Batched, 0));
        let change = json!({"mode": null, "on_exhausted": null, "on_fork": null, "on_hole": null});
        DeliveryChange::parse(&change, &mut faults).apply(&mut settings);
        assert_eq!((settings.mode, settings.on_exhausted, faults.len()), (Mode::Ordered, OnExhausted::Hold, 0));
        assert_eq!((settings.on_fork, settings.on_hole), (OnFork::Continue, OnHole::Wait));
        let bad = json!({"mode": "x", "batch_max_events": 1001, "batch_max_bytes": 4_194_305, "batch_max_wait_ms": 60_001, "concurrency": 0, "timeout_ms": 0, "max_attempts": -1, "on_exhausted": 5, "on_fork": "x", "on_hole": "x", "rate_per_second": "1", "z": 1});
        DeliveryChange::parse(&bad, &mut faults);
        assert_eq!(faults.len(), 12, "{faults:?}");
    }
}
