//! The body of `rotate-secret`.

use std::time::Duration;

use domain::SecretType;
use domain::field_error::{self, FieldError};
use serde_json::Value;
use utoipa::ToSchema;

use super::values::{secret_type, whole_number};

/// How long the secrets that there are go on signing, in seconds, where nothing is said.
pub const DEFAULT_GRACE_SECS: u64 = 86_400;
/// The longest that they may, in seconds: 30 days.
const MAX_GRACE_SECS: u64 = 2_592_000;

/// A secret that is to be made
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(as = SecretToMake)]
#[schema(example = json!({"type": "v1", "grace_secs": 3600}))]
#[serde(deny_unknown_fields)]
pub struct RotationRequest {
    /// How it signs.
    #[serde(rename = "type")]
    #[schema(required = false, schema_with = secret_type)]
    pub kind: SecretType,
    /// How long the secrets of the same type that there are go on signing, in seconds; 0 ends them now; left out: a day
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000, value_type = Option<u64>)]
    pub grace_secs: u64,
}

impl RotationRequest {
    /// How long the secrets of the same type that there are go on signing.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_secs)
    }

    /// Reads `{"type":"v1"|"v1a","grace_secs":…}`; both may be left out.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "it must be a JSON object, or be left out")]);
        };
        let (mut request, mut faults) = (Self::default(), Vec::new());
        for (name, value) in body {
            let result = match name.as_str() {
                "type" => match value.as_str().and_then(SecretType::parse) {
                    Some(kind) => {
                        request.kind = kind;
                        Ok(())
                    }
                    None => Err("it must be `v1` (HMAC-SHA256) or `v1a` (ed25519)".to_owned()),
                },
                "grace_secs" => match whole_number(value) {
                    Some(seconds @ 0..=MAX_GRACE_SECS) => {
                        request.grace_secs = seconds;
                        Ok(())
                    }
                    _ => Err(format!("it must be a whole number from 0 to {MAX_GRACE_SECS}")),
                },
                _ => Err("it is unknown; expected: type, grace_secs".to_owned()),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        if faults.is_empty() { Ok(request) } else { Err(faults) }
    }
}

impl Default for RotationRequest {
    fn default() -> Self {
        Self { kind: SecretType::default(), grace_secs: DEFAULT_GRACE_SECS }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointers;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rotation_says_which_type_and_how_long_the_others_stay() {
        let rotation = |kind, grace_secs| RotationRequest { kind, grace_secs };
        for (body, request) in [
            (json!({}), rotation(SecretType::V1, 86_400)),
            (json!({"type": "v1a"}), rotation(SecretType::V1a, 86_400)),
            (json!({"type": "v1", "grace_secs": 0}), rotation(SecretType::V1, 0)),
            (json!({"grace_secs": MAX_GRACE_SECS}), rotation(SecretType::V1, MAX_GRACE_SECS)),
        ] {
            assert_eq!(RotationRequest::parse(&body), Ok(request), "{body}");
        }
        for (body, faults) in [
            (json!([]), &[""][..]),
            (
                json!({"type": "v2", "grace_secs": MAX_GRACE_SECS + 1, "secret": "x"}),
                &["/type", "/grace_secs", "/secret"],
            ),
            (json!({"type": null, "grace_secs": -1}), &["/type", "/grace_secs"]),
        ] {
            assert_eq!(pointers(RotationRequest::parse(&body)), faults, "{body}");
        }
    }
}
