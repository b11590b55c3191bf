//! How events are delivered to one URL, beside what each registration says.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attributes::whole_number;
use crate::field_error::{self, FieldError};

/// The longest that a target may be given to answer, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 600_000;
/// The most attempts that may be asked for.
pub const MAX_ATTEMPTS: u64 = 1_000_000;
/// The most deliveries a second that may be asked for.
pub const MAX_RATE: u64 = 1_000_000;

/// What was set; everything else is as for any other subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySettings {
    /// How long the target may take to answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often an event is tried. `None`: until the target takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// What becomes of an event that was tried so often.
    #[serde(default, skip_serializing_if = "OnExhausted::is_default")]
    pub on_exhausted: OnExhausted,
    /// How many deliveries may begin in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
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

impl OnExhausted {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a request says of [`DeliverySettings`]: what it does not name stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryChange {
    timeout_ms: Option<Option<u64>>,
    max_attempts: Option<Option<u32>>,
    on_exhausted: Option<OnExhausted>,
    rate_per_second: Option<Option<u32>>,
}

impl DeliveryChange {
    /// Reads `{"mode","timeout_ms","max_attempts","on_exhausted","rate_per_second"}`; `null` takes a setting away. Faults
    /// are added to `faults`, with pointers below `/delivery`.
    pub fn parse(value: &Value, faults: &mut Vec<FieldError>) -> Self {
        let empty = Map::new();
        let object = value.as_object().unwrap_or_else(|| {
            faults.push(FieldError::at("/delivery", "it must be an object"));
            &empty
        });
        let mut change = Self::default();
        for (name, value) in object {
            let result =
                match name.as_str() {
                    "mode" if value == "ordered" => Ok(()),
                    "mode" => Err("only `ordered` is there yet".to_owned()),
                    "timeout_ms" => limited(value, MAX_TIMEOUT_MS).map(|ms| change.timeout_ms = Some(ms)),
                    "max_attempts" => limited_u32(value, MAX_ATTEMPTS).map(|n| change.max_attempts = Some(n)),
                    "rate_per_second" => limited_u32(value, MAX_RATE).map(|n| change.rate_per_second = Some(n)),
                    "on_exhausted" => match OnExhausted::deserialize(value) {
                        Ok(on_exhausted) => {
                            change.on_exhausted = Some(on_exhausted);
                            Ok(())
                        }
                        Err(_) => Err("it must be `hold`, `dead_letter` or `disable`".to_owned()),
                    },
                    _ => Err("it is unknown; expected: mode, timeout_ms, max_attempts, on_exhausted, rate_per_second"
                        .to_owned()),
                };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("/delivery", name), detail));
            }
        }
        change
    }

    /// The settings as they are then.
    pub fn apply(&self, settings: &mut DeliverySettings) {
        if let Some(timeout_ms) = self.timeout_ms {
            settings.timeout_ms = timeout_ms;
        }
        if let Some(max_attempts) = self.max_attempts {
            settings.max_attempts = max_attempts;
        }
        if let Some(on_exhausted) = self.on_exhausted {
            settings.on_exhausted = on_exhausted;
        }
        if let Some(rate_per_second) = self.rate_per_second {
            settings.rate_per_second = rate_per_second;
        }
    }
}

/// A whole number from 1 to a limit, or null.
fn limited(value: &Value, limit: u64) -> Result<Option<u64>, String> {
    match whole_number(value) {
        Some(number) if (1..=limit).contains(&number) => Ok(Some(number)),
        None if value.is_null() => Ok(None),
        _ => Err(format!("it must be a whole number from 1 to {limit}, or null")),
    }
}

fn limited_u32(value: &Value, limit: u64) -> Result<Option<u32>, String> {
    limited(value, limit).map(|number| number.and_then(|number| u32::try_from(number).ok()))
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
        let bad = json!({"mode": "x", "timeout_ms": 0, "max_attempts": -1, "on_exhausted": 5, "rate_per_second": "1", "z": 1});
        DeliveryChange::parse(&bad, &mut faults);
        assert_eq!(faults.len(), 6, "{faults:?}");
    }
}
