//! The subscription that a path names.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use domain::SubscriptionId;
use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use web::Problem;
use web::openapi::schema_of;

/// The `{id}` of a path; 404 where that can be none.
pub struct ById(pub SubscriptionId);

impl<S: Send + Sync> FromRequestParts<S> for ById {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.body_text()))?;
        SubscriptionId::parse(&text).map(Self).map_err(|error| Problem::new(StatusCode::NOT_FOUND, error))
    }
}

impl IntoParams for ById {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = schema_of(json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$"}));
        let parameter = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(utoipa::openapi::Required::True)
            .description(Some("The subscription's id"))
            .schema(Some(schema))
            .example(Some(json!("127-0-0-1-8888-hello_0123456789abcdef")));
        vec![parameter.build()]
    }
}

pub(crate) fn no_such(id: &SubscriptionId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no subscription {id}"))
}
