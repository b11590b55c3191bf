//! What the descriptions of all services' operations share: problems, and the groups of answers in which they occur.
//!
//! The groups are never made: each lists answers for the descriptions of operations. What they hold, [`ProblemDetails`], is
//! what [`Problem`](crate::Problem) answers with.
#![allow(dead_code, reason = "utoipa reads groups of answers off enums; nothing is made of them")]

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema, SchemaType};
use utoipa::openapi::{RefOr, Response};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

pub use crate::problem::{Fault, ProblemDetails};

/// What any operation with a body may answer.
#[derive(IntoResponses)]
pub enum BodyProblems {
    /// The body is not what its content type says: not JSON, not UTF-8. Nothing was stored
    #[response(status = 400, content_type = "application/problem+json", example = json!({"title": "Bad Request", "status": 400, "detail": "nothing was stored: the body is not JSON: EOF while parsing an object at line 1 column 1"}))]
    BadRequest(ProblemDetails),
    /// The body did not come in time
    #[response(status = 408, content_type = "application/problem+json", example = json!({"title": "Request Timeout", "status": 408, "detail": "the body did not come within 30 s"}))]
    Timeout(ProblemDetails),
    /// The body, or what would become of it, is too large
    #[response(status = 413, content_type = "application/problem+json", example = json!({"title": "Payload Too Large", "status": 413, "detail": "the body is over the limit of 1048576 bytes"}))]
    TooLarge(ProblemDetails),
    /// The operation does not take this content type, or the body is in a content coding
    #[response(status = 415, content_type = "application/problem+json", headers(("Accept-Encoding" = String, description = "Where it is a content coding: the one that is read, `identity`")), example = json!({"title": "Unsupported Media Type", "status": 415, "detail": "the content type is `text/plain`; send JSON in UTF-8 with `Content-Type: application/json`"}))]
    UnsupportedMediaType(ProblemDetails),
}

/// What any operation that takes values may answer.
#[derive(IntoResponses)]
pub enum ValueProblems {
    /// Values are not what they must be; every one of them is named. Nothing was stored
    #[response(status = 422, content_type = "application/problem+json", example = json!({"title": "Unprocessable Entity", "status": 422, "detail": "nothing was stored: `a..b` has an empty token: dots stand between tokens only", "errors": [{"parameter": "type", "detail": "`a..b` has an empty token: dots stand between tokens only"}]}))]
    Unprocessable(ProblemDetails),
}

/// What any operation on one thing may answer.
#[derive(IntoResponses)]
pub enum NoSuchThing {
    /// There is nothing of this id or sequence
    #[response(status = 404, content_type = "application/problem+json", example = json!({"title": "Not Found", "status": 404, "detail": "there is no subscription host_0000000000000000"}))]
    NotFound(ProblemDetails),
}

/// What any operation that needs NATS may answer.
#[derive(IntoResponses)]
pub enum NatsProblems {
    /// NATS is out of reach or full. The detail says whether it is safe to send the request again
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds to wait before trying again")), example = json!({"title": "Service Unavailable", "status": 503, "detail": "storing an event: there is no connection to 127.0.0.1:4222. It is safe to send it again"}))]
    Unavailable(ProblemDetails),
}

/// What an operation may answer to a client that may not call it.
#[derive(IntoResponses)]
pub enum TokenProblems {
    /// This mer asks for tokens, and the request has none, or one that is not known
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`")), example = json!({"title": "Unauthorized", "status": 401, "detail": "a token is needed: send `Authorization: Bearer TOKEN`"}))]
    Unauthorized(ProblemDetails),
    /// The token may not do this
    #[response(status = 403, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`, with the scope that is needed")), example = json!({"title": "Forbidden", "status": 403, "detail": "this needs a token with the scope `publish`"}))]
    Forbidden(ProblemDetails),
}

/// What any operation may answer before it is looked at: to a client that may not call it, and when there are too many calls.
pub struct AccessProblems;

impl IntoResponses for AccessProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        TokenProblems::responses().into_iter().chain(TooBusy::responses()).collect()
    }
}

/// What an operation that everybody may ask for may answer before it is looked at.
#[derive(IntoResponses)]
pub enum TooBusy {
    /// More requests are under way than may be. Nothing was stored
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds to wait before trying again")), example = json!({"title": "Too Many Requests", "status": 429, "detail": "more than 4096 requests are under way. Nothing was stored, and it is safe to send the request again"}))]
    TooMany(ProblemDetails),
}

/// A schema out of JSON, for what `derive` cannot say. One that is none becomes the schema of anything: what says no type is
/// none, see [`anything`].
pub fn schema_of(json: serde_json::Value) -> RefOr<Schema> {
    serde_json::from_value(json).unwrap_or_else(|_| RefOr::T(Schema::default()))
}

/// The schema of any JSON.
pub fn anything(description: &str) -> RefOr<Schema> {
    let object = Object::builder().schema_type(SchemaType::AnyValue).description(Some(description));
    RefOr::T(Schema::Object(object.build()))
}

/// A moment of which more is to be said: what it means here, without a full stop.
pub fn moment_that(meaning: &str) -> RefOr<Schema> {
    let mut schema = moment();
    if let RefOr::T(Schema::AnyOf(any_of)) = &mut schema {
        let form = any_of.description.take().unwrap_or_default();
        any_of.description = Some(format!("{meaning}. {form}"));
    }
    schema
}

/// A moment: the stamp that receivers make, or RFC 3339.
pub fn moment() -> RefOr<Schema> {
    schema_of(json!({
        "anyOf": [
            {"type": "string", "pattern": r"^20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9](\.[0-9]{1,6})?$"},
            {"type": "string", "format": "date-time"},
        ],
        "description": "A moment: a stamp (UTC) like `20260131093000.000000`, or RFC 3339 like `2026-01-31T09:30:00Z`",
    }))
}

/// The name of [`moment`] among the components: for the parameters of operations.
pub struct Moment;

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        moment()
    }
}

impl ToSchema for Moment {}

/// The schema of an object with one more property, which must be there, and no unknown ones.
pub fn closed_with(object: RefOr<Schema>, name: &str, property: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = object else { return object };
    object.properties.insert(name.to_owned(), property);
    object.required.push(name.to_owned());
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    RefOr::T(Schema::Object(object))
}
