//! What a registration says beside its type and URL: when to start and end, how many, and which events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event_data::MAX_TRANSACTION_ID_BYTES;
use crate::field_error::{self, FieldError};
use crate::stamp::Stamp;

/// The largest `listener_data`, in bytes of compact JSON.
pub const MAX_LISTENER_DATA_BYTES: usize = 4096;
/// The most keys that `required_data` may name.
pub const MAX_REQUIRED_KEYS: usize = 64;
/// The furthest that `expire_after` may reach, in seconds: a hundred years.
const MAX_EXPIRE_AFTER_SECS: f64 = 100.0 * 365.25 * 86_400.0;
/// The furthest from 0 that a priority may be: waiting makes up for it in a day and a bit.
const MAX_PRIORITY: f64 = 1e6;
/// The order of delivery where nothing is said: lower goes first.
pub const DEFAULT_PRIORITY: f64 = 100.0;

/// The attributes of one registration, checked. `expire_after` has become `datetime_end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attributes {
    /// The first moment whose events are wanted (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime_start: Option<Stamp>,
    /// The last moment whose events are wanted (inclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime_end: Option<Stamp>,
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
            datetime_start: None,
            datetime_end: None,
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
    /// Reads the attributes out of an object that may also hold the keys of `others`; `pointer` is where it stands.
    /// Every fault is added to `faults`; the result counts only if none was.
    pub fn parse(
        object: &Map<String, Value>,
        others: &[&str],
        now: Stamp,
        pointer: &str,
        faults: &mut Vec<FieldError>,
    ) -> Self {
        let mut attributes = Self::default();
        let mut expire_after = None;
        for (name, value) in object {
            let result = match name.as_str() {
                "datetime_start" => moment(value).map(|at| attributes.datetime_start = Some(at)),
                "datetime_end" => moment(value).map(|at| attributes.datetime_end = Some(at)),
                "expire_after" => seconds_from(now, value).map(|at| expire_after = Some(at)),
                "count" => positive_integer(value).map(|n| attributes.count = Some(n)),
                "transaction_id" => transaction_id(value).map(|id| attributes.transaction_id = Some(id)),
                "priority" => finite_number(value).map(|n| attributes.priority = n),
                "required_data" => keys(value).map(|keys| attributes.required_data = keys),
                "listener_data" => small_json(value).map(|json| attributes.listener_data = Some(json)),
                "allow_gap" => boolean(value).map(|flag| attributes.allow_gap = flag),
                other if others.contains(&other) => Ok(()),
                _ => Err("there is no such attribute".to_owned()),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push(pointer, name), detail));
            }
        }
        if let Some(end) = expire_after {
            if object.contains_key("datetime_end") {
                let detail = "it sets `datetime_end`, which is given too: leave one of them out";
                faults.push(FieldError::at(field_error::push(pointer, "expire_after"), detail));
            }
            attributes.datetime_end = Some(end);
        }
        if let (Some(start), Some(end)) = (attributes.datetime_start, attributes.datetime_end)
            && start > end
        {
            let name = if expire_after.is_some() { "expire_after" } else { "datetime_end" };
            let detail = format!("it ends at {end}, before `datetime_start` {start}");
            faults.push(FieldError::at(field_error::push(pointer, name), detail));
        }
        attributes
    }

    /// Whether the registration reaches into the past: it starts at `now` or before, or asks for a transaction
    /// without saying since when.
    pub fn is_retroactive(&self, now: Stamp) -> bool {
        match self.datetime_start {
            Some(start) => start <= now,
            None => self.transaction_id.is_some(),
        }
    }
}

fn moment(value: &Value) -> Result<Stamp, String> {
    match value {
        Value::String(text) => Stamp::parse(text).map_err(|e| e.to_string()),
        _ => Err("a moment is a string: a stamp like \"20260131093000.000000\" (UTC) or RFC 3339".to_owned()),
    }
}

fn seconds_from(now: Stamp, value: &Value) -> Result<Stamp, String> {
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_EXPIRE_AFTER_SECS")]
        Some(seconds) if seconds > 0.0 && seconds <= MAX_EXPIRE_AFTER_SECS => {
            Ok(now.plus_micros((seconds * 1e6) as i64))
        }
        _ => Err("it must be a number of seconds above 0, and at most a hundred years".to_owned()),
    }
}

fn positive_integer(value: &Value) -> Result<u64, String> {
    whole_number(value).filter(|n| *n > 0).ok_or_else(|| "it must be a whole number of at least 1".to_owned())
}

/// A whole number, written with a fraction of zero or without: JSON does not tell them apart.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    /// Above it not every whole number is one of floating point.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = |n: &f64| n.fract() == 0.0 && (0.0..=MAX_EXACT).contains(n);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within bounds")]
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|n| n as u64))
}

fn transaction_id(value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(id) if !id.is_empty() && id.len() <= MAX_TRANSACTION_ID_BYTES => Ok(id.to_owned()),
        _ => Err(format!("it must be a string of 1 to {MAX_TRANSACTION_ID_BYTES} bytes")),
    }
}

