//! One URL's durable consumer, read in order and without a gap from a position.
//!
//! A lane that has caught up reads the log with others instead (see `log_reader`). Its consumer stays, unread, and shows an
//! operator where the lane is.
//!
//! The lane's position is the truth; the consumer's state is a help. nats-server writes acknowledgements and resets to disk a
//! little later, and a kill may roll them back. So
//! - a consumer carries the lane's epoch in its metadata, and a consumer of another epoch is replaced, never moved back;
//! - a consumer that is not exactly at the position, or has messages out, is reset to the position before it is read;
//! - the server numbers every delivery, and a number that is not the next one ends the feed: a message was lost on the way,
//!   and reading begins again at the position.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use domain::lane::Epoch;
use domain::{Event, Stamp, SubscriptionId, TypePattern};
use futures_util::FutureExt;

use super::acknowledgement::Acknowledgement;
use super::live::{self, Live};
pub use super::numbered::FeedError;
use super::numbered::{ConsumerMessage, Numbered};
use super::pull::Pulls;
use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::log::message::stamp_of;
use crate::poison::scan::{PassedOver, PoisonScan};
use crate::topology::monitoring;

/// How many messages are asked for at a time.
const PULL_BATCH: usize = 128;
const FINDING: &str = "looking for a consumer";
const MAKING: &str = "making a consumer";
const REMOVING: &str = "removing a consumer";
/// How many messages may be out at once, unacknowledged: several pulls.
pub const MAX_OUT: u32 = 1024;
/// After which the server sends a message again that was not acknowledged. A lost message is noticed by its number as soon as
/// another one comes; this is for the last one. A message that comes twice because a target is slow is passed over.
pub const ACK_WAIT: Duration = Duration::from_secs(60);
/// The metadata key of the lane's epoch.
const EPOCH: &str = "mer.epoch";
/// The epoch of a consumer that was made only to be shown. No lane has it.
const NO_EPOCH: &str = "none";
/// The metadata key of the target, without user information and query.
const TARGET: &str = "mer.url";

/// What a feed reads.
#[derive(Debug, Clone)]
pub struct Want<'a> {
    /// The subscription, which is the consumer's name.
    pub id: &'a SubscriptionId,
    /// The target, as it may be shown.
    pub target: &'a str,
    /// The lane's epoch.
    pub epoch: &'a Epoch,
    /// The filters; no two may overlap.
    pub filters: &'a [TypePattern],
    /// Read on after this sequence.
    pub position: u64,
}

/// The durable consumers of all URLs.
#[derive(Clone)]
pub struct Feeds {
    broker: Broker,
}

/// The state of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The lane's epoch that it was made for.
    pub epoch: String,
    /// All up to here is acknowledged.
    pub floor: u64,
    /// When the last acknowledgement came: an event that was stored later cannot be one that was acknowledged.
    pub acknowledged_at: Option<Stamp>,
    /// Messages that it lets through and that are not acknowledged.
    pub undelivered: u64,
}

/// Messages of one consumer, in order.
pub struct Feed {
    messages: Numbered,
    passed_over: PassedOver,
    /// A message that was read ahead.
    ahead: Option<Result<Delivery, FeedError>>,
    /// How many messages it had before it when it was opened.
    pub backlog: u64,
}

/// One message of a feed, or of a log reader.
pub struct Delivery {
    /// Its place in the log.
    pub sequence: u64,
    /// The event; `None` where the subject is not that of a legal type, or the message cannot be read.
    pub event: Option<Arc<Event>>,
    /// How many messages are known to be behind it.
    pub backlog: u64,
    /// How it is acknowledged, where it came from the lane's consumer.
    acknowledgement: Option<Acknowledgement>,
}

impl Feeds {
    /// The consumers behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// The state of a lane's consumer, if there is one.
    pub async fn standing(&self, id: &SubscriptionId) -> Result<Option<Standing>, Unavailable> {
        let objects = self.broker.objects()?;
        let info = self.broker.while_connected(FINDING, find(&objects.events, id)).await?;
        Ok(info.map(|info| Standing {
            epoch: info.config.metadata.get(EPOCH).cloned().unwrap_or_default(),
            floor: info.ack_floor.stream_sequence,
            acknowledged_at: info.ack_floor.last_active.map(|at| stamp_of(at.unix_timestamp_nanos())),
            undelivered: info.num_pending + info.num_ack_pending as u64,
        }))
    }

    /// How far a lane that follows the tail has come, where its dispatcher answers.
    pub async fn live(&self, id: &SubscriptionId) -> Option<Live> {
        live::ask(&self.broker, id).await
    }

    /// Opens a feed: every message after the position that the filters let through, without an end.
    pub async fn open(&self, want: &Want<'_>) -> Result<Feed, Unavailable> {
        self.broker.while_connected(MAKING, self.open_on_this(want)).await
    }

    async fn open_on_this(&self, want: &Want<'_>) -> Result<Feed, Unavailable> {
        let objects = self.broker.objects()?;
        let events = &objects.events;
        let found = find(events, want.id).await?;
        if let Some(info) = &found
            && info.config.metadata.get(EPOCH) != Some(&want.epoch.to_string())
        {
            remove(events, want.id).await?;
        }
        let mut scan = PoisonScan::behind(&self.broker, want.position, want.filters.iter().map(TypePattern::subject));
        let mut passed_over = PassedOver::by(&mut scan).await?;
        // The lane has settled everything before them, so a consumer that stands behind them shows the truth.
        let position = passed_over.end().unwrap_or(want.position);
        let config = config(want, found.as_ref());
        let mut consumer: PullConsumer = events.create_consumer(config).await.during(MAKING)?;
        if !stands_at(consumer.cached_info(), position) {
            consumer.reset(Some(position + 1)).await.during("resetting a consumer")?;
        }
        let info = consumer.cached_info();
        let next_number = info.delivered.consumer_sequence + 1;
        let backlog = passed_over.lie_before(info.num_pending);
        let pulls = Pulls::begin(&self.broker, &consumer, PULL_BATCH, scan).await?;
        Ok(Feed { messages: Numbered::new(pulls, next_number), passed_over, ahead: None, backlog })
    }

