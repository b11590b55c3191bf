//! Which lanes there are: one per subscription, started, told of changes, and ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use broker::Unavailable;
use broker::subscriptions::{Change, Changes, Current, Snapshot, Subscriptions};
use domain::{Shard, SubscriptionId};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ownership::listing::Listing;
use crate::ownership::owned::{Owned, RunningLanes, Takeover};
use crate::shared::{Shared, Spec};
use crate::worker::Worker;

/// How often everything is listed, whatever the watch has told: so that a change that it missed is found.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the listing may take.
const LISTING_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait before the bucket is watched again after a failure.
const WATCH_RETRY: Duration = Duration::from_millis(250);
/// How long to wait before a lane whose worker died is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Starts, tells and ends the workers of lanes.
pub(crate) struct Supervisor {
    shared: Shared,
    subscriptions: Subscriptions,
    lanes: HashMap<SubscriptionId, LaneHandle>,
    workers: JoinSet<SubscriptionId>,
    names: HashMap<Id, SubscriptionId>,
    owned: watch::Receiver<Owned>,
    running: RunningLanes,
    listing: Listing,
    shutdown: CancellationToken,
}

struct LaneHandle {
    revision: u64,
    spec: watch::Sender<Spec>,
    /// Ends its worker.
    end: CancellationToken,
    /// Cuts it off.
    worker: AbortHandle,
}