fn finite_number(value: &Value) -> Result<f64, String> {
    value
        .as_f64()
        .filter(|n| n.abs() <= MAX_PRIORITY)
        .ok_or_else(|| format!("it must be a number from -{MAX_PRIORITY} to {MAX_PRIORITY}"))
}

fn keys(value: &Value) -> Result<Vec<String>, String> {
    let expected = || format!("it must be a list of 1 to {MAX_REQUIRED_KEYS} different non-empty strings");
    let list = value.as_array().ok_or_else(expected)?;
    let mut keys: Vec<String> = Vec::with_capacity(list.len().min(MAX_REQUIRED_KEYS));
    for key in list {
        let key = key.as_str().filter(|key| !key.is_empty() && !keys.iter().any(|k| k == key)).ok_or_else(expected)?;
        keys.push(key.to_owned());
    }
    if (1..=MAX_REQUIRED_KEYS).contains(&keys.len()) { Ok(keys) } else { Err(expected()) }
}

fn small_json(value: &Value) -> Result<Value, String> {
    match value.to_string().len() {
        0..=MAX_LISTENER_DATA_BYTES => Ok(value.clone()),
        bytes => Err(format!("it has {bytes} bytes of JSON; at most {MAX_LISTENER_DATA_BYTES} are kept")),
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "it must be true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    fn parse(json: Value) -> (Attributes, Vec<String>) {
        let mut faults = Vec::new();
        let Value::Object(object) = json else { panic!("not an object") };
        let attributes = Attributes::parse(&object, &["url"], NOW, "/0", &mut faults);
        (attributes, faults.iter().map(|f| serde_json::to_string(f).unwrap()).collect())
    }

    #[test]
    fn every_attribute_is_read_and_comes_back_from_its_stored_form() {
        let (attributes, faults) = parse(json!({
            "url": "ignored here", "datetime_start": "20200101000000.0", "expire_after": 1.5, "count": 3,
            "transaction_id": "t", "priority": -2.5, "required_data": ["a", "b"], "listener_data": {"x": [1]},
            "allow_gap": true,
        }));
        assert_eq!(faults, [""; 0]);
        assert_eq!(attributes.datetime_end, Some(NOW.plus_micros(1_500_000)));
        assert_eq!((attributes.count, attributes.priority), (Some(3), -2.5));
        let stored = serde_json::to_string(&attributes).unwrap();
        assert_eq!(serde_json::from_str::<Attributes>(&stored).unwrap(), attributes);
        assert_eq!(serde_json::from_str::<Attributes>("{}").unwrap(), Attributes::default());
    }

    #[test]
    fn each_fault_names_its_field() {
        for (json, pointer) in [
            (json!({"datetime_start": 20_200_101}), "/0/datetime_start"),
            (json!({"datetime_start": "soon"}), "/0/datetime_start"),
            (json!({"datetime_end": null}), "/0/datetime_end"),
            (json!({"expire_after": 0}), "/0/expire_after"),
            (json!({"expire_after": "60"}), "/0/expire_after"),
            (json!({"expire_after": 1e300}), "/0/expire_after"),
            (json!({"expire_after": 1, "datetime_end": "20990101000000.0"}), "/0/expire_after"),
            (json!({"datetime_start": "20200102000000.0", "datetime_end": "20200101000000.0"}), "/0/datetime_end"),
            (json!({"count": 0}), "/0/count"),
            (json!({"count": -1}), "/0/count"),
            (json!({"count": 1.5}), "/0/count"),
            (json!({"count": "1"}), "/0/count"),
            (json!({"transaction_id": ""}), "/0/transaction_id"),
            (json!({"priority": "high"}), "/0/priority"),
            (json!({"priority": 1e300}), "/0/priority"),
            (json!({"required_data": []}), "/0/required_data"),
            (json!({"required_data": ["a", "a"]}), "/0/required_data"),
            (json!({"required_data": "a"}), "/0/required_data"),
            (json!({"listener_data": "x".repeat(4095)}), "/0/listener_data"),
            (json!({"allow_gap": 1}), "/0/allow_gap"),
            (json!({"cuont": 1}), "/0/cuont"),
        ] {
            let (_, faults) = parse(json.clone());
            assert_eq!(faults.len(), 1, "{json}: {faults:?}");
            assert!(faults[0].contains(&format!("{{\"pointer\":\"{pointer}\"")), "{json}: {faults:?}");
        }
    }

    #[test]
    fn a_past_start_and_a_transaction_without_one_reach_back() {
        let retroactive = |json| parse(json).0.is_retroactive(NOW);
        assert!(retroactive(json!({"datetime_start": NOW})));
        assert!(!retroactive(json!({"datetime_start": NOW.plus_micros(1)})));
        assert!(retroactive(json!({"transaction_id": "t"})));
        assert!(!retroactive(json!({"transaction_id": "t", "datetime_start": NOW.plus_micros(1)})));
        assert!(!retroactive(json!({"count": 1})));
    }
}
