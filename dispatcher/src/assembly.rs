//! The dispatcher's parts, put together and run.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use broker::Broker;
use broker::attempts::AttemptLog;
use broker::dead_letters::DeadLetters;
use broker::event_log::EventLog;
use broker::feed::Feeds;
use broker::lanes::Lanes;
use broker::leases::Leases;
use broker::live::Questions;
use broker::positions::Positions;
use domain::{SealingKeys, Shard};
use spans::Tracer;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::attempts::Attempts;
use crate::failpoints;
use crate::log_watch::LogWatch;
use crate::metrics::{Metrics, survey};
use crate::ownership::lease::Lease;
use crate::ownership::listing::Listing;
use crate::ownership::owned::{Owned, RunningLanes};
use crate::ownership::shard_ownership::{KeptUntil, Names, ShardOwnership};
use crate::push::backoff::Backoff;
use crate::push::permits::Permits;
use crate::push::target_client::Pusher;
use crate::shared::Shared;
use crate::source::known_log::KnownLog;
use crate::source::log_bounds::{self, KnownBounds};
use crate::source::position_log::PositionLog;
use crate::source::shared_catch_up::SharedCatchUp;
use crate::source::standings::Standings;
use crate::source::tail::Tail;
use crate::source::transactions::Transactions;
use crate::supervisor::Supervisor;

/// How long each thing that is done at the end may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(3);
/// How long to wait before questions are listened for again after a failure.
const LISTEN_RETRY: Duration = Duration::from_millis(250);
/// How many lanes may be setting themselves up at a time: nats-server does not like storms of new consumers.
const SETTING_UP: usize = 32;

/// What the dispatcher works with.
#[derive(Clone)]
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

/// Runs a lane for every subscription until `shutdown`; then lets requests under way end. A dispatcher whose name is of no use
/// any more, as the bucket `LEASES` takes nothing under it, begins anew under another one.
pub async fn run(dispatcher: Dispatcher, shutdown: CancellationToken) {
    failpoints::declare();
    let mut names = Names { now: Uuid::now_v7().to_string(), before: BTreeSet::new() };
    while run_as(dispatcher.clone(), &names, shutdown.child_token()).await == KeptUntil::Refused
        && !shutdown.is_cancelled()
    {
        tracing::error!(name = names.now, "ownership.begins_anew");
        names.before.insert(std::mem::replace(&mut names.now, Uuid::now_v7().to_string()));
    }
}

async fn run_as(dispatcher: Dispatcher, names: &Names, shutdown: CancellationToken) -> KeptUntil {
    let kept_until = OnceLock::new();
    let (lease, running) = (Lease::new(), RunningLanes::default());
    let leases = Leases::new(dispatcher.broker.clone());
    let listing = Listing::default();
    let positions = PositionLog::new(Positions::new(dispatcher.broker.clone()), names.now.clone());
    let (ownership, owned) =
        ShardOwnership::new(leases, (names.clone(), dispatcher.lease), lease.clone(), running.clone(), listing.clone());
    dispatcher.metrics.shows(owned.clone(), lease.clone());
    let log_bounds_sender = Arc::new(watch::Sender::new(KnownBounds::default()));
    let log_bounds = log_bounds_sender.subscribe();
    let grace = dispatcher.grace;
    let shared = shared(dispatcher, positions, lease, &log_bounds_sender);
    let Shared { broker, log, tail, attempts, position_log, log_watch, known_log, .. } = shared.clone();
    let standings = Standings { tail: tail.clone(), shared_catch_up: shared.shared_catch_up.clone() };
    let owned_shards = owned.clone();
    let surveying = survey::survey(shared.metrics.clone(), shared.feeds.clone(), standings.clone());
    let pusher = shared.pusher.clone();
    let mut supervisor = Supervisor::new(shared, owned.clone(), running, listing, shutdown.clone());
    let keeping = async {
        broker.until_ready().await;
        let _ = kept_until.set(ownership.keep(&shutdown).await);
        // Lanes end as at a shutdown.
        shutdown.cancel();
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        () = supervisor.run() => {}
        never = keeping => match never {},
        never = log_bounds::follow(log.clone(), log_bounds_sender) => match never {},
        never = log_watch.keep_looking() => match never {},
        never = log_watch.keep_scanning(&owned_shards) => match never {},
        never = tail.keep_reading(&broker, &log, &known_log, log_bounds, &*log_watch) => match never {},
        never = answer_questions(&broker, &standings, owned) => match never {},
        never = async { tokio::join!(attempts.keep_writing(), position_log.keep_writing()).0 } => match never {},
        never = pusher.close_unused() => match never {},
        never = surveying => match never {},
    }
    // While requests under way come to their end, the lease must not; and shards that are done with are handed over.
    let ended = CancellationToken::new();
    let ending = async {
        supervisor.end(grace).await;
        ended.cancel();
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(ending, ownership.hand_over(&ended)) } => {}
        never = position_log.keep_writing() => match never {},
    }
    // Of lanes that were cut off, others read it. What a connection that hangs does not take is lost, as where there is none.
    let _ = timeout(LEAVE_DEADLINE, position_log.write()).await;
    ownership.leave(LEAVE_DEADLINE).await;
    let _ = timeout(LEAVE_DEADLINE, attempts.write()).await;
    kept_until.get().copied().unwrap_or(KeptUntil::Stopped)
}

fn shared(
    dispatcher: Dispatcher,
    position_log: PositionLog,
    lease: Lease,
    log_bounds: &Arc<watch::Sender<KnownBounds>>,
) -> Shared {
    let Dispatcher { broker, pusher, secret_keys, max_deliveries, metrics, tracer, .. } = dispatcher;
    let (log, tail) = (EventLog::new(broker.clone()), Tail::new());
    let known_log = Arc::new(KnownLog::default());
    let told = (known_log.clone(), log_bounds.clone());
    let log_watch = LogWatch::new(&broker, log.clone(), tail.clone(), metrics.clone(), told);
    Shared {
        known_log,
        log_watch,
        permits: Permits::new(max_deliveries),
        transactions: Arc::new(Transactions::new(log.clone())),
        log,
        lanes: Lanes::new(broker.clone()),
        feeds: Feeds::new(broker.clone()),
        pusher,
        secret_keys,
        backoff: Backoff::default(),
        setting_up: Arc::new(Semaphore::new(SETTING_UP)),
        log_bounds: log_bounds.subscribe(),
        attempts: Arc::new(Attempts::new(AttemptLog::new(broker.clone()))),
        dead_letters: DeadLetters::new(broker.clone()),
        lease,
        tail,
        shared_catch_up: SharedCatchUp::new(broker.clone()),
        position_log: Arc::new(position_log),
        metrics,
        tracer,
        broker,
    }
}

/// Answers how far a lane has come that is read for together with others. Of the other lanes their consumers tell: the
/// dispatcher that works on them says so at once, so that nobody waits for an answer.
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
            Err(error) => tracing::warn!(%error, "dispatcher.answers_no_questions"),
        }
        sleep(LISTEN_RETRY).await;
    }
}
