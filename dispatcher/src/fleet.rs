//! Which lanes there are: one per subscription, started, told of changes, and ended.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use broker::attempts::AttemptLog;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::lanes::Lanes;
use broker::leases::Leases;
use broker::live::Questions;
use broker::positions::Positions;
use broker::subscriptions::{Change, Changes, Current, Snapshot, Subscriptions};
use broker::{Broker, Unavailable};
use domain::{SealingKeys, Shard, Subscription, SubscriptionId};
use spans::Tracer;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::backoff::Backoff;
use crate::extent::{self, Extent};
use crate::journal::Journal;
use crate::metrics::{Metrics, survey};
use crate::permits::Permits;
use crate::push::Pusher;
use crate::replays::Replays;
use crate::sabotage;
use crate::standings::Standings;
use crate::tail::Tail;
use crate::tenure::{Lease, Owned, Running, Takeover, Tenure};
use crate::transactions::Transactions;
use crate::worker::Worker;

/// How often everything is listed, whatever the watch has told: so that a change that it missed is found.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the listing may take.
const LISTING_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait before the bucket is watched again after a failure.
const WATCH_RETRY: Duration = Duration::from_millis(250);
/// How long to wait before a lane whose worker died is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How long giving up everything at the end may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(3);
/// How many lanes may be setting themselves up at a time: nats-server does not like storms of new consumers.
const SETTING_UP: usize = 32;

/// What the dispatcher works with.
pub struct Dispatcher {
    /// Where everything is.
    pub broker: Broker,
    /// Who makes the requests.
    pub pusher: Pusher,
    /// What opens the secrets of subscriptions.
    pub secret_keys: Option<SealingKeys>,
    /// How many deliveries may begin at a time.
    pub max_deliveries: usize,
    /// How long requests under way may take to end when the dispatcher stops.
    pub grace: Duration,
    /// How long after a dispatcher's death, at most, others wait before they take over its work.
    pub lease: Duration,
    /// What it counts.
    pub metrics: Metrics,
    /// Begins a span for each attempt.
    pub tracer: Tracer,
}

/// What every lane's worker shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) log: EventLog,
    pub(crate) lanes: Lanes,
    pub(crate) feeds: Feeds,
    pub(crate) pusher: Pusher,
    pub(crate) secret_keys: Option<SealingKeys>,
    pub(crate) backoff: Backoff,
    pub(crate) permits: Permits,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) setting_up: Arc<Semaphore>,
    pub(crate) extent: watch::Receiver<Extent>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) lease: Lease,
    pub(crate) tail: Arc<Tail>,
    pub(crate) replays: Arc<Replays>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
}

/// What a lane is to deliver; `None`: nothing any more.
pub(crate) type Asked = Option<Arc<Subscription>>;

struct Fleet {
    shared: Shared,
    subscriptions: Subscriptions,
    lanes: HashMap<SubscriptionId, Known>,
    workers: JoinSet<SubscriptionId>,
    names: HashMap<Id, SubscriptionId>,
    owned: watch::Receiver<Owned>,
    running: Running,
    shutdown: CancellationToken,
}

struct Known {
    revision: u64,
    asked: watch::Sender<Asked>,
    /// Ends its worker.
    end: CancellationToken,
}

