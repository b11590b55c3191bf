//! Pulling a consumer's messages: a request is sent ahead of what is read, and every message is counted.
//!
//! async-nats has this too (`consumer::pull::Stream`), with a fault (0.51, no upstream issue known): another task sends the
//! request, and the request is counted when that task says so. Where all messages of the request come sooner than that, they
//! are counted as still to come, and nothing is asked for until the request would have expired. This was seen in replays on
//! busy cores, and every time where that task was delayed by hand. Here the reader sends the request itself, and counts it
//! before it reads on. This may go when `consumer::pull::Stream` counts a request before it sends it; with 20 ms of sleep put
//! behind its send, the tests of replays must pass.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use crate::connection::Broker;
use crate::connection::handles::Handles;
use crate::error::{During, Unavailable};
use crate::poison::scan::{Ahead, PoisonScan};

/// How many bytes a request asks for, at least: what a lane that waits for its target may hold in memory. A larger message is
/// asked for by itself, at the price of a round trip.
const MIN_BYTES: usize = 4 * 1024 * 1024;
/// What a message takes beside its payload and headers (subjects, sizes), in bytes.
const MESSAGE_ALLOWANCE: usize = 4096;
/// After which an idle request is renewed.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that a request which it has nothing for is still known to it.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// How long the server may be silent. After that the request is taken for lost, or on a cluster the consumer's leader.
const LONGEST_SILENCE: Duration = Duration::from_secs(8);
/// How many messages of a request that ended early were not sent.
/// <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-37.md>
const UNSENT: &str = "Nats-Pending-Messages";
const WHAT: &str = "reading a consumer";

/// The messages of one consumer, as they come.
pub(crate) struct Pulls {
    handles: Arc<Handles>,
    inbox: Subscriber,
    /// Where the inbox is.
    reply: Subject,
    /// Where requests go.
    subject: Subject,
    request: Bytes,
    /// Asks for one message, however large.
    request_for_one: Bytes,
    /// How many messages a request asks for.
    batch: usize,
    /// Scans messages before they are asked for, while there is a suspicion.
    scan: Option<PoisonScan>,
    /// How many messages have been asked for and are neither here nor given up.
    due: usize,
    /// Since when the server has been silent.
    silent_since: Option<Instant>,
}

impl Pulls {
    /// Subscribes to the messages. The first request, for `batch` of them, is sent when the first one is read.
    pub(crate) async fn begin(
        broker: &Broker,
        consumer: &PullConsumer,
        batch: usize,
        scan: Option<PoisonScan>,
    ) -> Result<Self, Unavailable> {
        let handles = broker.handles();
        let reply = Subject::from(handles.client.new_inbox());
        let inbox = handles.client.subscribe(reply.clone()).await.during(WHAT)?;
        let info = consumer.cached_info();
        let max_bytes = MIN_BYTES.max(broker.max_message_bytes() + MESSAGE_ALLOWANCE);
        let (request, request_for_one) = (request_for(batch, max_bytes)?, request_for(1, 0)?);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", info.stream_name, info.name).into();
        let (due, silent_since) = (0, None);
        Ok(Self { handles, inbox, reply, subject, request, request_for_one, batch, scan, due, silent_since })
    }

    /// The handles that the messages come by.
    pub(crate) fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    /// The next message; `None` where it cannot be read. Nothing is lost where the caller stops waiting.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Unavailable> {
        loop {
            if !self.ask_for_more().await? {
                return Ok(None);
            }
            let patience_ends = *self.silent_since.get_or_insert_with(Instant::now) + LONGEST_SILENCE;
            let message = tokio::select! {
                biased;
                message = self.inbox.next() => message,
                () = sleep_until(patience_ends) => {
                    return Err(Unavailable::new(WHAT, format!("no sign of life for {LONGEST_SILENCE:?}")));
                }
            };
            self.silent_since = None;
            let message = message.ok_or_else(|| Unavailable::new(WHAT, "it ended"))?;
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.due = self.due.saturating_sub(1);
                    return Ok(Some(message));
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(status) => {
                    let unsent = unsent(status, &message)?;
                    self.due = self.due.saturating_sub(unsent);
                    if status == StatusCode::REQUEST_TERMINATED && unsent >= self.batch {
                        // What comes next is larger than all that was asked for: stored when the server took larger messages.
                        self.ask(self.request_for_one.clone(), 1).await?;
                    }
                }
            }
        }
    }

    /// Asks for more messages where it is time to. Answers whether the next one can be read.
    async fn ask_for_more(&mut self) -> Result<bool, Unavailable> {
        if let Some(scan) = &mut self.scan {
            if self.due > 0 {
                return Ok(true);
            }
            match scan.scan_on().await? {
                Ahead::Clear(count) => self.ask(request_for(count, 0)?, count).await?,
                Ahead::Unreadable => return Ok(false),
                Ahead::Open => self.scan = None,
            }
        }
        if self.scan.is_none() && self.due <= self.batch / 2 {
            self.ask(self.request.clone(), self.batch).await?;
        }
        Ok(true)
    }

    async fn ask(&mut self, request: Bytes, count: usize) -> Result<(), Unavailable> {
        let (subject, reply) = (self.subject.clone(), self.reply.clone());
        self.handles.client.publish_with_reply(subject, reply, request).await.during(WHAT)?;
        // With nothing awaited in between: what was sent is counted.
        self.due += count;
        Ok(())
    }
}

/// A request for so many messages, and so many bytes; 0 for any number.
fn request_for(batch: usize, max_bytes: usize) -> Result<Bytes, Unavailable> {
    let request = pull::BatchConfig {
        batch,
        max_bytes,
        expires: Some(EXPIRES),
        idle_heartbeat: HEARTBEAT,
        ..pull::BatchConfig::default()
    };
    Ok(serde_json::to_vec(&request).during(WHAT)?.into())
}

/// How many messages of a request are not to come any more; an error where another one would fare no better.
fn unsent(status: StatusCode, message: &Message) -> Result<usize, Unavailable> {
    let unsent = message.headers.as_ref().and_then(|headers| headers.get_last(UNSENT));
    match unsent.and_then(|count| count.as_str().parse().ok()) {
        Some(count) => Ok(count),
        None => {
            let why = message.description.as_deref().unwrap_or_default();
            Err(Unavailable::new(WHAT, format!("the server answered {status}: {why}")))
        }
    }
}
