//! Why an event was not accepted.

use axum::response::{IntoResponse, Response};
use broker::store::StoreError;
use domain::FieldError;
use domain::event_data::NotEventData;
use http::{HeaderName, StatusCode};
use web::Problem;

/// How long a sender should wait before it tries again, in seconds.
pub(crate) const RETRY_AFTER_SECS: u32 = 1;

const EVENT_LAST_SEQUENCE: HeaderName = HeaderName::from_static("event-last-sequence");

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
        /// Whether a repetition is recognised: by the sender's idempotency key, or by source and id.
        is_idempotent: bool,
    },
}

/// The kind of a refusal, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Malformed,
    Unacceptable,
    TooLarge,
    UnsupportedMediaType,
    TimedOut,
    WrongLast,
    NotStored,
    MayBeStored,
}

impl Reason {
    /// Each stands at the index that it is.
    pub(crate) const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Unacceptable,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::TimedOut,
        Self::WrongLast,
        Self::NotStored,
        Self::MayBeStored,
    ];

    /// Why an event was not stored, or not surely.
    pub(crate) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::TooLarge { .. } => Self::TooLarge,
            StoreError::WrongLast { .. } => Self::WrongLast,
            StoreError::NotStored(_) => Self::NotStored,
            StoreError::Unknown(_) => Self::MayBeStored,
        }
    }

    /// As a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unacceptable => "unacceptable",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TimedOut => "timed_out",
            Self::WrongLast => "wrong_last",
            Self::NotStored => "not_stored",
            Self::MayBeStored => "may_be_stored",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_problem().into_response()
    }
}

impl Refusal {
    /// What it is counted as.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Body(problem) => match problem.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge,
                StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::UnsupportedMediaType,
                StatusCode::REQUEST_TIMEOUT => Reason::TimedOut,
                _ => Reason::Malformed,
            },
            Self::Request(_) | Self::Data(NotEventData::Unacceptable(_)) => Reason::Unacceptable,
            Self::Data(_) => Reason::Malformed,
            Self::Store { error, .. } => Reason::of(error),
        }
    }

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
            Self::Store { error: StoreError::WrongLast { actual }, .. } => {
                let error = StoreError::WrongLast { actual };
                Problem::new(StatusCode::PRECONDITION_FAILED, format!("nothing was stored: {error}"))
                    .with_header(EVENT_LAST_SEQUENCE, actual)
                    .with_last_sequence(actual)
            }
            Self::Store { error: error @ StoreError::NotStored(_), .. } => {
                Problem::unavailable(format!("{error}. It is safe to send it again"), RETRY_AFTER_SECS)
            }
            Self::Store { error: error @ StoreError::Unknown(_), is_idempotent } => {
                let advice = if is_idempotent {
                    "It is safe to send the same request again within the duplicate window"
                } else {
                    "Sending it again may store it twice; with an Idempotency-Key it would be safe"
                };
                Problem::unavailable(format!("{error}. {advice}"), RETRY_AFTER_SECS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i, "{}", reason.name());
        }
    }
}