/// Runs a lane for every subscription until `shutdown`; then lets requests under way end.
pub async fn run(dispatcher: Dispatcher, shutdown: CancellationToken) {
    sabotage::declare();
    let Dispatcher { broker, pusher, secret_keys, max_deliveries, grace, lease: ttl, metrics, tracer } = dispatcher;
    let (lease, running) = (Lease::new(), Running::default());
    let (mut tenure, owned) = Tenure::new(Leases::new(broker.clone()), ttl, lease.clone(), running.clone());
    metrics.shows(owned.clone(), lease.clone());
    let log = EventLog::new(broker.clone());
    let attempts = Arc::new(Attempts::new(AttemptLog::new(broker.clone())));
    let (extent_sender, extent) = watch::channel(Extent::default());
    let (tail, replays) = (Tail::new(), Replays::new(broker.clone()));
    let standings = Standings { tail: tail.clone(), replays: replays.clone() };
    let journal = Arc::new(Journal::new(Positions::new(broker.clone())));
    let shared = Shared {
        permits: Permits::new(max_deliveries),
        transactions: Arc::new(Transactions::new(log.clone())),
        log,
        lanes: Lanes::new(broker.clone()),
        feeds: Feeds::new(broker.clone()),
        pusher,
        secret_keys,
        backoff: Backoff::default(),
        setting_up: Arc::new(Semaphore::new(SETTING_UP)),
        extent,
        attempts: attempts.clone(),
        dead_letters: DeadLetters::new(broker.clone()),
        lease,
        tail: tail.clone(),
        replays,
        journal: journal.clone(),
        metrics: metrics.clone(),
        tracer,
        broker: broker.clone(),
    };
    let fleet_broker = broker.clone();
    let pusher = shared.pusher.clone();
    let following_extent = extent::follow(shared.log.clone(), extent_sender);
    let (tail_log, tail_extent) = (shared.log.clone(), shared.extent.clone());
    let reading_tail = tail.keep_reading(&fleet_broker, &tail_log, tail_extent);
    let answering_for = owned.clone();
    let surveying = survey::survey(metrics, shared.feeds.clone(), standings.clone());
    let mut fleet = Fleet {
        shared,
        subscriptions: Subscriptions::new(broker),
        lanes: HashMap::new(),
        workers: JoinSet::new(),
        names: HashMap::new(),
        owned,
        running,
        shutdown: shutdown.clone(),
    };
    let following = async {
        while !shutdown.is_cancelled() {
            if let Err(error) = fleet.follow().await {
                tracing::warn!(%error, "fleet.watch_ended");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = sleep(WATCH_RETRY) => {}
                }
            }
        }
    };
    let keeping = async {
        fleet_broker.until_ready().await;
        tenure.keep(&shutdown).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        () = following => {}
        never = keeping => match never {},
        never = following_extent => match never {},
        never = reading_tail => match never {},
        never = answer_questions(&fleet_broker, &standings, answering_for) => match never {},
        never = async { tokio::join!(attempts.keep_writing(), journal.keep_writing()).0 } => match never {},
        never = pusher.close_unused() => match never {},
        never = surveying => match never {},
    }
    // While requests under way come to their end, the lease must not.
    let ended = CancellationToken::new();
    tokio::join!(
        async {
            fleet.end(grace).await;
            ended.cancel();
        },
        tenure.keep_alive(&ended),
    );
    tenure.leave(LEAVE_DEADLINE).await;
    attempts.write().await;
    journal.write().await;
}