    /// Moves a lane's consumer to where the lane is, so that it shows that to an operator while nobody reads it.
    pub async fn show(&self, want: &Want<'_>) -> Result<(), Unavailable> {
        self.broker.while_connected(MAKING, self.show_on_this(want)).await
    }

    async fn show_on_this(&self, want: &Want<'_>) -> Result<(), Unavailable> {
        let objects = self.broker.objects()?;
        let events = &objects.events;
        let found = find(events, want.id).await?;
        let mut config = config(want, found.as_ref());
        let same = found.filter(|info| info.config.filter_subjects == config.filter_subjects);
        let mut consumer: PullConsumer = match same {
            Some(info) if stands_at(&info, want.position) => return Ok(()),
            Some(_) => {
                let found = events.get_consumer(want.id.as_str()).await;
                found.map_err(|error| Unavailable::new(FINDING, error))?
            }
            None => {
                self.remove(want.id).await?;
                config.metadata.insert(EPOCH.to_owned(), NO_EPOCH.to_owned());
                events.create_consumer(config).await.during(MAKING)?
            }
        };
        consumer.reset(Some(want.position + 1)).await.during("resetting a consumer")?;
        Ok(())
    }

    /// Whether there is nothing in the log, for now, that this feed lets through and has not given.
    pub async fn is_read_to_the_end(&self, id: &SubscriptionId, feed: &Feed) -> Result<bool, Unavailable> {
        let objects = self.broker.objects()?;
        let info = self.broker.while_connected(FINDING, find(&objects.events, id)).await?;
        Ok(info.is_some_and(|info| {
            feed.ahead.is_none()
                && feed.passed_over.is_empty()
                && info.num_pending == 0
                && info.delivered.consumer_sequence + 1 == feed.messages.next_number()
        }))
    }

    /// Removes a lane's consumer, if there is one.
    pub async fn remove(&self, id: &SubscriptionId) -> Result<(), Unavailable> {
        let objects = self.broker.objects()?;
        let remove = async {
            match find(&objects.events, id).await? {
                Some(_) => remove(&objects.events, id).await,
                None => Ok(()),
            }
        };
        self.broker.while_connected(REMOVING, remove).await
    }
}

impl Feed {
    /// The next message.
    pub async fn next(&mut self) -> Result<Delivery, FeedError> {
        match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.read().await,
        }
    }

    /// Reads the next message, if it has come, ahead of the next call of [`Feed::next`].
    pub fn read_ahead(&mut self) {
        if self.ahead.is_none() {
            self.ahead = self.read().now_or_never();
        }
    }

    async fn read(&mut self) -> Result<Delivery, FeedError> {
        if let Some((sequence, backlog)) = self.passed_over.next() {
            return Ok(Delivery { sequence, event: None, backlog, acknowledgement: None });
        }
        let ConsumerMessage { sequence, event, backlog, acknowledgement } = self.messages.next().await?;
        Ok(Delivery { sequence, event: event.map(Arc::new), backlog, acknowledgement: Some(acknowledgement) })
    }
}

impl Delivery {
    /// An event that a log reader has read, with so many messages behind it.
    pub fn of_tail(event: Arc<Event>, backlog: u64) -> Self {
        Self { sequence: event.sequence, event: Some(event), backlog, acknowledgement: None }
    }

    /// Acknowledges this message and all before it; does not wait for the server. The next acknowledgement makes up for a
    /// lost one. A message of a log reader needs none.
    pub async fn acknowledge(&self) -> Result<(), Unavailable> {
        match &self.acknowledgement {
            Some(acknowledgement) => acknowledgement.send().await,
            None => Ok(()),
        }
    }
}

fn config(want: &Want<'_>, found: Option<&consumer::Info>) -> pull::Config {
    let own = [(TARGET, want.target.to_owned()), (EPOCH, want.epoch.to_string())];
    let mut metadata = own.map(|(key, value)| (key.to_owned(), value)).into();
    monitoring::complete_consumer(&mut metadata, found.map(|info| &info.config.metadata));
    pull::Config {
        durable_name: Some(want.id.to_string()),
        description: Some(format!("Pushes to {}", want.target)),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: i64::from(MAX_OUT),
        replay_policy: ReplayPolicy::Instant,
        filter_subjects: want.filters.iter().map(TypePattern::subject).collect(),
        metadata,
        ..pull::Config::default()
    }
}

/// Whether a consumer delivers the message behind the position next, and has none out.
fn stands_at(info: &consumer::Info, position: u64) -> bool {
    info.num_ack_pending == 0
        && info.delivered.stream_sequence == position
        && info.ack_floor.stream_sequence == position
}

async fn find(events: &Stream, id: &SubscriptionId) -> Result<Option<consumer::Info>, Unavailable> {
    match events.consumer_info(id.as_str()).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).during(FINDING),
    }
}

async fn remove(events: &Stream, id: &SubscriptionId) -> Result<(), Unavailable> {
    events.delete_consumer(id.as_str()).await.during(REMOVING)?;
    Ok(())
}
