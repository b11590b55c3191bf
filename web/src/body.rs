//! A request's body: its content type checked, its size and the time it may take bounded.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::problem::Problem;

/// How long a body may take to come in.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long, and how much, of a body that is too large is read to be thrown away.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// Reads a JSON body of at most `limit` bytes. 415, 413, 408 or 400 where that cannot be; whether it *is* JSON is the
/// caller's to see.
pub async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    check_is_json(headers)?;
    read(body, limit).await
}

/// Reads a body of at most `limit` bytes. 413, 408 or 400 where that cannot be.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
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

/// The whole body, or `None` where it is over the limit. Then the rest of it is taken in and thrown away, within bounds:
/// a connection that is closed with something unread is reset, and the sender would not see the answer.
async fn read_up_to(mut body: Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut bytes = BytesMut::with_capacity(body.size_hint().lower().min(limit as u64) as usize);
    while let Some(frame) = body.frame().await.transpose()? {
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            drop(bytes);
            let _ = timeout(DRAIN_DEADLINE, drain(body)).await;
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}

/// Takes in a body that nobody wants and throws it away, within bounds, so that its sender sees the answer. One who asked
/// first whether to send it (`Expect`) is not told to.
pub async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        let _ = timeout(DRAIN_DEADLINE, drain(body)).await;
    }
}

async fn drain(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_DRAINED_BYTES {
            return;
        }
    }
}

/// No content type is taken for JSON: it is all that is spoken here. Another one, or another character set, is not.
fn check_is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let is_json =
        media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    let is_utf8 = parts
        .filter_map(|parameter| parameter.strip_prefix("charset="))
        .all(|charset| charset.trim_matches('"') == "utf-8");
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
    async fn a_body_over_the_limit_is_refused() {
        assert!(read_json(&HeaderMap::new(), Body::from("0123456789"), 10).await.is_ok());
        let problem = read_json(&HeaderMap::new(), Body::from("0123456789a"), 10).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
