//! The bodies that the receiver reads: each is read by its `parse` only, and is described for OpenAPI beside it.
//!
//! What an event may be is [`domain`]'s, which must not know of descriptions of HTTP: these hold its values.

use std::borrow::Cow;

use domain::cloud_event::NotACloudEvent;
use domain::event_data::NotEventData;
use domain::{CloudEvent, EventData};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use web::openapi::{anything, schema_of};

/// The body of `POST /receive_event/{type}`.
pub struct EventBody(pub EventData);

impl EventBody {
    /// Reads a JSON object; see [`EventData::parse`].
    pub fn parse(body: &[u8]) -> Result<Self, NotEventData> {
        EventData::parse(body).map(Self)
    }
}

/// One CloudEvent in the JSON event format: a body, or one of several in it.
pub struct CloudEventBody(pub CloudEvent);

impl CloudEventBody {
    /// Reads one; `pointer` is where it stands in the body. See [`CloudEvent::from_structured`].
    pub fn parse(json: &RawValue, pointer: &str) -> Result<Self, NotACloudEvent> {
        CloudEvent::from_structured(json, pointer).map(Self)
    }
}

/// The body of `POST /v1/log/epochs`
#[derive(ToSchema)]
#[schema(example = json!({"reason": "restored from the copy of last night"}))]
pub struct NewEpoch {
    /// Why the log is another one, for those who read it later
    #[schema(min_length = 1, max_length = 256)]
    pub reason: String,
}

impl PartialSchema for EventBody {
    fn schema() -> RefOr<Schema> {
        schema_of(json!({
            "type": "object",
            "description": "The data of an event: a JSON object with any members; these two mean something to mer",
            "properties": {
                "transaction_id": {
                    "type": "string", "minLength": 1, "maxLength": 256,
                    "description": "The transaction that the event belongs to, 1 to 256 bytes; left out, the event's stamp becomes it",
                },
                "redirect_url": {
                    "description": "An absolute http or https URL: the answer is a redirection to it, once the event is stored. \
                        Empty or null: none",
                    "anyOf": [
                        {"type": "string", "maxLength": 0},
                        {"type": "string", "pattern": "^https?://[^ ]+$"},
                        {"type": "null"},
                    ],
                },
            },
            "example": {"name": "tismoj"},
        }))
    }
}

impl ToSchema for EventBody {
    fn name() -> Cow<'static, str> {
        "EventData".into()
    }
}

/// What text without control characters is.
const PRINTABLE: &str = r"^[^\x00-\x1f\x7f-\x9f]+$";
/// What the name of an attribute is; and `data_base64`.
const NAME: &str = "^([a-z0-9]+|data_base64)$";

impl PartialSchema for CloudEventBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = schema_of(json!({
            "type": "object",
            "description": "A CloudEvent 1.0 in the JSON event format; further members are extension attributes",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {
                    "type": "string", "enum": ["1.0"], "description": "The version of CloudEvents that it follows",
                },
                "id": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": PRINTABLE,
                    "description": "What makes it, with its `source`, one and the same event: sent again, it is stored once. At most 1,024 bytes",
                },
                "source": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": PRINTABLE,
                    "description": "Where it comes from: a URI reference of at most 1,024 bytes",
                },
                "type": {
                    "type": "string", "maxLength": 200,
                    "description": "Its type: tokens with dots between them, at most 200 bytes",
                    "pattern": r"^(?!\$|mer\.)[^\s/*>.\x00-\x1f\x7f-\x9f]+(\.[^\s/*>.\x00-\x1f\x7f-\x9f]+)*$",
                },
                "time": {
                    "type": "string", "format": "date-time",
                    "description": "When it happened, RFC 3339; left out, when it was received",
                },
                "transactionid": {
                    "type": "string", "minLength": 1, "maxLength": 256, "pattern": PRINTABLE,
                    "description": "The transaction that it belongs to, 1 to 256 bytes; left out, the data's `transaction_id`, or else a stamp",
                },
                "data_base64": {
                    "type": ["string", "null"], "format": "byte",
                    "description": "Data that is not JSON, in base64; not beside `data`. null is as if it were left out",
                },
            },
            "additionalProperties": {
                "type": ["string", "boolean", "integer", "null"],
                "minimum": i32::MIN, "maximum": i32::MAX, "pattern": PRINTABLE,
            },
            "propertyNames": {"type": "string", "pattern": NAME},
            "example": {"specversion": "1.0", "id": "4711", "source": "/shop", "type": "order.created", "data": {"n": 1}},
        }));
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.insert("data".to_owned(), anything("The data: any JSON; left out: none"));
        }
        schema
    }
}

impl ToSchema for CloudEventBody {
    fn name() -> Cow<'static, str> {
        "CloudEvent".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn properties<T: PartialSchema>() -> serde_json::Map<String, Value> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"].as_object().unwrap().clone()
    }

    #[test]
    fn both_bodies_and_all_that_stands_in_them_are_described() {
        for (properties, count) in [(properties::<EventBody>(), 2), (properties::<CloudEventBody>(), 8)] {
            assert_eq!(properties.len(), count, "{properties:?}");
            for (name, property) in properties {
                assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
            }
        }
    }

    #[test]
    fn every_example_is_accepted_and_every_limit_is_the_one_that_is_kept() {
        let schema = serde_json::to_value(CloudEventBody::schema()).unwrap();
        let example = schema["example"].clone();
        let is_good = |event: &Value| {
            let json = serde_json::value::to_raw_value(event).unwrap();
            CloudEventBody::parse(&json, "").is_ok()
        };
        assert!(is_good(&example));
        for name in schema["required"].as_array().unwrap() {
            let mut event = example.clone();
            event.as_object_mut().unwrap().remove(name.as_str().unwrap());
            assert!(!is_good(&event), "{name}");
        }
        for (name, property) in properties::<CloudEventBody>() {
            let with = |text: String| {
                let mut event = example.clone();
                event[&name] = text.into();
                event
            };
            if let Some(longest) = property["maxLength"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()) {
                assert!(is_good(&with("a".repeat(longest))) && !is_good(&with("a".repeat(longest + 1))), "{name}");
            }
            if property.get("minLength").is_some() {
                assert!(!is_good(&with(String::new())), "{name}");
            }
        }
        let longest =
            |bytes: usize| EventBody::parse(format!(r#"{{"transaction_id":"{}"}}"#, "a".repeat(bytes)).as_bytes());
        assert!(longest(256).is_ok() && longest(257).is_err() && longest(0).is_err());
    }
}
