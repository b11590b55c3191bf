//! The JSON in a request's body.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use web::Problem;

use crate::{Registrar, unambiguous_json};

/// A body that must be JSON; 400, 408, 413 or 415 where it is not.
pub struct JsonBody(pub Value);

/// The same where it may be left out.
pub struct JsonBodyIfAny(pub Option<Value>);

impl FromRequest<Arc<Registrar>> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, registrar: &Arc<Registrar>) -> Result<Self, Problem> {
        parse(&read(request, registrar).await?).map(Self)
    }
}

impl FromRequest<Arc<Registrar>> for JsonBodyIfAny {
    type Rejection = Problem;

    async fn from_request(request: Request, registrar: &Arc<Registrar>) -> Result<Self, Problem> {
        let body = read(request, registrar).await?;
        if body.is_empty() { Ok(Self(None)) } else { parse(&body).map(Some).map(Self) }
    }
}

async fn read(request: Request, registrar: &Registrar) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    web::body::read_json(&head.headers, body, registrar.max_body_bytes).await
}

fn parse(body: &[u8]) -> Result<Value, Problem> {
    match unambiguous_json::parse(body) {
        Ok((value, ambiguous)) if ambiguous.is_empty() => Ok(value),
        Ok((_, ambiguous)) => Err(Problem::unacceptable(ambiguous)),
        Err(error) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, format!("nothing was stored: the body is not JSON: {error}")))
        }
    }
}
