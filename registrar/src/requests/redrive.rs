//! The body of `/v1/dead-letters/redrive`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use domain::event::MAX_SEQUENCE;
use domain::field_error::{self, FieldError};
use domain::subscription::MAX_ONLY;
use domain::{DeadLetter, Stamp, SubscriptionId};
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use web::openapi::{moment_that, schema_of};

use super::values::{moment_of, whole_number};

/// A request to have dead letters of one subscription delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveRequest {
    /// The subscription that gave them up.
    pub subscription: SubscriptionId,
    /// Which.
    pub letters: Letters,
}

/// Which dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// Those with these sequences, of their own.
    Named(BTreeSet<u64>),
    /// Those that were given up within a time, inclusive; without an end, up to now.
    Of {
        /// The first moment.
        from: Stamp,
        /// The last one.
        to: Option<Stamp>,
    },
}

impl PartialSchema for RedriveRequest {
    fn schema() -> RefOr<Schema> {
        let subscription = json!({
            "type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$",
            "description": "The id of the subscription that gave them up",
        });
        let sequences = json!({
            "type": "array", "description": "The sequences of dead letters themselves, not of their events", "minItems": 1, "maxItems": 1000,
            "items": {"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX},
        });
        let by = |properties: Value, required: &str| {
            let mut properties = properties;
            properties["subscription"] = subscription.clone();
            json!({"type": "object", "properties": properties, "required": ["subscription", required], "additionalProperties": false})
        };
        let from = moment_that("The first moment: those that were given up earlier stay");
        let to = moment_that("The last moment: those that were given up later stay. Left out: up to now");
        schema_of(json!({
            "description": "Dead letters that are to be delivered again: by their own sequences, or by when they were given up",
            "oneOf": [by(json!({"sequences": sequences}), "sequences"), by(json!({"from": from, "to": to}), "from")],
            "example": {"subscription": "127-0-0-1-8888-hello_0123456789abcdef", "sequences": [1, 2]},
        }))
    }
}

impl ToSchema for RedriveRequest {
    fn name() -> Cow<'static, str> {
        "Redrive".into()
    }
}

impl Letters {
    /// Whether a dead letter is one of them.
    pub fn hold(&self, sequence: u64, letter: &DeadLetter) -> bool {
        match self {
            Self::Named(sequences) => sequences.contains(&sequence),
            Self::Of { from, to } => letter.at >= *from && to.is_none_or(|to| letter.at <= to),
        }
    }
}

impl RedriveRequest {
    /// Reads `{"subscription","sequences":[…]}` or `{"subscription","from","to"}`, where `to` may be left out.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::at("", "it must be a JSON object with `subscription`")]);
        };
        let mut faults = Vec::new();
        let (mut subscription, mut sequences, mut from, mut to) = (None, None, None, None);
        for (name, value) in body {
            let result = match name.as_str() {
                "subscription" => subscription_of(value).map(|id| subscription = Some(id)),
                "sequences" => sequences_of(value).map(|set| sequences = Some(set)),
                "from" => moment_of(value).map(|moment| from = Some(moment)),
                "to" => moment_of(value).map(|moment| to = Some(moment)),
                _ => Err("it is unknown; expected: subscription, sequences, from, to".to_owned()),
            };
            if let Err(detail) = result {
                faults.push(FieldError::at(field_error::push("", name), detail));
            }
        }
        if !body.contains_key("subscription") {
            faults.push(FieldError::at("/subscription", "it is missing"));
        }
        faults.extend(fault_of_choice(body));
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            faults.push(FieldError::at("/to", format!("it is before `from`, {from}")));
        }
        let letters = match (sequences, from) {
            (Some(sequences), _) => Some(Letters::Named(sequences)),
            (None, from) => from.map(|from| Letters::Of { from, to }),
        };
        match (subscription, letters, faults.is_empty()) {
            (Some(subscription), Some(letters), true) => Ok(Self { subscription, letters }),
            _ => Err(faults),
        }
    }
}

/// What is wrong where a request names both kinds of dead letters, or neither.
fn fault_of_choice(body: &Map<String, Value>) -> Option<FieldError> {
    let has = |name: &str| body.contains_key(name);
    match (has("sequences"), has("from")) {
        (true, false) if !has("to") => None,
        (false, true) => None,
        (false, false) => Some(FieldError::at("", "it must have `sequences`, or `from`")),
        (true, _) => Some(FieldError::at("/sequences", "not beside `from` and `to`")),
    }
}

fn subscription_of(value: &Value) -> Result<SubscriptionId, String> {
    SubscriptionId::parse(value.as_str().ok_or("it must be a string")?).map_err(|error| error.to_string())
}

fn sequences_of(value: &Value) -> Result<BTreeSet<u64>, String> {
    let numbers = value.as_array().filter(|list| (1..=MAX_ONLY).contains(&list.len()));
    let number = |value| whole_number(value).filter(|number| (1..=MAX_SEQUENCE).contains(number));
    let sequences = numbers.and_then(|list| list.iter().map(number).collect());
    sequences.ok_or_else(|| format!("it must be a list of 1 to {MAX_ONLY} sequences of dead letters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Event;

    /// A dead letter of sequence 17 that was given up one microsecond after 09:30:00.000007.
    fn letter() -> DeadLetter {
        let at = Stamp::parse("20260131093000.000007").unwrap();
        DeadLetter {
            subscription: SubscriptionId::parse("s").unwrap(),
            event: Event::from_message("EVENTS", "events.a", 17, at, [], "{}".into()).unwrap(),
            attempts: 3,
            code: Some(500),
            error: "answered 500".to_owned(),
            at: at.plus_micros(1),
        }
    }

    #[test]
    fn what_is_to_be_delivered_again_is_named_or_of_a_time() {
        let parse = |body: Value| RedriveRequest::parse(&body);
        let named = parse(json!({"subscription": "s", "sequences": [3, 3, 1.0]})).unwrap().letters;
        assert_eq!(named, Letters::Named([1, 3].into()));
        assert!(named.hold(3, &letter()) && !named.hold(17, &letter()));
        let of = |from: &str, to: &str| parse(json!({"subscription": "s", "from": from, "to": to})).unwrap().letters;
        assert!(of("20260131093000.000008", "20260131093000.000008").hold(1, &letter()));
        assert!(!of("20260131093000.000009", "20260131093000.000009").hold(1, &letter()));
        assert!(parse(json!({"subscription": "s", "from": "20260131093000.0"})).is_ok());
    }

    #[test]
    fn every_fault_of_a_request_is_named() {
        let pointers = |body: Value| -> Vec<String> {
            let value = serde_json::to_value(RedriveRequest::parse(&body).unwrap_err()).unwrap();
            value.as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(pointers(json!({})), ["/subscription", ""]);
        assert_eq!(pointers(json!({"subscription": "a b", "sequences": []})), ["/subscription", "/sequences"]);
        assert_eq!(pointers(json!({"subscription": "s", "sequences": [0]})), ["/sequences"]);
        assert_eq!(pointers(json!({"subscription": "s", "sequences": [1], "from": "2026", "x": 1})).len(), 3);
        assert_eq!(pointers(json!({"subscription": "s", "sequences": [1], "to": "20260101000000.0"})), ["/sequences"]);
        let turned = json!({"subscription": "s", "from": "20260102000000.0", "to": "20260101000000.0"});
        assert_eq!(pointers(turned), ["/to"]);
    }
}
