//! The shapes of requests and answers, for their description in OpenAPI. Nothing is made of these types: what is read
//! and written is in `domain` and in [`domain::event_view`]; the contract test holds both together.
#![allow(dead_code, reason = "they describe; nothing is made of them")]

use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema, Type};
use utoipa::{OpenApi, PartialSchema, ToSchema};
use web::openapi::{moment, schema_of};

/// What is described without an operation that names it.
#[derive(OpenApi)]
#[openapi(components(schemas(Moment)))]
pub struct Shared;

/// A stamp (UTC), or RFC 3339
pub struct Moment;

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        moment()
    }
}

impl ToSchema for Moment {}

/// The data of an event: a JSON object
#[derive(ToSchema)]
#[schema(example = json!({"name": "tismoj"}))]
pub struct EventData {
    /// The transaction that the event belongs to; left out, the event's stamp becomes it
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    transaction_id: Option<String>,
    /// An absolute http or https URL: the answer is a redirection to it, once the event is stored
    #[schema(required = false, schema_with = redirect_url)]
    redirect_url: String,
}

fn redirect_url() -> RefOr<Schema> {
    schema_of(json!({"anyOf": [
        {"type": "string", "maxLength": 0},
        {"type": "string", "pattern": "^https?://[^ ]+$"},
        {"type": "null"},
    ]}))
}

/// What was stored
#[derive(ToSchema)]
#[schema(example = json!({"event_received": {"data": {"name": "tismoj", "transaction_id": "20261121201614.555388"}, "event": "request_from_human:20261121201614.555388"}}))]
pub struct Received {
    event_received: ReceivedEvent,
}

/// An event as stored
#[derive(ToSchema)]
pub struct ReceivedEvent {
    /// The data as stored
    data: serde_json::Value,
    /// Type and stamp
    event: String,
}

/// The places of the events that were stored, in the order in which they were sent
#[derive(ToSchema)]
#[schema(example = json!({"events": [{"id": "0192f3c4-6d1b-7a55-9d57-3d5e6a4d1c11", "type": "order.created", "sequence": 17, "time": "2026-01-31T09:30:00.000000Z"}]}))]
pub struct Receipts {
    events: Vec<Receipt>,
}

/// The place of an event
#[derive(ToSchema)]
pub struct Receipt {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[schema(minimum = 1)]
    sequence: u64,
    #[schema(format = DateTime)]
    time: String,
}

/// A CloudEvent 1.0 in the JSON event format; further members are extension attributes
#[derive(ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "4711", "source": "/shop", "type": "order.created", "data": {"n": 1}}))]
struct KnownMembers {
    #[schema(schema_with = spec_version)]
    specversion: String,
    /// With the source, what makes it one and the same event
    #[schema(min_length = 1, max_length = 1024, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$")]
    id: String,
    /// A URI reference
    #[schema(min_length = 1, max_length = 1024, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$")]
    source: String,
    #[serde(rename = "type")]
    #[schema(
        pattern = r"^(?!\$|mer\.)[^\s/*>.\x00-\x1f\x7f-\x9f]+(\.[^\s/*>.\x00-\x1f\x7f-\x9f]+)*$",
        max_length = 200
    )]
    event_type: String,
    #[schema(nullable = false, format = DateTime)]
    time: Option<String>,
    /// The transaction that the event belongs to
    #[schema(nullable = false, min_length = 1, max_length = 256, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$")]
    transactionid: Option<String>,
    /// Any JSON
    #[schema(required = false)]
    data: serde_json::Value,
    /// Data that is not JSON, in base64; not beside `data`
    #[schema(nullable = false, format = Byte)]
    data_base64: Option<String>,
}

/// A CloudEvent 1.0 in the JSON event format; further members are extension attributes
pub struct CloudEvent;

impl PartialSchema for CloudEvent {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut object)) = KnownMembers::schema() else { return KnownMembers::schema() };
        let value = schema_of(
            json!({"type": ["string", "boolean", "integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX, "pattern": PRINTABLE}),
        );
        let name = Object::builder().schema_type(Type::String).pattern(Some("^([a-z0-9]+|data_base64)$"));
        object.additional_properties = Some(Box::new(AdditionalProperties::RefOr(value)));
        object.property_names = Some(Box::new(name.build().into()));
        RefOr::T(Schema::Object(object))
    }
}

impl ToSchema for CloudEvent {}

/// What text without control characters is.
const PRINTABLE: &str = r"^[^\x00-\x1f\x7f-\x9f]+$";

fn spec_version() -> RefOr<Schema> {
    schema_of(json!({"type": "string", "enum": ["1.0"]}))
}

/// Events in the log's order
#[derive(ToSchema)]
#[schema(example = json!({"events": [{"sequence": 17, "id": "4711", "type": "order.created", "source": "/shop", "time": "2026-01-31T09:30:00.000000Z", "transaction_id": "20260131093000.000000", "data": {"n": 1}}], "next": 17}))]
pub struct EventPage {
    events: Vec<Event>,
    /// Where to go on, as `after_sequence`; null: there is nothing more
    next: Option<u64>,
}

/// An event in the log. Data that is not JSON is a string, and `data_base64` where it is not text either
#[derive(ToSchema)]
#[schema(example = json!({"sequence": 17, "id": "4711", "type": "order.created", "source": "/shop", "time": "2026-01-31T09:30:00.000000Z", "transaction_id": "20260131093000.000000", "data": {"n": 1}}))]
pub struct Event {
    #[schema(minimum = 1)]
    sequence: u64,
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    #[schema(format = DateTime)]
    time: String,
    transaction_id: String,
    #[schema(required = false)]
    data: serde_json::Value,
    #[schema(nullable = false)]
    data_base64: Option<String>,
}
