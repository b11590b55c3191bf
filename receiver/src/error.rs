//! Why an event was not accepted.

use axum::response::{IntoResponse, Response};
use broker::store::StoreError;
use domain::FieldError;
use domain::event_data::NotEventData;
use http::StatusCode;
use web::Problem;

/// How long a sender should wait before it tries again, in seconds.
pub(crate) const RETRY_AFTER_SECS: u32 = 1;

/// Why an event was not accepted. What it becomes for the sender is [`Refusal::into_response`].
#[derive(Debug)]
pub enum Refusal {
    /// The body could not be read.
    Body(Problem),
    /// The body is no event's data.
    Data(NotEventData),
    /// The type or a header is not what it has to be.
    Request(Vec<FieldError>),
    /// It could not be stored, or not surely.
    Store {
        /// What happened.
        error: StoreError,
        /// Whether the sender gave an idempotency key.
        is_idempotent: bool,
    },
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_problem().into_response()
    }
}

impl Refusal {
    fn into_problem(self) -> Problem {
        match self {
            Self::Body(problem) => problem,
            Self::Request(faults) | Self::Data(NotEventData::Unacceptable(faults)) => Problem::unacceptable(faults),
            Self::Data(unreadable) => {
                Problem::new(StatusCode::BAD_REQUEST, format!("nothing was stored: {unreadable}"))
            }
            Self::Store { error: error @ StoreError::TooLarge { .. }, .. } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error)
            }
            Self::Store { error: error @ StoreError::WrongLast { .. }, .. } => {
                Problem::new(StatusCode::PRECONDITION_FAILED, format!("nothing was stored: {error}"))
            }
            Self::Store { error: error @ StoreError::NotStored(_), .. } => {
                Problem::unavailable(format!("{error}. It is safe to send it again"), RETRY_AFTER_SECS)
            }
            Self::Store { error: error @ StoreError::Unknown(_), is_idempotent } => {
                let advice = if is_idempotent {
                    "With the same Idempotency-Key it is safe to send it again"
                } else {
                    "Sending it again may store it twice; with an Idempotency-Key it would be safe"
                };
                Problem::unavailable(format!("{error}. {advice}"), RETRY_AFTER_SECS)
            }
        }
    }
}
