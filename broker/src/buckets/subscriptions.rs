//! The bucket `SUBSCRIPTIONS`: read and written with compare-and-set, listed, and watched.

use std::time::Duration;

use async_nats::jetstream::kv;
use async_nats::jetstream::kv::Operation;
use domain::{Subscription, SubscriptionId};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::buckets::entry;
use crate::connection::Broker;
use crate::error::{During, Unavailable};

/// How long the next entry of a listing may take to come.
const ENTRY_DEADLINE: Duration = Duration::from_secs(4);
/// What a message's headers may take, in bytes.
const HEADER_ALLOWANCE: usize = 1024;
/// What pauses, tests and requests for a redelivery, with up to 1,000 sequences, add to what is registered.
const KEPT_FOR_STATE: usize = 32 * 1024;

/// A key of the bucket with its revision and value.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The revision to expect when writing: 0 where the key has never been written.
    pub revision: u64,
    /// The subscription; `None` where there is none (any more).
    pub subscription: Option<Subscription>,
}

/// A change of a key: its value, or that it is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose subscription it is.
    pub id: SubscriptionId,
    /// The bucket's revision of this change; later ones are greater.
    pub revision: u64,
    /// The subscription now; `None`: it is gone.
    pub subscription: Option<Subscription>,
}

/// All that the bucket held at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Whatever has a greater revision is newer than this snapshot.
    pub as_of: u64,
    /// Every subscription.
    pub subscriptions: Vec<Change>,
}

/// What a write of a subscription may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// What there is, less what is kept for a change of state: so that what is registered can be paused, resumed, delivered
    /// again and tested.
    ForAttributes,
    /// All that there is.
    ForState,
}

/// Why a subscription was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else has written it since it was read: read it again.
    #[error("the subscription was changed by somebody else")]
    Conflict,
    /// It can never be written.
    #[error("all that is registered for this URL has {bytes} bytes; with this NATS server it may have {limit}")]
    TooLarge {
        /// Size of the subscription as JSON.
        bytes: usize,
        /// What the server takes, less room for headers and for changes of state.
        limit: usize,
    },
    /// JetStream does not answer as it should.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The bucket.
#[derive(Clone)]
pub struct Subscriptions {
    broker: Broker,
}

/// The changes of the bucket, beginning with what it holds.
pub struct Changes {
    watch: kv::Watch,
}

impl Subscriptions {
    /// The bucket behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Reads a subscription from the leader, so that it is no older than any write that was acknowledged.
    pub async fn get(&self, id: &SubscriptionId) -> Result<Current, Unavailable> {
        const WHAT: &str = "reading a subscription";
        let objects = self.broker.objects()?;
        let (revision, value) = entry::read(&self.broker, &objects.subscriptions, id.as_str(), WHAT).await?;
        let subscription = value.map(|value| entry::parse(&value).during(WHAT)).transpose()?;
        Ok(Current { revision, subscription })
    }

    /// Writes a subscription, if the key is still at the revision that was read.
    pub async fn put(
        &self,
        id: &SubscriptionId,
        subscription: &Subscription,
        room: Room,
        expected: u64,
    ) -> Result<(), WriteError> {
        const WHAT: &str = "writing a subscription";
        let value = self.serialise(subscription, room)?;
        let objects = self.broker.objects()?;
        let stored =
            entry::update(&self.broker, &objects.subscriptions, id.as_str(), value.into(), expected, WHAT).await?;
        stored.map(drop).ok_or(WriteError::Conflict)
    }

    /// The value that is written; an error where it is larger than the room that there is for it.
    pub fn serialise(&self, subscription: &Subscription, room: Room) -> Result<Vec<u8>, WriteError> {
        let value = serde_json::to_vec(subscription).during("writing a subscription")?;
        let kept_free = HEADER_ALLOWANCE + if room == Room::ForAttributes { KEPT_FOR_STATE } else { 0 };
        let (bytes, limit) = (value.len(), self.broker.max_message_bytes().saturating_sub(kept_free));
        if bytes > limit { Err(WriteError::TooLarge { bytes, limit }) } else { Ok(value) }
    }

    /// Removes a subscription, if the key is still at the revision that was read.
    pub async fn remove(&self, id: &SubscriptionId, expected: u64) -> Result<(), WriteError> {
        const WHAT: &str = "removing a subscription";
        let objects = self.broker.objects()?;
        let is_removed = entry::remove(&self.broker, &objects.subscriptions, id.as_str(), expected, WHAT).await?;
        if is_removed { Ok(()) } else { Err(WriteError::Conflict) }
    }

    /// All subscriptions as they are now.
    pub async fn snapshot(&self) -> Result<Snapshot, Unavailable> {
        const WHAT: &str = "listing the subscriptions";
        let objects = self.broker.objects()?;
        let bucket = &objects.subscriptions;
        let list = async {
            let state = bucket.stream.get_info().await.during(WHAT)?.state;
            let mut subscriptions = Vec::new();
            if state.messages > 0 {
                // A watch of an empty bucket never says that it is at the end.
                let mut entries = bucket.watch_with_history(">").await.during(WHAT)?;
                loop {
                    let entry = timeout(ENTRY_DEADLINE, entries.next()).await.during(WHAT)?;
                    let entry = entry.ok_or_else(|| Unavailable::new(WHAT, "the list broke off"))?.during(WHAT)?;
                    subscriptions.extend(change_of(&entry).filter(|change| change.subscription.is_some()));
                    if entry.delta == 0 {
                        break;
                    }
                }
            }
            Ok(Snapshot { as_of: state.last_sequence, subscriptions })
        };
        self.broker.while_connected(WHAT, list).await
    }

    /// What the bucket holds, and then every change.
    pub async fn changes(&self) -> Result<Changes, Unavailable> {
        let objects = self.broker.objects()?;
        const WHAT: &str = "watching the subscriptions";
        let watch = async { objects.subscriptions.watch_with_history(">").await.during(WHAT) };
        Ok(Changes { watch: self.broker.while_connected(WHAT, watch).await? })
    }
}

impl Changes {
    /// The next change. An error, or `None`, ends it: ask for the changes again.
    pub async fn next(&mut self) -> Option<Result<Change, Unavailable>> {
        loop {
            match self.watch.next().await? {
                Ok(entry) => {
                    if let Some(change) = change_of(&entry) {
                        return Some(Ok(change));
                    }
                }
                Err(error) => return Some(Err(error).during("watching the subscriptions")),
            }
        }
    }
}

/// A change out of an entry of the bucket. A value that is no subscription is logged and passed over: one key that was
/// written by hand must not stop all the others.
fn change_of(entry: &kv::Entry) -> Option<Change> {
    let id = match SubscriptionId::parse(&entry.key) {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(key = entry.key, %error, "subscription.unreadable_key");
            return None;
        }
    };
    let subscription = match entry.operation {
        Operation::Put => match entry::parse(&entry.value) {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                tracing::error!(%id, %error, "subscription.unreadable");
                return None;
            }
        },
        Operation::Delete | Operation::Purge => None,
    };
    Some(Change { id, revision: entry.revision, subscription })
}
