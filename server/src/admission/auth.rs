//! Whether a request may be made: by its method and path, and by its bearer token (RFC 6750).

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use web::Problem;

use super::tokens::{Scope, Tokens};
use super::turned_away::TurnedAway;

/// The tokens, where mer asks for any; and the counters of refused requests.
pub(crate) struct Access {
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) turned_away: TurnedAway,
}

/// The scope that a request needs; `None`: no token. An unknown path needs `admin`, so that a forgotten route is closed.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Scope> {
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    let or_read = |scope| if matches!(*method, Method::GET | Method::HEAD) { Scope::Read } else { scope };
    match (first, second) {
        ("healthz" | "readyz" | "openapi.json", None) | ("docs" | "hello", _) => None,
        ("metrics", None) => Some(Scope::Read),
        ("receive_event", Some(_)) => Some(Scope::Publish),
        ("register_for_events" | "unregister_for_events", _) => Some(Scope::Subscribe),
        ("v1", Some("events")) => Some(or_read(Scope::Publish)),
        ("v1", Some("log")) => Some(or_read(Scope::Admin)),
        ("v1", Some("subscriptions" | "dead-letters")) => Some(or_read(Scope::Subscribe)),
        _ => Some(Scope::Admin),
    }
}

impl Access {
    /// Whether a request may be made: if its token is good for it. Without tokens everybody may do everything.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Refusal> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let Some(scope) = needed(request.method(), request.uri().path()) else { return Ok(()) };
        let checked = check(tokens, scope, request.headers());
        match checked {
            Ok(()) => {}
            Err(Refusal::Missing | Refusal::Unknown) => drop(self.turned_away.unauthorized.inc()),
            Err(Refusal::Insufficient(_)) => drop(self.turned_away.forbidden.inc()),
        }
        checked
    }
}

fn check(tokens: &Tokens, scope: Scope, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = bearer(headers).ok_or(Refusal::Missing)?;
    let holder = tokens.holder(token).ok_or(Refusal::Unknown)?;
    if holder.may(scope) {
        return Ok(());
    }
    tracing::debug!(token = holder.name(), scope = scope.name(), "http.forbidden");
    Err(Refusal::Insufficient(scope))
}

/// The token of a request. Two are none: another reader of the request might take the other one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Why a request is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has no token.
    Missing,
    /// The token is not in the file.
    Unknown,
    /// It is not good for what needs this scope.
    Insufficient(Scope),
}

impl IntoResponse for Refusal {
    /// Challenges as RFC 6750, section 3, has them.
    fn into_response(self) -> Response {
        let (status, detail, challenge) = match self {
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                "a token is needed: send `Authorization: Bearer TOKEN`".to_owned(),
                "Bearer".to_owned(),
            ),
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "the token is not known here".to_owned(),
                r#"Bearer error="invalid_token""#.to_owned(),
            ),
            Self::Insufficient(scope) => (
                StatusCode::FORBIDDEN,
                format!("this needs a token with the scope `{}`", scope.name()),
                format!(r#"Bearer error="insufficient_scope", scope="{}""#, scope.name()),
            ),
        };
        let mut response = Problem::new(status, detail).into_response();
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_needs_what_it_does() {
        for (method, path, scope) in [
            ("POST", "/receive_event/a", Some(Scope::Publish)),
            ("POST", "/receive_event/a/", Some(Scope::Publish)),
            ("POST", "/register_for_events/", Some(Scope::Subscribe)),
            ("POST", "/register_for_events", Some(Scope::Subscribe)),
            ("POST", "/unregister_for_events/", Some(Scope::Subscribe)),
            ("POST", "/unregister_for_events", Some(Scope::Subscribe)),
            ("POST", "/v1/events", Some(Scope::Publish)),
            ("POST", "/v1/events/a.b", Some(Scope::Publish)),
            ("GET", "/v1/events", Some(Scope::Read)),
            ("HEAD", "/v1/events", Some(Scope::Read)),
            ("GET", "/v1/events/17", Some(Scope::Read)),
            ("GET", "/v1/log", Some(Scope::Read)),
            ("POST", "/v1/log/epochs", Some(Scope::Admin)),
            ("PUT", "/v1/subscriptions", Some(Scope::Subscribe)),
            ("PATCH", "/v1/subscriptions/x", Some(Scope::Subscribe)),
            ("DELETE", "/v1/subscriptions/x", Some(Scope::Subscribe)),
            ("POST", "/v1/subscriptions/x/rotate-secret", Some(Scope::Subscribe)),
            ("GET", "/v1/subscriptions", Some(Scope::Read)),
            ("GET", "/v1/dead-letters", Some(Scope::Read)),
            ("POST", "/v1/dead-letters/redrive", Some(Scope::Subscribe)),
            ("DELETE", "/v1/dead-letters/17", Some(Scope::Subscribe)),
            ("GET", "/v1/subscriptions/x/attempts", Some(Scope::Read)),
            ("GET", "/healthz", None),
            ("GET", "/readyz", None),
            ("GET", "/openapi.json", None),
            ("GET", "/metrics", Some(Scope::Read)),
            ("GET", "/docs", None),
            ("GET", "/docs/swagger-ui.css", None),
            ("POST", "/hello/", None),
            ("POST", "/hello", None),
            // Unknown, or not written as the router has it: closed.
            ("GET", "/", Some(Scope::Admin)),
            ("GET", "/v1", Some(Scope::Admin)),
            ("GET", "/v2/events", Some(Scope::Admin)),
            ("GET", "//healthz", Some(Scope::Admin)),
            ("GET", "/healthz/x", Some(Scope::Admin)),
            ("GET", "/metrics/x", Some(Scope::Admin)),
            ("GET", "/docsx", Some(Scope::Admin)),
            ("GET", "/v1/eventsx", Some(Scope::Admin)),
            ("POST", "/v1/%65vents", Some(Scope::Admin)),
            ("POST", "/receive_event", Some(Scope::Admin)),
        ] {
            assert_eq!(needed(&method.parse().unwrap(), path), scope, "{method} {path}");
        }
    }

    #[test]
    fn a_token_is_read_out_of_one_header() {
        let read = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            bearer(&pairs.collect()).map(<[u8]>::to_vec)
        };
        assert_eq!(read(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(read(&["bEARER  abc "]), Some(b"abc".to_vec()));
        for none in [&[] as &[_], &[""], &["abc"], &["Bearer"], &["Bearer "], &["Bearerabc"], &["Basic abc"]] {
            assert_eq!(read(none), None, "{none:?}");
        }
        // Collected, the second would take the first one's place.
        let mut two = HeaderMap::new();
        for value in ["Bearer abc", "Bearer abd"] {
            two.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        assert_eq!(bearer(&two), None);
    }
}
