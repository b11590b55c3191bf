//! The shapes of requests, for their description in OpenAPI. Nothing is made of these types: what is read is in `domain`.
#![allow(dead_code, reason = "they describe; nothing is made of them")]

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use web::openapi::{closed_with, moment, schema_of};

/// What is to be registered
#[derive(ToSchema)]
#[schema(example = json!({"events_to_register": [{"event": "request_from_human", "urls_to_register": [{"url": "http://127.0.0.1:8888/hello/"}]}]}))]
#[serde(deny_unknown_fields)]
pub struct Registrations {
    #[schema(min_items = 1, max_items = 1000)]
    events_to_register: Vec<EventToRegister>,
}

/// A type or pattern, and where its events go
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventToRegister {
    #[schema(schema_with = type_pattern)]
    event: String,
    #[schema(min_items = 1, max_items = 1000)]
    urls_to_register: Vec<UrlToRegister>,
}

/// A URL, with what its registration says
pub struct UrlToRegister;

impl PartialSchema for UrlToRegister {
    fn schema() -> RefOr<Schema> {
        closed_with(Attributes::schema(), "url", target_url())
    }
}

impl ToSchema for UrlToRegister {}

/// What is wanted, and what a registration says beside
pub struct EventWanted;

impl PartialSchema for EventWanted {
    fn schema() -> RefOr<Schema> {
        closed_with(Attributes::schema(), "type", type_pattern())
    }
}

impl ToSchema for EventWanted {}

/// What a registration says beside its event and its URL
#[derive(ToSchema)]
pub struct Attributes {
    /// Not after now: events from there on (inclusive), then live. Later: nothing earlier
    #[schema(required = false, schema_with = moment)]
    datetime_start: String,
    /// Inclusive; nothing later is delivered, and the registration completes
    #[schema(required = false, schema_with = moment)]
    datetime_end: String,
    /// Seconds from now; sets `datetime_end`
    #[schema(nullable = false, exclusive_minimum = 0, maximum = 3_155_760_000_u64)]
    expire_after: Option<f64>,
    /// So many deliveries, then it completes
    #[schema(nullable = false, minimum = 1)]
    count: Option<u64>,
    /// Only events of this transaction
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    transaction_id: Option<String>,
    /// Lower goes first when deliveries wait
    #[schema(nullable = false, minimum = -1_000_000, maximum = 1_000_000, default = 100)]
    priority: Option<f64>,
    /// Keys that are filled in from earlier events of the transaction
    #[schema(required = false, schema_with = keys)]
    required_data: Vec<String>,
    /// Given back with each delivery; at most 4 KiB
    #[schema(required = false)]
    listener_data: Value,
    /// Whether events that are no longer in the log do not matter
    #[schema(nullable = false)]
    allow_gap: Option<bool>,
}

fn type_pattern() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string",
        "description": "A type, or a pattern: `*` for a token, `>` for the rest",
        "maxLength": 200,
        "pattern": r"^(?!\$|mer\.)(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+)(\.(\*|[^\s/*>.\x00-\x1f\x7f-\x9f]+))*(\.>)?$",
    }))
}

fn target_url() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string",
        "description": "Where events go: an absolute http or https URL without a fragment",
        "format": "uri",
        "pattern": "^https?://[^ #]+$",
    }))
}

fn keys() -> RefOr<Schema> {
    schema_of(
        json!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 64, "uniqueItems": true}),
    )
}

/// What is to be taken off
#[derive(ToSchema)]
#[schema(example = json!({"events_to_unregister": [{"event": "request_from_human", "urls_to_unregister": [{"url": "http://127.0.0.1:8888/hello/"}]}]}))]
#[serde(deny_unknown_fields)]
pub struct Unregistrations {
    #[schema(min_items = 1, max_items = 1000)]
    events_to_unregister: Vec<EventToUnregister>,
}

/// A type or pattern, and the URLs that it is to go to no longer
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventToUnregister {
    #[schema(schema_with = type_pattern)]
    event: String,
    #[schema(min_items = 1, max_items = 1000)]
    urls_to_unregister: Vec<UrlToUnregister>,
}

/// A URL
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlToUnregister {
    #[schema(schema_with = target_url)]
    url: String,
}

