//! What a registration says beside its event and its URL, as it stands in a request.

use domain::attributes::StartAt;
use domain::event_data::MAX_TRANSACTION_ID_BYTES;
use domain::field_error::{self, FieldError};
use domain::{Attributes, Stamp, header_value};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::openapi::{moment_that, schema_of};

use super::values::{moment_of, whole_number};

/// The largest `listener_data`, in bytes of compact JSON.
const MAX_LISTENER_DATA_BYTES: usize = 4096;
/// The same, percent-encoded as it is delivered. nginx, Apache and gunicorn refuse headers of 8 KiB.
const MAX_LISTENER_DATA_HEADER_BYTES: usize = 7 * 1024;
/// The most keys that `required_data` may name.
const MAX_REQUIRED_KEYS: usize = 64;
/// The furthest that `expire_after` may reach, in seconds: a hundred years.
const MAX_EXPIRE_AFTER_SECS: f64 = 100.0 * 365.25 * 86_400.0;
/// The furthest from 0 that a priority may be: waiting makes up for it in a day and a bit.
const MAX_PRIORITY: f64 = 1e6;

/// What a registration says beside its event and its URL
#[derive(Debug, Clone, Default, PartialEq, ToSchema)]
pub struct RegistrationAttributes {
    /// A place in the log. Each call has a member of its own for it.
    #[schema(ignore)]
    start: Option<StartAt>,
    #[schema(required = false, schema_with = start)]
    datetime_start: Option<Stamp>,
    #[schema(required = false, schema_with = end)]
    datetime_end: Option<Stamp>,
    /// How long from now it is wanted, in seconds, at most a hundred years: sets `datetime_end`, and does not stand beside it
    #[schema(nullable = false, exclusive_minimum = 0, maximum = 3_155_760_000_u64)]
    expire_after: Option<f64>,
    /// How many successful deliveries complete the registration, past ones counted; left out: it has no such end
    #[schema(nullable = false, minimum = 1)]
    count: Option<u64>,
    /// Only events of this transaction, 1 to 256 bytes. Without a `datetime_start`, earlier ones too
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    transaction_id: Option<String>,
    /// Lower goes first when deliveries wait for each other; left out: 100
    #[schema(nullable = false, minimum = -1_000_000, maximum = 1_000_000)]
    priority: Option<f64>,
    #[schema(required = false, schema_with = keys)]
    required_data: Option<Vec<String>>,
    /// Any JSON, at most 4 KiB, whole numbers of 64 bits at most: given back with each delivery as the header `ce-listenerdata`; left out: none
    #[schema(required = false, value_type = Value)]
    listener_data: Option<Value>,
    /// Whether a `datetime_start` is accepted though events from then on may have been removed from the log; left out: no
    #[schema(nullable = false)]
    allow_gap: Option<bool>,
}

fn start() -> RefOr<Schema> {
    moment_that(
        "The first moment whose events are wanted (inclusive). Not after now: the past from there on, then live, without a gap. \
         Later: nothing earlier is delivered. Left out: what is accepted from now on",
    )
}

fn end() -> RefOr<Schema> {
    moment_that(
        "The last moment whose events are wanted (inclusive): nothing later is delivered, and the registration completes. Left \
         out: it has no end",
    )
}

fn keys() -> RefOr<Schema> {
    schema_of(json!({
        "type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 64, "uniqueItems": true,
        "description": "Keys that a delivery has to have: one that the data lacks is filled in from the latest earlier event of \
            the same transaction that has it; where none has, the event is skipped. Left out: none",
    }))
}

impl RegistrationAttributes {
    /// Reads the attributes out of an object that may also hold the keys of `others`; `pointer` is where it stands.
    /// Every fault is added to `faults`; the result counts only if none was.
    pub fn parse(
        object: &Map<String, Value>,
        others: &[&str],
        now: Stamp,
        pointer: &str,
        faults: &mut Vec<FieldError>,
    ) -> Self {
        let mut given = Self::default();
        for (name, value) in object.iter().filter(|(name, _)| !others.contains(&name.as_str())) {
            if let Err(detail) = given.take_in(name, value) {
                faults.push(FieldError::at(field_error::push(pointer, name), detail));
            }
        }
        let mut fault = |name, detail| faults.push(FieldError::at(field_error::push(pointer, name), detail));
        if given.expire_after.is_some() && object.contains_key("datetime_end") {
            fault("expire_after", "it sets `datetime_end`, which is given too: leave one of them out".to_owned());
        }
        if let (Some(start), Some(end)) = (given.datetime_start, given.end(now))
            && start > end
        {
            let name = if given.expire_after.is_some() { "expire_after" } else { "datetime_end" };
            fault(name, format!("it ends at {end}, before `datetime_start` {start}"));
        }
        given
    }

    /// Takes in where in the log to begin, which `read` makes of the member `name`.
    pub fn take_in_start(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: impl Fn(&Value) -> Result<StartAt, String>,
        pointer: &str,
        faults: &mut Vec<FieldError>,
    ) {
        let Some(value) = object.get(name) else { return };
        let detail = match read(value) {
            Ok(_) if object.contains_key("datetime_start") => {
                "`datetime_start` says where to begin too: leave one of them out".to_owned()
            }
            Ok(start) => {
                self.start = Some(start);
                return;
            }
            Err(detail) => detail,
        };
        faults.push(FieldError::at(field_error::push(pointer, name), detail));
    }

