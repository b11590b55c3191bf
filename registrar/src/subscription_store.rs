//! The subscriptions as they are kept, and changing one so that no concurrent change is lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use broker::Unavailable;
use broker::subscriptions::{Subscriptions, WriteError};
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

    /// Whether a subscription is small enough to be written.
    pub fn check(&self, subscription: &Subscription) -> Result<(), WriteError> {
        self.subscriptions.serialise(subscription).map(drop)
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
                Some(subscription) => self.subscriptions.put(id, &subscription, current.revision).await,
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

fn queue_of(id: &SubscriptionId) -> usize {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    usize::try_from(hasher.finish() % QUEUES as u64).unwrap_or(0)
}