/// All that a URL is to be registered for
#[derive(ToSchema)]
#[schema(example = json!({"url": "http://127.0.0.1:8888/hello/", "events": [{"type": "request_from_human"}], "group": "greeters", "delivery": {"mode": "ordered", "timeout_ms": 5000}}))]
#[serde(deny_unknown_fields)]
pub struct SubscriptionToPut {
    #[schema(schema_with = target_url)]
    url: String,
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<EventWanted>,
    /// A label to find it by
    #[schema(min_length = 1, max_length = 100)]
    group: Option<String>,
    #[schema(nullable = false)]
    delivery: Option<Delivery>,
}

/// What is to change of a subscription; what is left out stays
#[derive(ToSchema)]
#[schema(example = json!({"group": "greeters"}))]
#[serde(deny_unknown_fields)]
pub struct SubscriptionPatch {
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    events: Option<Vec<EventWanted>>,
    /// A label to find it by; null takes it away
    #[schema(min_length = 1, max_length = 100)]
    group: Option<String>,
    #[schema(nullable = false)]
    delivery: Option<Delivery>,
}

/// How events are delivered
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    #[schema(required = false, schema_with = mode)]
    mode: String,
    /// `batched`: how many events one request has at most; null: 100
    #[schema(minimum = 1, maximum = 1000)]
    batch_max_events: Option<u64>,
    /// `batched`: how long the first event of a batch waits for more; null: not at all
    #[schema(minimum = 0, maximum = 60_000)]
    batch_max_wait_ms: Option<u64>,
    /// `concurrent`: how many requests are under way at a time at most; null: 10
    #[schema(minimum = 1, maximum = 256)]
    concurrency: Option<u64>,
    /// How long the target may take to answer
    #[schema(minimum = 1, maximum = 600_000)]
    timeout_ms: Option<u64>,
    /// How often an event is tried; null: until the target takes it
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_attempts: Option<u64>,
    /// Then: `hold` it and what comes behind until the subscription is resumed, make it a `dead_letter` and go on with the
    /// next, or `disable` the subscription
    #[schema(required = false, schema_with = on_exhausted)]
    on_exhausted: String,
    /// How many deliveries may begin in a second; null: as many as the target takes
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_per_second: Option<u64>,
}

fn on_exhausted() -> RefOr<Schema> {
    schema_of(json!({"type": "string", "enum": ["hold", "dead_letter", "disable"], "default": "hold"}))
}

fn mode() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string", "enum": ["ordered", "batched", "concurrent"], "default": "ordered",
        "description": "`ordered`: one event after the other. `batched`: many in order in one request, as \
            `application/cloudevents-batch+json`. `concurrent`: several requests at a time, those of one transaction one \
            after the other",
    }))
}

/// The part of the log that is to be delivered again
#[derive(ToSchema)]
#[schema(example = json!({"from": "2026-01-31T09:30:00Z"}))]
#[serde(deny_unknown_fields)]
pub struct ReplayToMake {
    #[schema(schema_with = moment)]
    from: String,
    /// Left out: up to now
    #[schema(required = false, schema_with = moment)]
    to: String,
}

/// Dead letters that are to be delivered again: by their own sequences, or by when they were given up
pub struct Redrive;

impl PartialSchema for Redrive {
    fn schema() -> RefOr<Schema> {
        let subscription = json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$"});
        let sequences = json!({
            "type": "array", "description": "Of dead letters, not of events", "minItems": 1, "maxItems": 1000,
            "items": {"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX},
        });
        let by = |properties: Value, required: &str| {
            let mut properties = properties;
            properties["subscription"] = subscription.clone();
            json!({"type": "object", "properties": properties, "required": ["subscription", required], "additionalProperties": false})
        };
        let moment = json!(moment());
        schema_of(json!({
            "description": "Dead letters that are to be delivered again: by their own sequences, or by when they were given up",
            "oneOf": [by(json!({"sequences": sequences}), "sequences"), by(json!({"from": moment, "to": moment}), "from")],
            "example": {"subscription": "127-0-0-1-8888-hello_0123456789abcdef", "sequences": [1, 2]},
        }))
    }
}

impl ToSchema for Redrive {}

/// A secret that is to be made
#[derive(ToSchema)]
#[schema(example = json!({"type": "v1", "grace_secs": 3600}))]
#[serde(deny_unknown_fields)]
pub struct SecretToMake {
    #[schema(required = false, schema_with = secret_type)]
    r#type: String,
    /// How long the secrets of this type that there are go on signing
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000, default = 86_400)]
    grace_secs: Option<u64>,
}

pub(crate) fn secret_type() -> RefOr<Schema> {
    schema_of(json!({
        "type": "string", "enum": ["v1", "v1a"], "default": "v1", "description": "HMAC-SHA256, or ed25519",
    }))
}
