//! Values that stand in several requests: how they are read, and what is said of them in the description.

use domain::Stamp;
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
        "pattern": "^https?://[^ #]+$",
    }))
}

pub(crate) fn secret_type() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string", "enum": ["v1", "v1a"], "default": "v1", "description": "How it signs. `v1`: HMAC-SHA256. `v1a`: ed25519",
    }))
}
