//! Every error that a service answers: `application/problem+json`, RFC 9457.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use domain::FieldError;
use domain::field_error::Place;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// How many faults of a request are named: more would make the answer many times as large as the request.
const MAX_NAMED: usize = 100;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error as it is answered. `title` is the status code's own phrase; the type is the default `about:blank`.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    last_sequence: Option<u64>,
}

/// An error, as RFC 9457 describes it
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// The phrase of the HTTP status code
    #[schema(example = "Unprocessable Entity")]
    title: String,
    /// The HTTP status code
    #[schema(example = 422)]
    status: u16,
    /// What is wrong, whether anything was stored, and what to do
    #[schema(example = "nothing was stored: `a..b` has an empty token: dots stand between tokens only")]
    detail: String,
    /// The faults of the request, at most 100, each with its place; absent where no single place is at fault
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Fault>>,
    /// Of 412: the sequence of the last event of the type, 0 where there is none; absent of other errors
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sequence: Option<u64>,
}

/// One thing that is wrong: in the body (`pointer`), in the path or query (`parameter`), or in a header (`header`)
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Fault {
    /// Where it is in the body: a JSON pointer (RFC 6901); empty for the whole body
    #[schema(nullable = false, example = "/events_to_register/0/event")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// The name of the path or query parameter that it is in
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// The name of the header that it is in
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// What is wrong, and what is expected
    detail: String,
}

impl From<FieldError> for Fault {
    fn from(FieldError { place, detail }: FieldError) -> Self {
        let fault = Self { detail, ..Self::default() };
        match place {
            Place::Pointer(pointer) => Self { pointer: Some(pointer), ..fault },
            Place::Parameter(name) => Self { parameter: Some(name), ..fault },
            Place::Header(name) => Self { header: Some(name), ..fault },
        }
    }
}

impl Problem {
    /// A problem with a status and a sentence on what is wrong and what to do.
    pub fn new(status: StatusCode, detail: impl ToString) -> Self {
        Self { status, detail: detail.to_string(), errors: Vec::new(), headers: Vec::new(), last_sequence: None }
    }

    /// 422: the request can be read, but what it says cannot be accepted. Names every fault, up to 100.
    pub fn unacceptable(errors: Vec<FieldError>) -> Self {
        let asked = Self::unacceptable_question(errors);
        Self { detail: format!("nothing was stored: {}", asked.detail), ..asked }
    }

    /// The same of a request that would store nothing anyway.
    pub fn unacceptable_question(mut errors: Vec<FieldError>) -> Self {
        let count = errors.len();
        errors.truncate(MAX_NAMED);
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            first if count > first.len() => {
                format!("{count} things are wrong with the request; the first {MAX_NAMED} are in `errors`")
            }
            many => format!("{} things are wrong with the request, see `errors`", many.len()),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 400: the request cannot be read as what it says it is. Names every fault, up to 100.
    pub fn malformed(errors: Vec<FieldError>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::unacceptable(errors) }
    }

    /// 503, to be tried again after so many seconds.
    pub fn unavailable(detail: impl ToString, retry_after_secs: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(RETRY_AFTER, retry_after_secs)
    }

    /// 429, to be tried again after so many seconds.
    pub fn too_many(detail: impl ToString, retry_after_secs: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with_header(RETRY_AFTER, retry_after_secs)
    }

    /// The same, with one more sentence.
    pub fn with_note(mut self, note: &str) -> Self {
        self.detail = format!("{}. {note}", self.detail);
        self
    }

    /// The same, with a header.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, with the sequence of the last event of a type.
    pub fn with_last_sequence(self, last_sequence: u64) -> Self {
        Self { last_sequence: Some(last_sequence), ..self }
    }

    /// What is wrong, place by place.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail, errors, headers, last_sequence } = self;
        let errors: Vec<Fault> = errors.into_iter().map(Fault::from).collect();
        let details = ProblemDetails {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail,
            errors: (!errors.is_empty()).then_some(errors),
            last_sequence,
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut headers = HeaderMap::from_iter(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        (status, headers, body).into_response()
    }
}

/// What a router answers for a path that it does not have.
pub async fn not_found(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.uri().path()))
}

/// What a router answers for a method that the path does not have; axum adds `Allow`.
pub async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} does not take {}: see the header `Allow`", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_told_in_the_detail_and_many_are_counted() {
        let one = Problem::unacceptable(vec![FieldError::at("/a", "no good")]);
        assert_eq!(one.detail, "nothing was stored: no good");
        assert_eq!(Problem::unacceptable_question(vec![FieldError::at("/a", "no good")]).detail, "no good");
        let two = Problem::unacceptable(vec![FieldError::at("/a", "x"), FieldError::at("/b", "y")]);
        assert!(two.detail.contains("2 things"));
    }

    #[test]
    fn many_faults_are_counted_and_the_first_are_named() {
        let faults = |count: usize| (0..count).map(|n| FieldError::at(format!("/{n}"), "no good")).collect();
        assert_eq!(Problem::unacceptable(faults(MAX_NAMED)).errors.len(), MAX_NAMED);
        let more = Problem::unacceptable(faults(500_000));
        assert_eq!(more.errors.len(), MAX_NAMED);
        assert!(more.detail.contains("500000 things"), "{}", more.detail);
    }

    #[test]
    fn a_problem_is_answered_as_problem_json() {
        let response = Problem::unavailable("later", 1).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
