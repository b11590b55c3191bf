//! Publishing one message to a stream, and JetStream's answer.
//!
//! The message is sent as a request, and not by the client library's own publishing. That one sets three timers for each
//! message, queues for a permit, and parses the answer as an error first.

use std::borrow::Cow;

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
    /// Its place in the stream, from 1.
    pub(crate) sequence: u64,
    /// Whether it was there already, under the same id.
    pub(crate) is_duplicate: bool,
    /// How many messages were stored as one batch, of which this is the last; `None` for a message of its own.
    pub(crate) batch_count: Option<u64>,
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
    /// It may have been stored: anybody who subscribes to the subject can answer, and this was not JetStream.
    #[error("what was answered is no acknowledgement of the stream {0}: does another client answer on its subjects?")]
    NoAcknowledgement(&'static str),
}

impl PublishError {
    /// Whether it may have been stored.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::TimedOut | Self::BrokenOff | Self::Unreadable(_) | Self::NoAcknowledgement(_))
    }

    /// Whether JetStream has no room for it. JetStream works then, and another server would answer the same.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self.code(),
            Some(
                ErrorCode::STREAM_STORE_FAILED
                    | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                    | ErrorCode::INSUFFICIENT_RESOURCES
                    | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            )
        )
    }

    /// Whether no server takes a message of this size, now or later.
    pub(crate) fn is_too_large(&self) -> bool {
        let by_client = |error: &RequestError| error.kind() == RequestErrorKind::MaxPayloadExceeded;
        matches!(self, Self::NotSent(error) if by_client(error))
            || matches!(
                self.code(),
                Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM)
            )
    }

    /// Whether JetStream has answered, and so works. That it is not available is no such answer.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| code != ErrorCode::CLUSTER_NOT_AVAILABLE)
    }

    /// Whether the last message of the subject, or of the stream, is another one than was expected.
    pub(crate) fn is_wrong_last(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
        )
    }

    /// Whether a message with the same id is being stored at this moment, by somebody else or by an earlier attempt.
    pub(crate) fn is_under_way(&self) -> bool {
        self.code() == Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT)
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
struct Answer<'a> {
    error: Option<jetstream::Error>,
    #[serde(borrow, default)]
    stream: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    count: Option<u64>,
}

impl Broker {
    /// Publishes a message to a stream and waits for its acknowledgement, but not past the deadline.
    pub(crate) async fn publish(
        &self,
        stream: &'static str,
        subject: String,
        headers: HeaderMap,
        data: Bytes,
        deadline: Instant,
    ) -> Result<PublishAck, PublishError> {
        let ack = self.ask_to_store(stream, subject, headers, data, deadline).await;
        if ack.as_ref().err().is_none_or(PublishError::is_refusal) {
            self.write_watchdog.acknowledged();
        }
        ack
    }

    /// The same, and the watchdog learns nothing of it.
    pub(crate) async fn ask_to_store(
        &self,
        stream: &'static str,
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
        read(stream, &answer.payload)
    }

    /// The same for what is done again where no acknowledgement comes: does not wait for one when the connection is lost.
    pub(crate) async fn publish_while_connected(
        &self,
        stream: &'static str,
        subject: String,
        headers: HeaderMap,
        data: Bytes,
        deadline: Instant,
    ) -> Result<PublishAck, PublishError> {
        tokio::select! {
            biased;
            ack = self.publish(stream, subject, headers, data, deadline) => ack,
            () = self.is_lost() => Err(PublishError::BrokenOff),
        }
    }

    /// Notes for the watchdog that a write which began then was not acknowledged, unless it was refused.
    pub(crate) fn note_missed(&self, began: Instant, error: &PublishError) {
        if !error.is_refusal() && !error.is_too_large() {
            self.write_watchdog.missed(began);
        }
    }
}

/// An answer proves that the message is in the stream only if it says which stream that is, and where in it.
fn read(stream: &'static str, answer: &[u8]) -> Result<PublishAck, PublishError> {
    let answer: Answer<'_> = serde_json::from_slice(answer).map_err(PublishError::Unreadable)?;
    match answer.error {
        Some(error) => Err(PublishError::Refused(error)),
        None if answer.stream.as_deref() == Some(stream) && answer.seq >= 1 => {
            Ok(PublishAck { sequence: answer.seq, is_duplicate: answer.duplicate, batch_count: answer.count })
        }
        None => Err(PublishError::NoAcknowledgement(stream)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_acknowledgement_or_says_why_not() {
        let read = |answer: &[u8]| read("EVENTS", answer);
        let stored = read(br#"{"stream":"EVENTS", "seq":17}"#).unwrap();
        assert_eq!(stored, PublishAck { sequence: 17, is_duplicate: false, batch_count: None });
        let again = read(br#"{"stream":"EVENTS","seq":17,"duplicate":true}"#).unwrap();
        assert_eq!(again, PublishAck { sequence: 17, is_duplicate: true, batch_count: None });
        let batch = read(br#"{"stream":"EVENTS","seq":17,"batch":"b","count":2}"#).unwrap();
        assert_eq!(batch, PublishAck { sequence: 17, is_duplicate: false, batch_count: Some(2) });
        let refused = read(br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"EVENTS","seq":0}"#);
        let refused = refused.unwrap_err();
        assert!(refused.is_full() && !refused.is_unanswered() && refused.is_refusal());
        let not_available = read(br#"{"error":{"code":503,"err_code":10008,"description":"temporarily unavailable"}}"#);
        assert!(!not_available.unwrap_err().is_refusal(), "another server may be available");
        let too_large =
            read(br#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum"}}"#);
        assert!(too_large.unwrap_err().is_too_large());
        let wrong_last = |code: u64| {
            read(
                format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"wrong last sequence: 2"}}}}"#)
                    .as_bytes(),
            )
        };
        assert!([10_071, 10_164].into_iter().all(|code| wrong_last(code).unwrap_err().is_wrong_last()));
        assert!(read(b"+OK").unwrap_err().is_unanswered());
    }

    #[test]
    fn an_answer_that_names_no_place_in_the_stream_is_no_acknowledgement() {
        for answer in [
            r#"{"ok":true}"#,
            "{}",
            r#"{"seq":17}"#,
            r#"{"stream":"EVENTS"}"#,
            r#"{"stream":"EVENTS","seq":0}"#,
            r#"{"stream":"OTHER","seq":17}"#,
            r#"{"stream":null,"seq":17}"#,
        ] {
            assert!(read("EVENTS", answer.as_bytes()).unwrap_err().is_unanswered(), "{answer}");
        }
    }
}