impl Supervisor {
    pub(crate) fn new(
        shared: Shared,
        owned: watch::Receiver<Owned>,
        running: RunningLanes,
        listing: Listing,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            subscriptions: Subscriptions::new(shared.broker.clone()),
            shared,
            lanes: HashMap::new(),
            workers: JoinSet::new(),
            names: HashMap::new(),
            owned,
            running,
            listing,
            shutdown,
        }
    }

    /// Runs a lane for every subscription of the shards that are owned, until shutdown.
    pub(crate) async fn run(&mut self) {
        let shutdown = self.shutdown.clone();
        while !shutdown.is_cancelled() {
            if let Err(error) = self.follow().await {
                tracing::warn!(%error, "supervisor.watch_ended");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = sleep(WATCH_RETRY) => {}
                }
            }
        }
    }

    /// Follows the bucket over one connection to NATS. Returns when it is lost, or at shutdown.
    async fn follow(&mut self) -> Result<(), Unavailable> {
        let broker = self.shared.broker.clone();
        tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            () = broker.until_ready() => {}
        }
        let mut link = broker.link();
        let generation = link.borrow_and_update().generation;
        // The bucket may be another one than before: what was known is compared by value, not by revision.
        for known in self.lanes.values_mut() {
            known.revision = 0;
        }
        let mut owned = self.owned.clone();
        owned.mark_changed();
        let began = Instant::now();
        let mut changes = self.subscriptions.changes().await.inspect_err(|_| self.listing.failed(began))?;
        let mut listing = interval_at(Instant::now(), LISTING_INTERVAL);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                changed = link.changed() => {
                    if changed.is_err() || link.borrow().generation != generation {
                        return Ok(());
                    }
                }
                change = next(&mut changes) => self.apply(change?),
                Ok(()) = owned.changed() => {
                    owned.borrow_and_update();
                    self.end_what_is_others();
                    listing.reset_immediately();
                }
                _ = listing.tick() => {
                    let shutdown = self.shutdown.clone();
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        listed = self.list() => listed?,
                    }
                }
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
            }
        }
    }

    /// Ends the lanes of shards that this dispatcher does not work on any more.
    fn end_what_is_others(&mut self) {
        let owned = self.owned.borrow();
        for (id, known) in &self.lanes {
            let shard = Shard::of(id);
            if !owned.contains_key(&shard) {
                known.end.cancel();
                // One that is given up ends its request in good order. One that was lost is another dispatcher's already.
                if self.shared.lease.of(shard).has_lost_shard() {
                    known.worker.abort();
                }
            }
        }
    }

    fn is_mine(&self, id: &SubscriptionId) -> bool {
        self.owned.borrow().contains_key(&Shard::of(id))
    }

    /// Takes in the subscription of one URL, unless something newer is known.
    fn apply(&mut self, change: Change) {
        let Change { id, revision, subscription } = change;
        if !self.is_mine(&id) {
            return;
        }
        let spec: Spec = subscription.map(Arc::new);
        match self.lanes.get_mut(&id) {
            Some(known) if known.revision >= revision => {}
            Some(known) => {
                known.revision = revision;
                known.spec.send_if_modified(|had| std::mem::replace(had, spec.clone()) != spec);
            }
            None if spec.is_some() => self.start(id, revision, spec),
            None => {}
        }
    }

    /// Lists the subscriptions, and takes note of whether that can be done.
    async fn list(&mut self) -> Result<(), Unavailable> {
        let began = Instant::now();
        let listed = match timeout(LISTING_DEADLINE, self.reconcile()).await {
            Ok(listed) => listed,
            Err(_) => Err(Unavailable::new("listing the subscriptions", "it took too long")),
        };
        match listed {
            Ok(()) => self.listing.succeeded(began),
            Err(_) => self.listing.failed(began),
        }
        listed
    }

    /// Compares all subscriptions with all lanes that run, and with what was left behind.
    async fn reconcile(&mut self) -> Result<(), Unavailable> {
        let Snapshot { as_of, subscriptions } = self.subscriptions.snapshot().await?;
        let left_behind = self.shared.lanes.ids().await?;
        let subscribed: HashSet<SubscriptionId> = subscriptions.iter().map(|change| change.id.clone()).collect();
        for change in subscriptions {
            self.apply(change);
        }
        let is_running = |known: &LaneHandle| known.revision <= as_of && known.spec.borrow().is_some();
        let running = self.lanes.iter().filter(|(_, known)| is_running(known)).map(|(id, _)| id.clone());
        let idle = left_behind.into_iter().filter(|id| !self.lanes.contains_key(id) && self.is_mine(id));
        let missing: HashSet<SubscriptionId> = running.chain(idle).filter(|id| !subscribed.contains(id)).collect();
        for id in missing {
            // A list may lack what is there: unreadable, or not yet on the replica that was asked. Only what the
            // leader says is gone is cleared away.
            match self.subscriptions.get(&id).await {
                Ok(Current { subscription: None, .. }) => {}
                Ok(Current { revision, subscription }) => {
                    self.apply(Change { id, revision, subscription });
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "supervisor.subscription_unreadable");
                    continue;
                }
            }
            match self.lanes.get_mut(&id) {
                Some(known) => {
                    known.revision = as_of;
                    known.spec.send_replace(None);
                }
                None => self.start(id, as_of, None),
            }
        }
        Ok(())
    }

    /// Starts a lane's worker. One without a subscription removes what an earlier one has left, and ends.
    fn start(&mut self, id: SubscriptionId, revision: u64, spec: Spec) {
        let (sender, receiver) = watch::channel(spec);
        let end = self.shutdown.child_token();
        let worker = self.spawn(id.clone(), receiver, end.clone(), Duration::ZERO);
        self.lanes.insert(id, LaneHandle { revision, spec: sender, end, worker });
    }

    fn spawn(
        &mut self,
        id: SubscriptionId,
        spec: watch::Receiver<Spec>,
        end: CancellationToken,
        pause: Duration,
    ) -> AbortHandle {
        let shard = Shard::of(&id);
        let takeover = self.owned.borrow().get(&shard).copied().unwrap_or(Takeover::Fenced);
        self.running.began(shard);
        let shared = Shared { lease: self.shared.lease.of(shard), ..self.shared.clone() };
        let mut worker = Worker::new(id.clone(), shared, spec, end.clone(), takeover);
        let name = id.clone();
        let handle = self.workers.spawn(async move {
            tokio::select! {
                // A lane that was lost meanwhile does nothing more.
                biased;
                () = end.cancelled() => {}
                () = sleep(pause) => worker.run().await,
            }
            name
        });
        self.names.insert(handle.id(), id);
        handle
    }

    /// A worker has ended: because its subscription is gone, or because it died.
    fn ended(&mut self, ended: Result<(Id, SubscriptionId), JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(id) = self.names.remove(&task) else { return };
        self.running.ended(Shard::of(&id));
        let pause = match ended {
            Ok(_) if self.shared.lease.of(Shard::of(&id)).is_valid() => Duration::ZERO,
            Ok(_) => RESTART_PAUSE,
            Err(error) if error.is_cancelled() => Duration::ZERO,
            Err(error) => {
                tracing::error!(%id, %error, "lane.died");
                self.shared.metrics.lane_died();
                RESTART_PAUSE
            }
        };
        let is_mine = self.is_mine(&id);
        let Some(known) = self.lanes.get_mut(&id) else { return };
        if known.spec.borrow().is_none() || !is_mine {
            self.lanes.remove(&id);
            return;
        }
        // It was to end, and is wanted again.
        if known.end.is_cancelled() {
            known.end = self.shutdown.child_token();
        }
        let (spec, end) = (known.spec.subscribe(), known.end.clone());
        let worker = self.spawn(id.clone(), spec, end, pause);
        if let Some(known) = self.lanes.get_mut(&id) {
            known.worker = worker;
        }
    }

    /// Lets requests under way come to their end, for so long at most.
    pub(crate) async fn end(mut self, grace: Duration) {
        let all_ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(grace, all_ended).await.is_err() {
            tracing::warn!(lanes = self.workers.len(), "supervisor.requests_cut_off");
            self.workers.shutdown().await;
        }
    }
}

async fn next(changes: &mut Changes) -> Result<Change, Unavailable> {
    match changes.next().await {
        Some(change) => change,
        None => Err(Unavailable::new("watching the subscriptions", "the watch ended")),
    }
}
