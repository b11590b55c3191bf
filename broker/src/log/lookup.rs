//! Look-ups of single messages: of the log, and of another stream by its name. The stream's leader answers them in JSON, so the
//! answer can be read whatever the message's headers are.

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::log_epoch::Mark;
use domain::{Event, Stamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::log::message::event_of;
use crate::names::EVENTS;
use crate::poison::header_block;

/// A message as it stands in its stream.
pub(crate) struct StoredMessage {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    stored_at: String,
    /// `None`: the client library cannot read this message.
    headers: Option<HeaderMap>,
    /// Base64.
    data: String,
    /// About how large it is.
    pub(crate) bytes: usize,
}

#[derive(Deserialize)]
struct GetAnswer {
    message: GetMessage,
}

/// A message in the server's answer. Headers and data are Base64.
#[derive(Deserialize)]
struct GetMessage {
    #[serde(rename = "seq")]
    sequence: u64,
    subject: String,
    time: String,
    #[serde(default, rename = "hdrs")]
    headers: String,
    #[serde(default)]
    data: String,
}

/// The first message from a sequence on whose subject `subject`, which may hold wildcards, matches.
pub(crate) async fn next(broker: &Broker, from: u64, subject: &str) -> Result<Option<StoredMessage>, Unavailable> {
    get(broker, &json!({"seq": from.max(1), "next_by_subj": subject}), "looking for the next message").await
}

/// The message with a sequence.
pub(crate) async fn at(broker: &Broker, sequence: u64) -> Result<Option<StoredMessage>, Unavailable> {
    get(broker, &json!({"seq": sequence}), "reading an event").await
}

/// The last message on a subject.
pub(crate) async fn last(broker: &Broker, subject: &str) -> Result<Option<StoredMessage>, Unavailable> {
    get(broker, &json!({"last_by_subj": subject}), "looking up the last event of a type").await
}

/// The first message that was stored at or after a moment.
pub(crate) async fn stored_from(broker: &Broker, moment: Stamp) -> Result<Option<StoredMessage>, Unavailable> {
    let request = json!({"next_by_subj": ">", "start_time": countable(moment).to_rfc3339()});
    get(broker, &request, "looking up a moment in the log").await
}

/// A moment that nats-server can count, on the same side of all that it has stored: it counts nanoseconds from 1970 in 64 bits,
/// and what is beyond them, before 1678 or after 2262, becomes another time.
fn countable(moment: Stamp) -> Stamp {
    moment.clamp(Stamp::from_micros(0), Stamp::from_micros(i64::MAX / 1000))
}

/// What a request of `STREAM.MSG.GET` finds in the log. A message that cannot be read is remembered.
async fn get(broker: &Broker, request: &Value, what: &'static str) -> Result<Option<StoredMessage>, Unavailable> {
    let found = get_in(broker, EVENTS, request, what).await?;
    if let Some(message) = found.as_ref().filter(|message| !message.is_readable()) {
        broker.poison_detection().report(message.sequence, &message.subject);
    }
    Ok(found)
}

/// What a request of `STREAM.MSG.GET` finds in a stream.
pub(crate) async fn get_in(
    broker: &Broker,
    stream: &str,
    request: &Value,
    what: &'static str,
) -> Result<Option<StoredMessage>, Unavailable> {
    let subject = format!("STREAM.MSG.GET.{stream}");
    let handles = broker.handles();
    let answer = handles.context.request(subject, request);
    let answer: Result<Response<GetAnswer>, RequestError> =
        broker.while_connected(what, async { Ok(answer.await) }).await?;
    match answer {
        Ok(Response::Ok(answer)) => Ok(Some(StoredMessage::from(answer.message))),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Ok(Response::Err { error }) => Err(Unavailable::new(what, error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(Unavailable::new(what, "no JetStream")),
        Err(error) => Err(error).during(what),
    }
}

/// The event in an answer of `STREAM.MSG.GET`, if there is one.
pub(crate) fn event_in(answer: Value) -> Option<Event> {
    let GetAnswer { message } = serde_json::from_value(answer).ok()?;
    StoredMessage::from(message).event()
}

impl GetMessage {
    fn headers(&self) -> Option<HeaderMap> {
        // The server has put U+FFFD in place of bytes that are not UTF-8. A subject with that, or with white space of any
        // kind, is no event's, whether it is readable or not.
        if self.subject.contains(|c: char| c.is_whitespace() || c == char::REPLACEMENT_CHARACTER) {
            return None;
        }
        header_block::parse(&STANDARD.decode(&self.headers).ok()?)
    }
}

impl From<GetMessage> for StoredMessage {
    fn from(stored: GetMessage) -> Self {
        Self {
            sequence: stored.sequence,
            headers: stored.headers(),
            bytes: (stored.headers.len() + stored.data.len()) / 4 * 3,
            subject: stored.subject,
            stored_at: stored.time,
            data: stored.data,
        }
    }
}

impl StoredMessage {
    /// Whether the client library can read this message.
    pub(crate) fn is_readable(&self) -> bool {
        self.headers.is_some()
    }

    /// When it was stored; `None` where the server's time cannot be read.
    pub(crate) fn stored_at(&self) -> Option<Stamp> {
        Stamp::parse(&self.stored_at).ok()
    }

    /// What identifies it; `None` where the server's time cannot be read.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let stored_at = self.stored_at()?;
        Some(self.event().map_or_else(|| Mark::new(self.sequence, "", stored_at), |event| Mark::of(&event)))
    }

    /// Headers and data, if they can be read.
    pub(crate) fn parts(&self) -> Option<(&HeaderMap, Bytes)> {
        Some((self.headers.as_ref()?, STANDARD.decode(&self.data).ok()?.into()))
    }

    /// The event, if it is one.
    pub(crate) fn event(&self) -> Option<Event> {
        let (headers, data) = self.parts()?;
        event_of(&self.subject, self.sequence, self.stored_at()?, Some(headers), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_the_server_cannot_count_is_the_nearest_one_that_it_can() {
        for (moment, sent) in [
            ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("1601-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00.000000Z"),
            ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000000Z"),
            ("2262-04-11T23:47:17Z", "2262-04-11T23:47:16.854775Z"),
            ("9999-12-31T23:59:59Z", "2262-04-11T23:47:16.854775Z"),
        ] {
            assert_eq!(countable(Stamp::parse(moment).unwrap()).to_rfc3339(), sent, "{moment}");
        }
    }
}
