//! A request's body: its content type checked, its size and the time it may take bounded.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::problem::Problem;

/// How long a body may take to come in.
const DEADLINE: Duration = Duration::from_secs(30);
/// The only content coding that is read.
const IDENTITY: &str = "identity";

/// Reads a JSON body of at most `limit` bytes. 415, 413, 408 or 400 where that cannot be; whether it *is* JSON is the
/// caller's to see.
pub async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    check_is_json(headers)?;
    read(headers, body, limit).await
}

/// Reads a body of at most `limit` bytes. 415, 413, 408 or 400 where that cannot be.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    check_is_not_encoded(headers)?;
    match timeout(DEADLINE, read_up_to(body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            let detail = format!("the body is over the limit of {limit} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(error)) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
        Err(_) => {
            let detail = format!("the body did not come within {} s", DEADLINE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// The whole body, or `None` where it is over the limit.
async fn read_up_to(mut body: Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut bytes = BytesMut::with_capacity(body.size_hint().lower().min(limit as u64) as usize);
    while let Some(frame) = body.frame().await.transpose()? {
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}

/// A body in a content coding would be stored and delivered as those bytes, labelled as what they decode to. 415 with the
/// codings that are read: RFC 9110, section 15.5.16.
fn check_is_not_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is_identity = |value: Cow<'_, str>| {
        value.split(',').map(str::trim).all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(IDENTITY))
    };
    if values.all(is_identity) {
        return Ok(());
    }
    let detail = "the body is in a content coding, and none is read here; send it without `Content-Encoding`";
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
    Err(problem.with_header(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY)))
}

/// No content type is taken for JSON: it is all that is spoken here. Another one, or another character set, is not.
fn check_is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let is_json =
        media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    // US-ASCII is a part of UTF-8.
    let is_utf8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim_end() == "charset")
        .all(|(_, charset)| matches!(charset.trim_start().trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
    if is_json && is_utf8 {
        return Ok(());
    }
    // It is not repeated: what stands in a header may be secret.
    let detail = "the content type is not that of JSON in UTF-8; send it with `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(content_type))])
    }

    #[tokio::test]
    async fn json_by_any_of_its_names_is_read_and_nothing_else() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/ld+json",
            "application/json; charset=\"utf-8\"",
            "application/json;charset=utf8",
            "application/json; charset=US-ASCII",
            "application/json; charset = utf-8",
        ] {
            assert!(read_json(&headers(good), Body::from("{}"), 10).await.is_ok(), "{good}");
        }
        assert!(read_json(&HeaderMap::new(), Body::from("{}"), 10).await.is_ok());
        for bad in
            ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "", "text/x+json"]
        {
            let problem = read_json(&headers(bad), Body::from("{}"), 10).await.unwrap_err();
            assert_eq!(problem.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_in_a_content_coding_is_not_read() {
        for (codings, is_read) in [
            (&["identity"] as &[_], true),
            (&[""], true),
            (&["Identity, identity"], true),
            (&["gzip"], false),
            (&["identity, br"], false),
            (&["identity", "gzip"], false),
        ] {
            let mut headers = headers("application/json");
            for coding in codings {
                headers.append(CONTENT_ENCODING, http::HeaderValue::from_static(coding));
            }
            let read = read_json(&headers, Body::from("{}"), 10).await;
            assert_eq!(read.is_ok(), is_read, "{codings:?}");
            if let Err(problem) = read {
                let response = problem.into_response();
                assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
                assert_eq!(response.headers()[ACCEPT_ENCODING], IDENTITY);
            }
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert!(read_json(&HeaderMap::new(), Body::from("0123456789"), 10).await.is_ok());
        let problem = read_json(&HeaderMap::new(), Body::from("0123456789a"), 10).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
