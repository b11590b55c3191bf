//! The subscriptions as they are kept, and changing one so that no concurrent change is lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use broker::Unavailable;
use broker::subscriptions::{Room, Subscriptions, WriteError};
use domain::{Subscription, SubscriptionId, TargetUrl};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Changes within this process wait for each other rather than fight; compare-and-set is for other processes.
const QUEUES: usize = 64;
/// How often a change is tried again because another process changed the same subscription.
const MAX_CONFLICTS: u32 = 100;
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);
/// How long a change waits for the others of this process.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// The subscriptions as they are kept: the one place where they are changed.
pub struct SubscriptionStore {
    subscriptions: Subscriptions,
    queues: [Mutex<()>; QUEUES],
}

impl SubscriptionStore {
    /// A store in the bucket.
    pub fn new(subscriptions: Subscriptions) -> Self {
        Self { subscriptions, queues: std::array::from_fn(|_| Mutex::new(())) }
    }

    /// The subscription that is kept under an id now.
    pub async fn get(&self, id: &SubscriptionId) -> Result<Option<Subscription>, Unavailable> {
        Ok(self.subscriptions.get(id).await?.subscription)
    }

    /// The subscription that a URL means, and the URL as that has it: the one of this very spelling where there is one, from a
    /// build that told spellings apart; otherwise that of the normalised URL, be it there or to be made.
    pub async fn of_url(&self, url: &TargetUrl) -> Result<(SubscriptionId, TargetUrl), Unavailable> {
        let normalised = url.normalised();
        if normalised != *url {
            let id = url.subscription_id();
            if self.get(&id).await?.is_some() {
                return Ok((id, url.clone()));
            }
        }
        Ok((normalised.subscription_id(), normalised))
    }

    /// All subscriptions that are kept now.
    pub async fn list(&self) -> Result<Vec<(SubscriptionId, Subscription)>, Unavailable> {
        let all = self.subscriptions.snapshot().await?.subscriptions;
        Ok(all.into_iter().filter_map(|change| Some((change.id, change.subscription?))).collect())
    }

    /// Whether a subscription is small enough to be written in the place of what there is.
    pub fn check(&self, had: Option<&Subscription>, has: &Subscription) -> Result<(), WriteError> {
        self.subscriptions.serialise(has, room_for(had, has)).map(drop)
    }

    /// Marks a subscription as removed that the bucket has lost. Answers whether it had: nothing tells of it.
    pub async fn forget_lost(&self, id: &SubscriptionId) -> Result<bool, WriteError> {
        let current = self.subscriptions.get(id).await?;
        let is_lost = current.revision == 0 && current.subscription.is_none();
        if is_lost {
            self.subscriptions.remove(id, current.revision).await?;
        }
        Ok(is_lost)
    }

    /// Reads a subscription, lets `change` have it, and writes what it answers (`None`: nothing is left, the key goes).
    /// `change` may be called several times; the last one counts.
    pub async fn change(
        &self,
        id: &SubscriptionId,
        mut change: impl FnMut(Option<Subscription>) -> Option<Subscription>,
    ) -> Result<(), WriteError> {
        let turn = timeout(LONGEST_WAIT, self.queues[queue_of(id)].lock()).await;
        let _turn = turn.map_err(|_| Unavailable::new("writing a subscription", "others wait for JetStream"))?;
        for _ in 0..MAX_CONFLICTS {
            let current = self.subscriptions.get(id).await?;
            let had = current.subscription.clone();
            let written = match change(current.subscription) {
                has if has == had => Ok(()),
                Some(subscription) => {
                    let room = room_for(had.as_ref(), &subscription);
                    self.subscriptions.put(id, &subscription, room, current.revision).await
                }
                None => self.subscriptions.remove(id, current.revision).await,
            };
            match written {
                Err(WriteError::Conflict) => tokio::time::sleep(CONFLICT_PAUSE).await,
                result => return result,
            }
        }
        Err(Unavailable::new("writing a subscription", "it is being changed by too many others").into())
    }
}

/// What a subscription may fill in the place of the one before: what asks for nothing more than that has all the room.
fn room_for(had: Option<&Subscription>, has: &Subscription) -> Room {
    let asks_for_no_more = had.is_some_and(|had| {
        (&had.url, &had.group, &had.delivery) == (&has.url, &has.group, &has.delivery)
            && had.secrets == has.secrets
            && has.entries.iter().all(|(pattern, entry)| had.entries.get(pattern) == Some(entry))
    });
    if asks_for_no_more { Room::ForState } else { Room::ForAttributes }
}

fn queue_of(id: &SubscriptionId) -> usize {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    usize::try_from(hasher.finish() % QUEUES as u64).unwrap_or(0)
}
