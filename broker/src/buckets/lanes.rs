//! The bucket `LANES`: how far each URL's deliveries have come.

use std::time::Duration;

use domain::log_epoch::{LogEpoch, Mark};
use domain::{Lane, SubscriptionId};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use tokio::time::timeout;

use crate::buckets::entry;
use crate::connection::Broker;
use crate::error::{During, Unavailable};

/// How long listing the keys may take.
const LISTING_DEADLINE: Duration = Duration::from_secs(10);

/// How long the next entry of a listing may take to come.
const ENTRY_DEADLINE: Duration = Duration::from_secs(4);

/// Of a lane, what it remembers of the log.
#[derive(Deserialize)]
struct Marked {
    #[serde(default)]
    log_epoch: Option<LogEpoch>,
    #[serde(default)]
    mark: Option<Mark>,
}

/// The bucket.
#[derive(Clone)]
pub struct Lanes {
    broker: Broker,
}

impl Lanes {
    /// The bucket behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// A lane's state as it was written last, if it was, and its revision. Asked of the leader.
    pub async fn get(&self, id: &SubscriptionId) -> Result<(u64, Option<Lane>), Unavailable> {
        const WHAT: &str = "reading a lane's state";
        let objects = self.broker.objects()?;
        let (revision, value) = entry::read(&self.broker, &objects.lanes, id.as_str(), WHAT).await?;
        Ok((revision, value.map(|value| entry::parse(&value).during(WHAT)).transpose()?))
    }

    /// Writes a lane's state, if it is still at the revision that was read; answers the new one when it is stored.
    /// `None`: somebody else has written it.
    pub async fn put(&self, id: &SubscriptionId, lane: &Lane, revision: u64) -> Result<Option<u64>, Unavailable> {
        const WHAT: &str = "writing a lane's state";
        let value = serde_json::to_vec(lane).during(WHAT)?;
        let objects = self.broker.objects()?;
        entry::update(&self.broker, &objects.lanes, id.as_str(), value.into(), revision, WHAT).await
    }

    /// What identifies the newest event of each lane that was written in an epoch of the log. What cannot be read is left out.
    pub async fn marks(&self, epoch: &LogEpoch) -> Result<Vec<Mark>, Unavailable> {
        const WHAT: &str = "reading the lanes' marks";
        let objects = self.broker.objects()?;
        let read = async {
            if objects.lanes.stream.get_info().await.during(WHAT)?.state.messages == 0 {
                // A watch of an empty bucket never says that it is at the end.
                return Ok(Vec::new());
            }
            let (mut marks, mut entries) = (Vec::new(), objects.lanes.watch_with_history(">").await.during(WHAT)?);
            loop {
                let entry = timeout(ENTRY_DEADLINE, entries.next()).await.during(WHAT)?;
                let entry = entry.ok_or_else(|| Unavailable::new(WHAT, "the list broke off"))?.during(WHAT)?;
                if let Ok(Marked { log_epoch: Some(of), mark: Some(mark) }) = entry::parse(&entry.value)
                    && of == *epoch
                {
                    marks.push(mark);
                }
                if entry.delta == 0 {
                    return Ok(marks);
                }
            }
        };
        self.broker.while_connected(WHAT, read).await
    }

    /// The revision of a lane's state, if there is one, readable or not. Asked of the leader.
    pub async fn revision(&self, id: &SubscriptionId) -> Result<Option<u64>, Unavailable> {
        let objects = self.broker.objects()?;
        let (revision, value) =
            entry::read(&self.broker, &objects.lanes, id.as_str(), "reading a lane's state").await?;
        Ok(value.map(|_| revision))
    }

    /// Removes a lane's state, if it is still at the revision that was read. Answers whether it was.
    pub async fn remove(&self, id: &SubscriptionId, revision: u64) -> Result<bool, Unavailable> {
        let objects = self.broker.objects()?;
        entry::remove(&self.broker, &objects.lanes, id.as_str(), revision, "removing a lane's state").await
    }

    /// The ids of all lanes that have a state.
    pub async fn ids(&self) -> Result<Vec<SubscriptionId>, Unavailable> {
        const WHAT: &str = "listing the lanes";
        let objects = self.broker.objects()?;
        let keys = async { objects.lanes.keys().await.during(WHAT)?.try_collect().await.during(WHAT) };
        let keys = async { timeout(LISTING_DEADLINE, keys).await.during(WHAT)? };
        let keys: Vec<String> = self.broker.while_connected(WHAT, keys).await?;
        Ok(keys.iter().filter_map(|key| SubscriptionId::parse(key).ok()).collect())
    }
}