/// Tells whoever asks how far a lane has come that is read for together with others. Of the rest their consumers tell: that
/// too is said at once, by whoever works on them, so that nobody waits for an answer.
async fn answer_questions(broker: &Broker, standings: &Standings, owned: watch::Receiver<Owned>) -> Infallible {
    broker.until_ready().await;
    loop {
        match Questions::listen(broker).await {
            Ok(mut questions) => {
                while let Some(question) = questions.next().await {
                    let live = standings.of(&question.id);
                    let is_ours = owned.borrow().contains_key(&Shard::of(&question.id));
                    if live.is_some() || is_ours {
                        questions.answer(question, live).await;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "fleet.answers_no_questions"),
        }
        sleep(WATCH_RETRY).await;
    }
}

impl Fleet {
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
        let mut changes = self.subscriptions.changes().await?;
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
                        listed = timeout(LISTING_DEADLINE, self.reconcile()) => match listed {
                            Ok(listed) => listed?,
                            Err(_) => return Err(Unavailable::new("listing the subscriptions", "it took too long")),
                        },
                    }
                }
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
            }
        }
    }

    /// Ends the lanes of shards that this dispatcher does not work on any more.
    fn end_what_is_others(&mut self) {
        let owned = self.owned.borrow();
        for (_, known) in self.lanes.iter().filter(|(id, _)| !owned.contains_key(&Shard::of(id))) {
            known.end.cancel();
        }
    }

    fn is_mine(&self, id: &SubscriptionId) -> bool {
        self.owned.borrow().contains_key(&Shard::of(id))
    }

    /// Takes in what is asked for one URL, unless something newer is known.
    fn apply(&mut self, change: Change) {
        let Change { id, revision, subscription } = change;
        if !self.is_mine(&id) {
            return;
        }
        let asked: Asked = subscription.map(Arc::new);
        match self.lanes.get_mut(&id) {
            Some(known) if known.revision >= revision => {}
            Some(known) => {
                known.revision = revision;
                known.asked.send_if_modified(|had| std::mem::replace(had, asked.clone()) != asked);
            }
            None if asked.is_some() => self.start(id, revision, asked),
            None => {}
        }
    }

    /// Compares everything that is asked for with everything that runs, and with what was left behind.
    async fn reconcile(&mut self) -> Result<(), Unavailable> {
        let Snapshot { as_of, subscriptions } = self.subscriptions.snapshot().await?;
        let left_behind = self.shared.lanes.ids().await?;
        let asked_for: HashSet<SubscriptionId> = subscriptions.iter().map(|change| change.id.clone()).collect();
        for change in subscriptions {
            self.apply(change);
        }
        let is_running = |known: &Known| known.revision <= as_of && known.asked.borrow().is_some();
        let running = self.lanes.iter().filter(|(_, known)| is_running(known)).map(|(id, _)| id.clone());
        let idle = left_behind.into_iter().filter(|id| !self.lanes.contains_key(id) && self.is_mine(id));
        let missing: HashSet<SubscriptionId> = running.chain(idle).filter(|id| !asked_for.contains(id)).collect();
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
                    tracing::warn!(%id, %error, "fleet.subscription_unreadable");
                    continue;
                }
            }
            match self.lanes.get_mut(&id) {
                Some(known) => {
                    known.revision = as_of;
                    known.asked.send_replace(None);
                }
                None => self.start(id, as_of, None),
            }
        }
        Ok(())
    }

    /// Starts a lane's worker. One with nothing asked for removes what an earlier one has left, and ends.
    fn start(&mut self, id: SubscriptionId, revision: u64, asked: Asked) {
        let (sender, receiver) = watch::channel(asked);
        let end = self.shutdown.child_token();
        self.spawn(id.clone(), receiver, end.clone(), Duration::ZERO);
        self.lanes.insert(id, Known { revision, asked: sender, end });
    }

    fn spawn(&mut self, id: SubscriptionId, asked: watch::Receiver<Asked>, end: CancellationToken, pause: Duration) {
        let shard = Shard::of(&id);
        let takeover = self.owned.borrow().get(&shard).copied().unwrap_or(Takeover::Fenced);
        self.running.began(shard);
        let mut worker = Worker::new(id.clone(), self.shared.clone(), asked, end, takeover);
        let name = id.clone();
        let handle = self.workers.spawn(async move {
            sleep(pause).await;
            worker.run().await;
            name
        });
        self.names.insert(handle.id(), id);
    }

    /// A worker has ended: because nothing is asked of it, or because it died.
    fn ended(&mut self, ended: Result<(Id, SubscriptionId), JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(id) = self.names.remove(&task) else { return };
        self.running.ended(Shard::of(&id));
        let pause = match ended {
            Ok(_) if self.shared.lease.is_valid() => Duration::ZERO,
            Ok(_) => RESTART_PAUSE,
            Err(error) => {
                tracing::error!(%id, %error, "lane.died");
                self.shared.metrics.lane_died();
                RESTART_PAUSE
            }
        };
        let is_mine = self.is_mine(&id);
        let Some(known) = self.lanes.get_mut(&id) else { return };
        if known.asked.borrow().is_none() || !is_mine {
            self.lanes.remove(&id);
            return;
        }
        // It was to end, and is wanted again.
        if known.end.is_cancelled() {
            known.end = self.shutdown.child_token();
        }
        let (asked, end) = (known.asked.subscribe(), known.end.clone());
        self.spawn(id, asked, end, pause);
    }

    async fn end(mut self, grace: Duration) {
        let all_ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(grace, all_ended).await.is_err() {
            tracing::warn!(lanes = self.workers.len(), "fleet.requests_cut_off");
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
