//! Publishing one message to a stream, and JetStream's answer.
//!
//! The message is sent as a request, and not by the client library's own publishing. That one sets three timers for each
//! message, queues for a permit, and parses the answer as an error first.

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestError, RequestErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::connection::Broker;

/// JetStream's acknowledgement of a message that it has stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublishAck {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// Whether it was there already, under the same id.
    pub(crate) is_duplicate: bool,
}

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// It was not sent.
    #[error("it was not sent: {0}")]
    NotSent(RequestError),
    /// Nobody listened: JetStream is starting, or its stream is not there yet.
    #[error("no stream is there for it")]
    NoStream,
    /// JetStream does not take it.
    #[error(transparent)]
    Refused(jetstream::Error),
    /// It may have been stored.
    #[error("timed out")]
    TimedOut,
    /// It may have been stored.
    #[error("the connection was lost")]
    BrokenOff,
    /// It may have been stored.
    #[error("what JetStream answers cannot be read: {0}")]
    Unreadable(serde_json::Error),
}

impl PublishError {
    /// Whether it may have been stored.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::TimedOut | Self::BrokenOff | Self::Unreadable(_))
    }

    /// Whether JetStream has no room for it. JetStream works then, and another server would answer the same.
    pub(crate) fn is_full(&self) -> bool {
        self.code() == Some(ErrorCode::STREAM_STORE_FAILED)
    }

    /// Whether the last message of the subject, or of the stream, is another one than was expected.
    pub(crate) fn is_wrong_last(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
        )
    }

    /// Why JetStream does not take it.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.error_code()),
            _ => None,
        }
    }
}

/// The answer as it comes over the wire.
#[derive(Deserialize)]
struct Answer {
    error: Option<jetstream::Error>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

impl Broker {
    /// Publishes a message and waits for its acknowledgement, but not past the deadline.
    pub(crate) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        data: Bytes,
        deadline: Instant,
    ) -> Result<PublishAck, PublishError> {
        // The deadline is for sending, too: so it is not the request's own.
        let request = Request::new().headers(headers).payload(data).timeout(None);
        let answer = timeout_at(deadline, self.handles().client.send_request(subject, request)).await;
        let answer = answer.map_err(|_| PublishError::TimedOut)?.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => PublishError::NoStream,
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => PublishError::NotSent(error),
            RequestErrorKind::TimedOut => PublishError::TimedOut,
            RequestErrorKind::Other => PublishError::BrokenOff,
        })?;
        let ack = read(&answer.payload)?;
        self.write_watchdog.acknowledged();
        Ok(ack)
    }
}

fn read(answer: &[u8]) -> Result<PublishAck, PublishError> {
    let Answer { error, seq, duplicate } = serde_json::from_slice(answer).map_err(PublishError::Unreadable)?;
    match error {
        Some(error) => Err(PublishError::Refused(error)),
        None => Ok(PublishAck { sequence: seq, is_duplicate: duplicate }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_acknowledgement_or_says_why_not() {
        let stored = read(br#"{"stream":"EVENTS", "seq":17}"#).unwrap();
        assert_eq!(stored, PublishAck { sequence: 17, is_duplicate: false });
        let again = read(br#"{"stream":"EVENTS","seq":17,"duplicate":true}"#).unwrap();
        assert_eq!(again, PublishAck { sequence: 17, is_duplicate: true });
        let refused = read(br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"EVENTS","seq":0}"#);
        let refused = refused.unwrap_err();
        assert!(refused.is_full() && !refused.is_unanswered());
        let wrong_last = |code: u64| {
            read(
                format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"wrong last sequence: 2"}}}}"#)
                    .as_bytes(),
            )
        };
        assert!([10_071, 10_164].into_iter().all(|code| wrong_last(code).unwrap_err().is_wrong_last()));
        assert!(read(b"+OK").unwrap_err().is_unanswered());
    }
}