    fn take_in(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "datetime_start" => self.datetime_start = Some(moment_of(value)?),
            "datetime_end" => self.datetime_end = Some(moment_of(value)?),
            "expire_after" => self.expire_after = Some(seconds(value)?),
            "count" => self.count = Some(positive_integer(value)?),
            "transaction_id" => self.transaction_id = Some(transaction_id(value)?),
            "priority" => self.priority = Some(finite_number(value)?),
            "required_data" => self.required_data = Some(different_keys(value)?),
            "listener_data" => self.listener_data = Some(small_json(value)?),
            "allow_gap" => self.allow_gap = Some(boolean(value)?),
            _ => return Err("there is no such attribute".to_owned()),
        }
        Ok(())
    }

    /// Whether the end was given as `expire_after`.
    pub fn expires(&self) -> bool {
        self.expire_after.is_some()
    }

    /// What is kept, with `expire_after` counted from `now`.
    pub fn resolve(&self, now: Stamp) -> Attributes {
        let default = Attributes::default();
        Attributes {
            start: self.start,
            datetime_start: self.datetime_start,
            datetime_end: self.end(now),
            expire_after: self.expire_after,
            count: self.count,
            transaction_id: self.transaction_id.clone(),
            priority: self.priority.unwrap_or(default.priority),
            required_data: self.required_data.clone().unwrap_or_default(),
            listener_data: self.listener_data.clone(),
            allow_gap: self.allow_gap.unwrap_or_default(),
        }
    }

    fn end(&self, now: Stamp) -> Option<Stamp> {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_EXPIRE_AFTER_SECS")]
        let expiry = self.expire_after.map(|seconds| now.plus_micros((seconds * 1e6) as i64));
        expiry.or(self.datetime_end)
    }
}

fn seconds(value: &Value) -> Result<f64, String> {
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_EXPIRE_AFTER_SECS);
    seconds.ok_or_else(|| "it must be a number of seconds above 0, and at most a hundred years".to_owned())
}

fn positive_integer(value: &Value) -> Result<u64, String> {
    whole_number(value).filter(|n| *n > 0).ok_or_else(|| "it must be a whole number of at least 1".to_owned())
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

fn different_keys(value: &Value) -> Result<Vec<String>, String> {
    let expected = || format!("it must be a list of 1 to {MAX_REQUIRED_KEYS} different non-empty strings");
    // Before they are compared, each with every one.
    let list = value.as_array().filter(|list| (1..=MAX_REQUIRED_KEYS).contains(&list.len())).ok_or_else(expected)?;
    let mut keys: Vec<String> = Vec::with_capacity(list.len());
    for key in list {
        let key = key.as_str().filter(|key| !key.is_empty() && !keys.iter().any(|k| k == key)).ok_or_else(expected)?;
        keys.push(key.to_owned());
    }
    Ok(keys)
}

fn small_json(value: &Value) -> Result<Value, String> {
    let text = value.to_string();
    let (bytes, header_bytes) = (text.len(), header_value::encode(&text).len());
    if bytes > MAX_LISTENER_DATA_BYTES {
        Err(format!("it has {bytes} bytes of JSON; at most {MAX_LISTENER_DATA_BYTES} are kept"))
    } else if header_bytes > MAX_LISTENER_DATA_HEADER_BYTES {
        Err(format!(
            "as the header `ce-listenerdata` it has {header_bytes} bytes (quotes and what is not ASCII take three a byte); \
             at most {MAX_LISTENER_DATA_HEADER_BYTES} go, as many servers refuse longer headers"
        ))
    } else {
        Ok(value.clone())
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
        let attributes = RegistrationAttributes::parse(&object, &["url"], NOW, "/0", &mut faults);
        (attributes.resolve(NOW), faults.iter().map(|f| serde_json::to_string(f).unwrap()).collect())
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
        assert_eq!(parse(json!({})).0, Attributes::default());
    }

    #[test]
    fn a_list_of_too_many_keys_is_refused_before_they_are_compared() {
        // Each with every one: that would take minutes.
        let keys: Vec<String> = (0..300_000).map(|n| format!("key-{n}")).collect();
        let (_, faults) = parse(json!({ "required_data": keys }));
        assert_eq!(faults.len(), 1);
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
            (json!({"listener_data": "ж".repeat(2040)}), "/0/listener_data"),
            (json!({"listener_data": "\"".repeat(2040)}), "/0/listener_data"),
            (json!({"allow_gap": 1}), "/0/allow_gap"),
            (json!({"cuont": 1}), "/0/cuont"),
        ] {
            let (_, faults) = parse(json.clone());
            assert_eq!(faults.len(), 1, "{json}: {faults:?}");
            assert!(faults[0].contains(&format!("{{\"pointer\":\"{pointer}\"")), "{json}: {faults:?}");
        }
    }
}
