//! The body of `replay`.

use domain::Stamp;
use domain::field_error::{self, FieldError};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use web::openapi::moment_that;

use super::values::moment_of;

/// The part of the log that is to be delivered again
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(as = ReplayToMake)]
#[schema(example = json!({"from": "2026-01-31T09:30:00Z"}))]
#[serde(deny_unknown_fields)]
pub struct RedeliveryRequest {
    /// Events of an earlier time are left out; not in the future.
    #[schema(schema_with = from)]
    pub from: Stamp,
    /// Events of a later time are left out; `None`: up to now.
    #[schema(required = false, schema_with = to)]
    pub to: Option<Stamp>,
}

fn from() -> RefOr<Schema> {
    moment_that("Events of an earlier time are left out. Not in the future: more than five seconds ahead is")
}

fn to() -> RefOr<Schema> {
    moment_that("Events of a later time are left out; not before `from`. Left out itself: up to now")
}

impl RedeliveryRequest {
    /// Reads `{"from":…,"to":…}`; `to` may be left out.
    pub fn parse(body: &Value, now: Stamp) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "it must be a JSON object with `from`")]);
        };
        let mut faults = Vec::new();
        let mut moment = |name: &str| {
            moment_of(body.get(name)?).map_err(|detail| faults.push(FieldError::at(format!("/{name}"), detail))).ok()
        };
        let (from, to) = (moment("from"), moment("to"));
        if !body.contains_key("from") {
            faults.push(FieldError::at("/from", "it is missing"));
        }
        for name in body.keys().filter(|name| !matches!(name.as_str(), "from" | "to")) {
            faults.push(FieldError::at(field_error::push("", name), "it is unknown; expected: from, to"));
        }
        // What was answered a moment ago may be ahead of this clock.
        if from.is_some_and(|from| from > now.plus_micros(CLOCK_SKEW_MARGIN_MICROS)) {
            faults.push(FieldError::at("/from", "it is in the future: there is nothing to deliver again"));
        }
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            faults.push(FieldError::at("/to", format!("it is before `from`, {from}")));
        }
        match (from, faults.is_empty()) {
            (Some(from), true) => Ok(Self { from, to }),
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointers;
    use super::*;
    use serde_json::json;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_redelivery_has_a_beginning_in_the_past() {
        let parse = |body: Value| RedeliveryRequest::parse(&body, NOW);
        assert!(parse(json!({"from": "20200101000000.0"})).is_ok());
        let ahead =
            |micros: i64| parse(json!({"from": NOW.plus_micros(CLOCK_SKEW_MARGIN_MICROS + micros).to_string()}));
        assert!(ahead(0).is_ok(), "another clock's, of a moment ago");
        assert_eq!(pointers(ahead(1)), ["/from"]);
        assert_eq!(pointers(parse(json!({"to": "20200101000000.0", "x": 1}))), ["/from", "/x"]);
        assert_eq!(pointers(parse(json!({"from": "20990101000000.0"}))), ["/from"]);
        assert_eq!(pointers(parse(json!({"from": "20200102000000.0", "to": "20200101000000.0"}))), ["/to"]);
    }
}
