//! Values that stand in several requests: how they are read, and what is said of them in the description.

use domain::Stamp;
use domain::attributes::StartAt;
use domain::event::MAX_SEQUENCE;
use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::openapi::schema_of;

/// The most types and patterns that one URL may be registered for.
pub(crate) const MAX_ENTRIES: usize = 1000;

/// A moment: a stamp or RFC 3339.
pub(super) fn moment_of(value: &Value) -> Result<Stamp, String> {
    let text = value.as_str();
    let text = text.ok_or("a moment is a string: a stamp like \"20260131093000.000000\" (UTC) or RFC 3339")?;
    Stamp::parse(text).map_err(|error| error.to_string())
}

/// A whole number, written with a fraction of zero or without: JSON does not tell them apart.
pub(super) fn whole_number(value: &Value) -> Option<u64> {
    /// Above it not every whole number is one of floating point.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = |n: &f64| n.fract() == 0.0 && (0.0..=MAX_EXACT).contains(n);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within bounds")]
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|n| n as u64))
}

/// A position in the log that a target states: the sequence of the last event that it has had, or 0.
pub(super) fn position_of(value: &Value) -> Result<StartAt, String> {
    let sequence = whole_number(value).filter(|sequence| *sequence <= MAX_SEQUENCE);
    sequence.map(StartAt::After).ok_or_else(|| "it must be the sequence of an event, or 0".to_owned())
}

/// Where in the log to begin: `{"after": SEQUENCE}`.
pub(super) fn start_of(value: &Value) -> Result<StartAt, String> {
    let object = value.as_object().filter(|object| object.len() == 1);
    let after = object.and_then(|object| object.get("after"));
    position_of(after.ok_or_else(|| "it must be an object with `after` alone".to_owned())?)
}

pub(super) fn position() -> RefOr<Schema> {
    schema_of(json!({
        "type": "integer", "format": "int64", "minimum": 0,
        "description": "The position that the target states: it has had everything up to this sequence, and gets what comes behind \
            it, each time that it says so. It does not stand beside `datetime_start`. Left out: see there",
    }))
}

/// The schema of what [`start_of`] reads, with what it means where it stands.
pub(super) fn start_that(meaning: &str) -> RefOr<Schema> {
    schema_of(json!({
        "type": "object", "required": ["after"], "additionalProperties": false,
        "properties": {"after": {
            "type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SEQUENCE,
            "description": "The sequence of the last event that the target has had; 0: none",
        }},
        "description": format!("{meaning}. `after`: the position that the target states; it gets what comes behind it, each time \
            that it says so, back or forth. It does not stand beside `datetime_start`. Left out: see there"),
    }))
}

/// The schema of an object with one more property, which may be left out.
pub(super) fn optionally_with(object: RefOr<Schema>, name: &str, property: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = object else { return object };
    object.properties.insert(name.to_owned(), property);
    RefOr::T(Schema::Object(object))
}

pub(super) fn type_pattern() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string",
        "description": "A type, or a pattern of types: `*` stands for a token, `>` at the end for the rest. At most 200 bytes",
        "maxLength": 200,
        "pattern": r"^(?!\$|mer\.)(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+)(\.(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+))*(\.>)?$",
    }))
}

pub(super) fn target_url() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string",
        "description": "Where events go: an absolute http or https URL without a fragment, at most 2,048 bytes when it is percent-encoded",
        "format": "uri",
        "pattern": r"^https?://[^ #/\\\x00-\x1f\x7f][^ #\\\x00-\x1f\x7f]*$",
    }))
}

pub(crate) fn secret_type() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string", "enum": ["v1", "v1a"], "description": "How it signs; left out: `v1`. `v1`: HMAC-SHA256. `v1a`: ed25519",
    }))
}
