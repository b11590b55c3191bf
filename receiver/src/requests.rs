//! The bodies that the receiver reads: each has one door, `parse`, and is described for OpenAPI beside it.
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
use web::openapi::schema_of;

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

impl PartialSchema for EventBody {
    fn schema() -> RefOr<Schema> {
        schema_of(json!({
            "type": "object",
            "description": "The data of an event: a JSON object",
            "properties": {
                "transaction_id": {
                    "type": "string", "minLength": 1, "maxLength": 256,
                    "description": "The transaction that the event belongs to; left out, the event's stamp becomes it",
                },
                "redirect_url": {
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
        schema_of(json!({
            "type": "object",
            "description": "A CloudEvent 1.0 in the JSON event format; further members are extension attributes",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {"type": "string", "enum": ["1.0"]},
                "id": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": PRINTABLE,
                    "description": "With the source, what makes it one and the same event",
                },
                "source": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": PRINTABLE,
                    "description": "A URI reference",
                },
                "type": {
                    "type": "string", "maxLength": 200,
                    "pattern": r"^(?!\$|mer\.)[^\s/*>.\x00-\x1f\x7f-\x9f]+(\.[^\s/*>.\x00-\x1f\x7f-\x9f]+)*$",
                },
                "time": {"type": "string", "format": "date-time"},
                "transactionid": {
                    "type": "string", "minLength": 1, "maxLength": 256, "pattern": PRINTABLE,
                    "description": "The transaction that the event belongs to",
                },
                "data": {"description": "Any JSON"},
                "data_base64": {
                    "type": "string", "format": "byte",
                    "description": "Data that is not JSON, in base64; not beside `data`",
                },
            },
            "additionalProperties": {
                "type": ["string", "boolean", "integer", "null"],
                "minimum": i32::MIN, "maximum": i32::MAX, "pattern": PRINTABLE,
            },
            "propertyNames": {"type": "string", "pattern": NAME},
            "example": {"specversion": "1.0", "id": "4711", "source": "/shop", "type": "order.created", "data": {"n": 1}},
        }))
    }
}

impl ToSchema for CloudEventBody {
    fn name() -> Cow<'static, str> {
        "CloudEvent".into()
    }
}
