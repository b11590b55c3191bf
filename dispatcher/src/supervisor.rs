//! Which lanes there are: one per subscription, started, told of changes, and ended.
//!
//! `registry` reads the bucket, and says what stands there. However long that takes, shards that are won or lost, and workers that
//! end, are heard of at once.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use broker::Unavailable;
use broker::subscriptions::{Change, Current, Snapshot, Subscriptions};
use domain::{Shard, SubscriptionId};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ownership::listing::Listing;
use crate::ownership::owned::{Owned, RunningLanes, Takeover};
use crate::shared::{Shared, Spec};
use crate::worker::{Begins, Worker};

mod registry;

use registry::{Listed, News, Registry};

/// How much that was read from the bucket may wait.
const NEWS: usize = 64;
/// How many subscriptions that a listing lacks are looked up at a time.
const LOOK_UPS: usize = 16;
/// How long to wait before a lane whose worker died is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Starts, tells and ends the workers of lanes.
pub(crate) struct Supervisor {
    shared: Shared,
    subscriptions: Subscriptions,
    lanes: HashMap<SubscriptionId, LaneHandle>,
    /// The revisions of what has changed since the last listing: that may hold what was there before.
    changed: HashMap<SubscriptionId, u64>,
    /// Lanes whose subscriptions are gone, and were not removed.
    lost: HashSet<SubscriptionId>,
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

/// What the leader says of a subscription that a listing lacked.
struct LookedUp {
    id: SubscriptionId,
    /// Of the listing.
    as_of: u64,
    current: Result<Current, Unavailable>,
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
            changed: HashMap::new(),
            lost: HashSet::new(),
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
        let registry = Registry {
            broker: self.shared.broker.clone(),
            subscriptions: self.subscriptions.clone(),
            lanes: self.shared.lanes.clone(),
            listing: self.listing.clone(),
        };
        let (asked, (sender, mut news)) = (Notify::new(), mpsc::channel(NEWS));
        let mut telling = pin!(registry.tell(sender, &asked));
        let (shutdown, mut owned) = (self.shutdown.clone(), self.owned.clone());
        let mut looking_up: BoxStream<'static, LookedUp> = stream::empty().boxed();
        loop {
            tokio::select! {
                // What is lost ends before anything begins.
                biased;
                () = shutdown.cancelled() => return,
                Ok(()) = owned.changed() => {
                    owned.borrow_and_update();
                    self.end_what_is_others();
                    asked.notify_one();
                }
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                Some(heard) = news.recv() => {
                    if let Some(missing) = self.take_in(heard) {
                        looking_up = missing;
                    }
                }
                Some(looked_up) = looking_up.next() => self.looked_up(looked_up),
                // It does not end while it is listened to.
                () = &mut telling => return,
            }
        }
    }

