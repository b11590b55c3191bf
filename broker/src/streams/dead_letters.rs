//! The stream `DEAD_LETTERS`: events that a subscription has given up on, with the reason.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{DeleteMessageErrorKind, RawMessageErrorKind, Stream};
use domain::{DeadLetter, SubscriptionId, dead_letter};
use tokio::time::Instant;

use crate::connection::Broker;
pub use crate::connection::direct_get::End;
use crate::connection::direct_get::{self, PageRequest};
use crate::error::{During, Unavailable};
use crate::names::{DEAD_LETTERS, EVENTS};

/// How long JetStream may take to acknowledge one.
const ADD_DEADLINE: Duration = Duration::from_secs(4);

/// The stream.
#[derive(Clone)]
pub struct DeadLetters {
    broker: Broker,
}

/// Dead letters in order, with their own sequences, and where they stop.
#[derive(Debug)]
pub struct LetterPage {
    /// The dead letters.
    pub letters: Vec<(u64, DeadLetter)>,
    /// Where reading ended.
    pub end: End,
}

impl DeadLetters {
    /// The stream behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Adds a dead letter; returns when JetStream has acknowledged it. `name` tells this end of the event from others: a
    /// letter that is added again under the same name is there once. With `may_be_there` that holds beyond the server's
    /// duplicate window, as long as its subscription has had no other letter since.
    pub async fn add(&self, letter: &DeadLetter, name: &str, may_be_there: bool) -> Result<(), Unavailable> {
        const WHAT: &str = "writing a dead letter";
        if !self.broker.link().borrow().is_up {
            return Err(Unavailable::new(WHAT, "there is no connection"));
        }
        let message_id = format!("{}.{}.{name}", letter.subscription, letter.event.sequence);
        if may_be_there && self.last_message_id(letter).await?.as_deref() == Some(&*message_id) {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in letter.headers() {
            headers.append(name, value.as_str());
        }
        headers.insert(async_nats::header::NATS_MESSAGE_ID, message_id.as_str());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, DEAD_LETTERS);
        let (data, deadline) = (letter.event.data.clone(), Instant::now() + ADD_DEADLINE);
        let (broker, subject) = (&self.broker, letter.subject());
        broker.publish_while_connected(DEAD_LETTERS, subject, headers, data, deadline).await.during(WHAT)?;
        Ok(())
    }

    /// The message id of the subscription's last letter. Asked of the stream's leader.
    async fn last_message_id(&self, letter: &DeadLetter) -> Result<Option<String>, Unavailable> {
        const WHAT: &str = "looking for a dead letter";
        let stream: Stream<()> = self.broker.handles().context.get_stream_no_info(DEAD_LETTERS).await.during(WHAT)?;
        let last = async {
            match stream.get_last_raw_message_by_subject(&letter.subject()).await {
                Ok(last) => Ok(last.headers.get(async_nats::header::NATS_MESSAGE_ID).map(ToString::to_string)),
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
                Err(error) => Err(error).during(WHAT),
            }
        };
        self.broker.while_connected(WHAT, last).await
    }

    /// Removes a dead letter. Answers whether there was one with that sequence of its own.
    pub async fn remove(&self, sequence: u64) -> Result<bool, Unavailable> {
        const WHAT: &str = "removing a dead letter";
        let stream: Stream<()> = self.broker.handles().context.get_stream_no_info(DEAD_LETTERS).await.during(WHAT)?;
        let remove = async {
            match stream.delete_message(sequence).await {
                Ok(_) => Ok(true),
                Err(error) => match error.kind() {
                    DeleteMessageErrorKind::JetStream(error) if is_absent(error.error_code()) => Ok(false),
                    _ => Err(error).during(WHAT),
                },
            }
        };
        self.broker.while_connected(WHAT, remove).await
    }

    /// Some dead letters from a sequence on, in order, of one subscription or (`None`) of all: at most `limit`, fewer
    /// where they are large or there are no more. Other messages are left out.
    pub async fn read(
        &self,
        from: u64,
        subscription: Option<&SubscriptionId>,
        limit: usize,
    ) -> Result<LetterPage, Unavailable> {
        let subject = subscription.map(|id| format!("{}{id}", dead_letter::SUBJECT_PREFIX));
        let request = PageRequest { stream: DEAD_LETTERS, from, subject: subject.as_deref(), limit };
        let mut letters = Vec::new();
        let end = direct_get::read(&self.broker, &request, "reading dead letters", |found| {
            let headers = found.message.headers.iter().flat_map(HeaderMap::iter);
            let headers = headers.filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())));
            let letter = DeadLetter::from_message(EVENTS, headers, found.message.payload.clone());
            letters.extend(letter.map(|letter| (found.sequence, letter)));
        });
        Ok(LetterPage { end: end.await?, letters })
    }
}

/// Whether JetStream says that there is no such message. nats-server 2.15 says the second where it was removed before.
fn is_absent(code: ErrorCode) -> bool {
    code == ErrorCode::SEQUENCE_NOT_FOUND || code == ErrorCode::STREAM_MESSAGE_DELETE_FAILED
}
