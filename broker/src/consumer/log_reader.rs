//! A log reader reads a part of the log once for many lanes: the tail for lanes that have caught up, or the past for lanes
//! that need the same of it at the same time. It has a consumer of its own that needs no acknowledgements.

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use domain::{Event, TypePattern};
use std::time::Duration;
use uuid::Uuid;

use super::numbered::{FeedError, Numbered};
use super::pull::Pulls;
use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::poison::scan::{PassedOver, PoisonScan};

/// How many messages are asked for at a time.
const PULL_BATCH: usize = 512;
/// The kind of the reader that reads headers only.
const SCAN: &str = "scan";
const MAKING: &str = "making a consumer for many lanes";
/// After which nats-server removes the consumer of a reader of the tail that has gone without removing it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// The same for a reader of the past. It asks for nothing while all its lanes wait for their targets; where they wait longer
/// than this, they open another reader.
const PAST_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The events from a sequence on, in order.
pub struct LogReader {
    broker: Broker,
    name: String,
    messages: Numbered,
    passed_over: PassedOver,
    /// How many messages it had before it when it was opened.
    pub backlog: u64,
}

/// One message of the log.
#[derive(Debug)]
pub struct LogMessage {
    /// Its place in the log.
    pub sequence: u64,
    /// The event; `None` where the subject is not that of a legal type, or the message cannot be read.
    pub event: Option<Event>,
    /// How many messages the server has behind it.
    pub backlog: u64,
}

impl LogReader {
    /// Opens a reader of the tail: of every message from `from` on.
    pub async fn open(broker: &Broker, from: u64) -> Result<Self, Unavailable> {
        const WHAT: &str = "The end of the log, for a dispatcher's lanes that have caught up";
        Self::begin(broker, from, &[], "tail", FORGOTTEN_AFTER, WHAT).await
    }

    /// Opens a reader of the past: of the messages from `from` on that the filters let through. No two filters may overlap.
    pub async fn open_past(broker: &Broker, from: u64, filters: &[TypePattern]) -> Result<Self, Unavailable> {
        const WHAT: &str = "The past, for a dispatcher's lanes that want the same of it";
        Self::begin(broker, from, filters, "past", PAST_FORGOTTEN_AFTER, WHAT).await
    }

    /// Opens a reader of all messages from `from` on that gives their headers only: nats-server reads each one whole, and so
    /// finds which it has no more.
    pub(super) async fn open_scan(broker: &Broker, from: u64) -> Result<Self, Unavailable> {
        const WHAT: &str = "All of the log, for what is missing in it";
        Self::begin(broker, from, &[], SCAN, FORGOTTEN_AFTER, WHAT).await
    }

    async fn begin(
        broker: &Broker,
        from: u64,
        filters: &[TypePattern],
        kind: &str,
        forgotten_after: Duration,
        description: &str,
    ) -> Result<Self, Unavailable> {
        let objects = broker.objects()?;
        let subjects = filters.iter().map(TypePattern::subject);
        let everything = filters.is_empty().then(|| ">".to_owned());
        let mut scan = PoisonScan::behind(broker, from.saturating_sub(1), subjects.chain(everything));
        let mut passed_over = PassedOver::by(&mut scan).await?;
        let from = passed_over.end().map_or(from, |end| end + 1);
        let name = format!("{kind}-{}", Uuid::now_v7().simple());
        let replicas = objects.events.cached_info().config.num_replicas;
        let config = pull::Config {
            name: Some(name.clone()),
            description: Some(description.to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            filter_subjects: filters.iter().map(TypePattern::subject).collect(),
            headers_only: kind == SCAN,
            memory_storage: true,
            // As many as of the log: a single one may be kept by a server that hangs.
            num_replicas: replicas,
            inactive_threshold: forgotten_after,
            ..pull::Config::default()
        };
        let consumer = async { objects.events.create_consumer(config).await.during(MAKING) };
        let consumer: PullConsumer = broker.while_connected(MAKING, consumer).await?;
        let backlog = passed_over.lie_before(consumer.cached_info().num_pending);
        let pulls = Pulls::begin(broker, &consumer, PULL_BATCH, scan).await?;
        Ok(Self { broker: broker.clone(), name, messages: Numbered::new(pulls, 1), passed_over, backlog })
    }

    /// The next message.
    pub async fn next(&mut self) -> Result<LogMessage, FeedError> {
        if let Some((sequence, backlog)) = self.passed_over.next() {
            return Ok(LogMessage { sequence, event: None, backlog });
        }
        let read = self.messages.next().await?;
        Ok(LogMessage { sequence: read.sequence, event: read.event, backlog: read.backlog })
    }

    /// The sequence of the next message, which is looked at no further.
    pub(super) async fn next_sequence(&mut self) -> Result<u64, FeedError> {
        match self.passed_over.next() {
            Some((sequence, _)) => Ok(sequence),
            None => self.messages.next_sequence().await,
        }
    }

    /// Removes its consumer. Where that fails, nats-server removes it by itself a little later.
    pub async fn close(self) -> Result<(), Unavailable> {
        let objects = self.broker.objects()?;
        drop(self.messages);
        const WHAT: &str = "removing a consumer for many lanes";
        let remove = async { objects.events.delete_consumer(&self.name).await.during(WHAT).map(drop) };
        self.broker.while_connected(WHAT, remove).await
    }
}
