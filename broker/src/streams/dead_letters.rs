//! The stream `DEAD_LETTERS`: events that a subscription has given up on, with the reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{DeleteMessageErrorKind, Stream};
use bytes::Bytes;
use domain::{DeadLetter, SubscriptionId, dead_letter};
use serde_json::json;
use tokio::time::Instant;

pub use crate::connection::direct_get::End;
use crate::connection::direct_get::{self, PAGE_BYTES, PageError, PageRequest};
use crate::connection::{Broker, RECONNECT_PATIENCE};
use crate::error::{During, Unavailable};
use crate::log::lookup;
use crate::names::{DEAD_LETTERS, EVENTS};

/// How long JetStream may take to acknowledge one.
const ADD_DEADLINE: Duration = Duration::from_secs(4);
/// How many unreadable messages are remembered. A forgotten one costs another connection.
const MAX_KNOWN: usize = 1024;
const READING: &str = "reading dead letters";

/// The stream.
#[derive(Clone)]
pub struct DeadLetters {
    broker: Broker,
    unreadable: Unreadable,
}

/// Messages that the client library cannot read, by their sequences, with their subjects. Pages that hold one are read one by
/// one. Clones share them.
#[derive(Clone, Default)]
struct Unreadable(Arc<Mutex<BTreeMap<u64, String>>>);

/// Dead letters in order, with their own sequences, and where they stop.
#[derive(Debug)]
pub struct LetterPage {
    /// The dead letters.
    pub letters: Vec<(u64, DeadLetter)>,
    /// The sequences of those that cannot be read. They can be removed.
    pub unreadable: Vec<u64>,
    /// Where reading ended.
    pub end: End,
}

impl DeadLetters {
    /// The stream behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker, unreadable: Unreadable::default() }
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
        let last = json!({"last_by_subj": letter.subject()});
        let last = lookup::get_in(&self.broker, DEAD_LETTERS, &last, WHAT).await?;
        let headers = last.as_ref().and_then(|message| message.parts()).map(|(headers, _)| headers);
        Ok(headers.and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID)).map(ToString::to_string))
    }

    /// Removes a dead letter. Answers whether there was one with that sequence of its own.
    pub async fn remove(&self, sequence: u64) -> Result<bool, Unavailable> {
        const WHAT: &str = "removing a dead letter";
        let stream: Stream<()> = self.broker.handles().context.get_stream_no_info(DEAD_LETTERS).await.during(WHAT)?;
        let remove = async {
            match stream.delete_message(sequence).await {
                Ok(_) => {
                    self.unreadable.known().remove(&sequence);
                    Ok(true)
                }
                Err(error) => match error.kind() {
                    DeleteMessageErrorKind::JetStream(error) if is_absent(error.error_code()) => Ok(false),
                    _ => Err(error).during(WHAT),
                },
            }
        };
        self.broker.while_connected(WHAT, remove).await
    }

    /// Some dead letters from a sequence on, in order, of one subscription or (`None`) of all: at most `limit`, fewer
    /// where they are large or there are no more. Other messages are left out. One that the client library cannot read costs
    /// a connection once, and no dead letter but itself.
    pub async fn read(
        &self,
        from: u64,
        subscription: Option<&SubscriptionId>,
        limit: usize,
    ) -> Result<LetterPage, Unavailable> {
        let subject = subscription.map(|id| format!("{}{id}", dead_letter::SUBJECT_PREFIX));
        let request = PageRequest { stream: DEAD_LETTERS, from, subject: subject.as_deref(), limit };
        if !self.unreadable.is_one_in(&request) {
            let link = *self.broker.link().borrow();
            tokio::select! {
                biased;
                page = self.read_at_once(&request) => match page {
                    Err(PageError::ConnectionEnded(_)) => {}
                    page => return Ok(page?),
                },
                () = self.broker.is_lost() => {}
            }
            // A message of this page may be the reason.
            self.broker.connected_anew_by(link, Instant::now() + RECONNECT_PATIENCE).await;
        }
        self.read_one_by_one(&request).await
    }

    async fn read_at_once(&self, request: &PageRequest<'_>) -> Result<LetterPage, PageError> {
        let mut letters = Vec::new();
        let end = direct_get::read(&self.broker, request, READING, |found| {
            let letter = letter_of(found.message.headers.as_ref(), found.message.payload);
            letters.extend(letter.map(|letter| (found.sequence, letter)));
        });
        Ok(LetterPage { end: end.await?, letters, unreadable: Vec::new() })
    }

    async fn read_one_by_one(&self, request: &PageRequest<'_>) -> Result<LetterPage, Unavailable> {
        let (mut next, mut bytes, mut end) = (request.from, 0, None);
        let (mut letters, mut unreadable) = (Vec::new(), Vec::new());
        for _ in 0..request.limit {
            let wanted = json!({"seq": next.max(1), "next_by_subj": request.subject.unwrap_or(">")});
            let Some(message) = lookup::get_in(&self.broker, request.stream, &wanted, READING).await? else {
                end = Some(End::OfLog);
                break;
            };
            next = message.sequence + 1;
            bytes += message.bytes;
            match message.parts() {
                Some((headers, data)) => {
                    letters.extend(letter_of(Some(headers), data).map(|letter| (message.sequence, letter)));
                }
                None => {
                    self.unreadable.report(message.sequence, &message.subject);
                    unreadable.push(message.sequence);
                }
            }
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        let end = end.unwrap_or(End::Before(next));
        self.unreadable.are_those(request, end, &unreadable);
        Ok(LetterPage { end, letters, unreadable })
    }
}

impl Unreadable {
    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the page may hold one.
    fn is_one_in(&self, request: &PageRequest<'_>) -> bool {
        let to = request.from.saturating_add(request.limit as u64);
        // One subject's messages may lie far apart.
        self.known().range(request.from..).any(|(sequence, subject)| match request.subject {
            Some(wanted) => subject == wanted,
            None => *sequence < to,
        })
    }

    /// Remembers one. It is logged once.
    fn report(&self, sequence: u64, subject: &str) {
        let mut known = self.known();
        if known.insert(sequence, subject.to_owned()).as_deref() == Some(subject) {
            return;
        }
        if known.len() > MAX_KNOWN {
            known.pop_first();
        }
        drop(known);
        // Another client chose the subject: it may hold anything.
        tracing::error!(sequence, ?subject, "dead_letters.unreadable_message_passed_over");
    }

    /// These are all that a page has; others that were known there were removed.
    fn are_those(&self, request: &PageRequest<'_>, end: End, found: &[u64]) {
        let is_of_page = |sequence: u64, subject: &str| {
            sequence >= request.from
                && request.subject.is_none_or(|wanted| subject == wanted)
                && match end {
                    End::OfLog => true,
                    End::Before(next) => sequence < next,
                }
        };
        self.known().retain(|sequence, subject| !is_of_page(*sequence, subject) || found.contains(sequence));
    }
}

fn letter_of(headers: Option<&HeaderMap>, data: Bytes) -> Option<DeadLetter> {
    let headers = headers.into_iter().flat_map(HeaderMap::iter);
    let headers = headers.filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())));
    DeadLetter::from_message(EVENTS, headers, data)
}

/// Whether JetStream says that there is no such message. nats-server 2.15 says the second where it was removed before.
fn is_absent(code: ErrorCode) -> bool {
    code == ErrorCode::SEQUENCE_NOT_FOUND || code == ErrorCode::STREAM_MESSAGE_DELETE_FAILED
}
