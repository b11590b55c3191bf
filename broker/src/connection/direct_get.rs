//! Reading a stream's messages in order by batched direct get, which any replica answers.

use std::pin::pin;
use std::time::Duration;

use async_nats::HeaderValue;
use domain::Stamp;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::connection::Broker;
use crate::error::{During, Unavailable};

/// How long the next answer may take to come.
const ANSWER_DEADLINE: Duration = Duration::from_secs(4);
/// The most that one page may hold, in bytes, unless a single message is larger.
pub(crate) const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// What ends the answers.
const END_OF_BATCH: u16 = 204;
/// What is answered where there is nothing.
const NOTHING_FOUND: u16 = 404;

/// Which page to read.
pub(crate) struct PageRequest<'a> {
    pub(crate) stream: &'a str,
    /// The first sequence.
    pub(crate) from: u64,
    /// Only messages on it; may hold wildcards. `None`: all.
    pub(crate) subject: Option<&'a str>,
    /// At most so many; fewer come where they are large or the stream ends.
    pub(crate) limit: usize,
}

/// A message as it stands in the stream.
pub(crate) struct DirectMessage {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) stored_at: Stamp,
    pub(crate) message: async_nats::Message,
}

/// Where reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the last message that there is.
    OfLog,
    /// There is more, from this sequence on.
    Before(u64),
}

/// Why messages were not read.
pub(crate) enum PageError {
    /// The client library has given its connection up, perhaps on one of these messages.
    ConnectionEnded(Unavailable),
    /// JetStream does not answer as it should.
    Unavailable(Unavailable),
}

impl From<Unavailable> for PageError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl From<PageError> for Unavailable {
    fn from(error: PageError) -> Self {
        match error {
            PageError::ConnectionEnded(error) | PageError::Unavailable(error) => error,
        }
    }
}

/// Reads a page, and calls `each` with every message of it.
pub(crate) async fn read(
    broker: &Broker,
    request: &PageRequest<'_>,
    what: &'static str,
    each: impl FnMut(DirectMessage),
) -> Result<End, PageError> {
    let from = request.from.max(1);
    let mut body = json!({"seq": from, "batch": request.limit, "max_bytes": PAGE_BYTES});
    if let Some(subject) = request.subject {
        body["next_by_subj"] = subject.into();
    }
    answers(broker, request.stream, &body, from, what, each).await
}

/// Reads a page of the messages on a subject that were stored at a moment or later.
pub(crate) async fn read_since(
    broker: &Broker,
    request: &PageRequest<'_>,
    since: Stamp,
    what: &'static str,
    each: impl FnMut(DirectMessage),
) -> Result<End, PageError> {
    let subject = request.subject.unwrap_or(">");
    let since = since.to_rfc3339();
    let body = json!({"start_time": since, "batch": request.limit, "max_bytes": PAGE_BYTES, "next_by_subj": subject});
    answers(broker, request.stream, &body, request.from.max(1), what, each).await
}

/// The last message on a subject, which holds no wildcards.
pub(crate) async fn last(
    broker: &Broker,
    stream: &str,
    subject: &str,
    what: &'static str,
) -> Result<Option<DirectMessage>, PageError> {
    let mut last = None;
    answers(broker, stream, &json!({"multi_last": [subject], "batch": 1}), 1, what, |found| last = Some(found)).await?;
    Ok(last)
}

/// Makes a request that is answered by messages in order, none of them before `next`, and calls `each` with every one.
async fn answers(
    broker: &Broker,
    stream: &str,
    body: &Value,
    mut next: u64,
    what: &'static str,
    mut each: impl FnMut(DirectMessage),
) -> Result<End, PageError> {
    let client = &broker.handles().client;
    let mut is_lost = pin!(broker.is_lost());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.during(what)?;
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    client.publish_with_reply(subject, inbox, body.to_string().into()).await.during(what)?;
    loop {
        let answer = tokio::select! {
            biased;
            answer = timeout(ANSWER_DEADLINE, answers.next()) => answer.during(what)?,
            () = &mut is_lost => None,
        };
        let answer =
            answer.ok_or_else(|| PageError::ConnectionEnded(Unavailable::new(what, "the connection was lost")))?;
        match answer.status.map(|status| status.as_u16()) {
            None => {
                let found = found(answer).ok_or_else(|| Unavailable::new(what, "an unreadable answer"))?;
                if found.sequence < next {
                    let why = format!("sequence {} came behind {}", found.sequence, next - 1);
                    return Err(Unavailable::new(what, why).into());
                }
                next = found.sequence + 1;
                each(found);
            }
            Some(END_OF_BATCH) => {
                let pending = answer.headers.as_ref().and_then(|headers| headers.get_last("Nats-Num-Pending"));
                let is_more = pending.is_some_and(|pending| pending.as_str() != "0");
                return Ok(if is_more { End::Before(next) } else { End::OfLog });
            }
            Some(NOTHING_FOUND) => return Ok(End::OfLog),
            Some(status) => {
                let why = format!("{status} {}", answer.description.unwrap_or_default());
                return Err(Unavailable::new(what, why).into());
            }
        }
    }
}

fn found(answer: async_nats::Message) -> Option<DirectMessage> {
    let headers = answer.headers.as_ref()?;
    // The server's come last: a message that was taken from another stream may carry the same ones as its own.
    let text = |name: &str| headers.get_last(name).map(HeaderValue::as_str);
    let sequence = text("Nats-Sequence")?.parse().ok()?;
    let stored_at = Stamp::parse(text("Nats-Time-Stamp")?).ok()?;
    let subject = text("Nats-Subject")?.to_owned();
    Some(DirectMessage { sequence, subject, stored_at, message: answer })
}