    /// Takes in what stands in the bucket. Answers what is to be looked up, where all of it was listed.
    fn take_in(&mut self, news: News) -> Option<BoxStream<'static, LookedUp>> {
        match news {
            News::Anew => {
                self.changed.clear();
                self.lanes.values_mut().for_each(|known| known.revision = 0);
                None
            }
            News::Change(change) => {
                self.changed.insert(change.id.clone(), change.revision);
                self.apply(*change);
                None
            }
            News::Listed(listed) => Some(self.compare(listed)),
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
        if !self.is_mine(&id) || self.changed.get(&id).is_some_and(|changed| *changed > revision) {
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

    /// Compares all subscriptions with all lanes that run, and with what was left behind. Answers what the list lacks: it is
    /// looked up.
    fn compare(&mut self, listed: Listed) -> BoxStream<'static, LookedUp> {
        let Listed { began, snapshot: Snapshot { as_of, subscriptions }, with_state } = listed;
        let subscribed: HashSet<SubscriptionId> = subscriptions.iter().map(|change| change.id.clone()).collect();
        for change in subscriptions {
            self.apply(change);
        }
        self.changed.retain(|_, revision| *revision > as_of);
        let with_state: HashSet<SubscriptionId> = with_state.into_iter().collect();
        self.keep_lost(|id| !subscribed.contains(id) && with_state.contains(id));
        let is_running = |known: &LaneHandle| known.revision <= as_of && known.spec.borrow().is_some();
        let running = self.lanes.iter().filter(|(_, known)| is_running(known)).map(|(id, _)| id.clone());
        let idle = with_state.into_iter().filter(|id| !self.lanes.contains_key(id) && self.is_mine(id));
        let missing: HashSet<SubscriptionId> = running.chain(idle).filter(|id| !subscribed.contains(id)).collect();
        self.listing.succeeded(began);
        let subscriptions = self.subscriptions.clone();
        let look_up = move |id: SubscriptionId| {
            let subscriptions = subscriptions.clone();
            async move { LookedUp { current: subscriptions.get(&id).await, id, as_of } }
        };
        stream::iter(missing).map(look_up).buffer_unordered(LOOK_UPS).boxed()
    }

    /// Takes in what the leader says of a subscription that a list lacked: it may be unreadable, or not yet on the replica
    /// that was asked. Only what the leader says was removed is cleared away.
    fn looked_up(&mut self, looked_up: LookedUp) {
        let LookedUp { id, as_of, current } = looked_up;
        match current {
            // Where one is removed, something marks that until the lane is long gone: the bucket has lost this one.
            Ok(Current { subscription: None, revision: 0 }) => return self.is_lost(id),
            Ok(Current { subscription: None, .. }) => {}
            Ok(Current { revision, subscription }) => return self.apply(Change { id, revision, subscription }),
            Err(error) => return tracing::warn!(%id, %error, "supervisor.subscription_unreadable"),
        }
        let is_mine = self.is_mine(&id);
        self.keep_lost(|lost| *lost != id);
        match self.lanes.get_mut(&id) {
            // It may have been registered again since.
            Some(known) if known.revision > as_of => {}
            Some(known) => {
                known.revision = as_of;
                known.spec.send_replace(None);
            }
            None if is_mine => self.start(id, as_of, None),
            None => {}
        }
    }

    /// The subscription of a lane is gone, and nobody has removed it. The lane goes on where it runs, and stays where it does not:
    /// it knows how far it was, for when the URL is registered again.
    fn is_lost(&mut self, id: SubscriptionId) {
        let is_registered_again = self.changed.contains_key(&id);
        if !self.is_mine(&id) || is_registered_again || self.lost.contains(&id) {
            return;
        }
        tracing::error!(%id, runs = self.lanes.contains_key(&id), "subscription.lost");
        self.lost.insert(id);
        self.shared.metrics.subscriptions_lost(self.lost.len());
    }

    /// Forgets those lost subscriptions of which this is not true, and those of others.
    fn keep_lost(&mut self, is_still: impl Fn(&SubscriptionId) -> bool) {
        let owned = self.owned.borrow();
        self.lost.retain(|id| is_still(id) && owned.contains_key(&Shard::of(id)));
        self.shared.metrics.subscriptions_lost(self.lost.len());
    }

    /// Starts a lane's worker. One without a subscription removes what an earlier one has left, and ends.
    fn start(&mut self, id: SubscriptionId, revision: u64, spec: Spec) {
        let (sender, receiver) = watch::channel(spec);
        let end = self.shutdown.child_token();
        let takeover = self.owned.borrow().get(&Shard::of(&id)).cloned();
        let begins = Begins::First(takeover.unwrap_or(Takeover::Fenced { from: None }));
        let worker = self.spawn(id.clone(), (receiver, begins), end.clone(), Duration::ZERO);
        self.lanes.insert(id, LaneHandle { revision, spec: sender, end, worker });
    }

    fn spawn(
        &mut self,
        id: SubscriptionId,
        (spec, begins): (watch::Receiver<Spec>, Begins),
        end: CancellationToken,
        pause: Duration,
    ) -> AbortHandle {
        let shard = Shard::of(&id);
        self.running.began(shard);
        let shared = Shared { lease: self.shared.lease.of(shard), ..self.shared.clone() };
        let mut worker = Worker::new(id.clone(), shared, spec, end.clone(), begins);
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
        let takeover = self.owned.borrow().get(&Shard::of(&id)).cloned();
        let Some(known) = self.lanes.get_mut(&id) else { return };
        let Some(takeover) = takeover.filter(|_| known.spec.borrow().is_some()) else {
            if let Some(known) = self.lanes.remove(&id) {
                // A listing that is under way may still hold it.
                let changed = self.changed.entry(id).or_insert(known.revision);
                *changed = known.revision.max(*changed);
            }
            return;
        };
        // It was to end, and is wanted again.
        if known.end.is_cancelled() {
            known.end = self.shutdown.child_token();
        }
        let (spec, end) = (known.spec.subscribe(), known.end.clone());
        let worker = self.spawn(id.clone(), (spec, Begins::Again(takeover)), end, pause);
        if let Some(known) = self.lanes.get_mut(&id) {
            known.worker = worker;
        }
    }

    /// Lets requests under way come to their end, for so long at most. Shards in which no lane runs any more are told of.
    pub(crate) async fn end(mut self, grace: Duration) {
        let all_ended = async {
            while let Some(ended) = self.workers.join_next_with_id().await {
                let task = ended.map_or_else(|error| error.id(), |(task, _)| task);
                if let Some(id) = self.names.remove(&task) {
                    self.running.ended(Shard::of(&id));
                }
            }
        };
        if timeout(grace, all_ended).await.is_err() {
            tracing::warn!(lanes = self.workers.len(), "supervisor.requests_cut_off");
            self.workers.shutdown().await;
        }
    }
}
