//! Takes, keeps and gives up shards, in the bucket `LEASES`: carries out what the plan says.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::leases::{LeaseError, Leases};
use broker::{Reminder, Unavailable};
use domain::{Shard, Stamp};
use futures_util::future::{join, join_all};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

mod steps;

use super::lease::Lease;
use super::ledger::{Ledger, Renewal, Written};
use super::listing::Listing;
use super::owned::{Owned, RunningLanes};
use super::plan::Stage;
use super::process::Process;
use super::record::{Owner, Records, owner_key};
use crate::failpoints;

/// How often the bucket is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, while a shard is being given up.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);
/// How often the own key is tried while that fails. One that went unanswered is tried again at once.
const RENEWAL_RETRY: Duration = Duration::from_millis(500);
/// How long all lanes may take to end at the end, before shards are given up one by one.
const LEAVING_PATIENCE: Duration = Duration::from_millis(200);

/// Why shards are kept no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptUntil {
    /// This dispatcher was told to stop.
    Stopped,
    /// Its own key could not be written for longer than a lease, though NATS answered: it is to begin anew under another name.
    Refused,
}

/// What a dispatcher is called, and was before it began anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) now: String,
    /// Under these names nothing of this process works any more.
    pub(crate) before: BTreeSet<String>,
}

/// Takes, keeps and gives up shards.
pub(crate) struct ShardOwnership {
    leases: Leases,
    ttl: Duration,
    former_names: BTreeSet<String>,
    process: Process,
    ledger: Mutex<Ledger>,
    /// The own key is there again.
    revived: Notify,
    /// The own key is to say so at once.
    has_withdrawn: Notify,
    listing: Listing,
    running: RunningLanes,
    lease: Lease,
    owned: watch::Sender<Owned>,
    told: Told,
}

/// What was told of what fails again and again while the bucket does not answer.
#[derive(Default)]
struct Told {
    renewals: Reminder,
    turns: Reminder,
    /// Of single keys.
    writes: Reminder,
}

impl ShardOwnership {
    pub(crate) fn new(
        leases: Leases,
        (names, ttl): (Names, Duration),
        lease: Lease,
        running: RunningLanes,
        listing: Listing,
    ) -> (Self, watch::Receiver<Owned>) {
        let (owned, receiver) = watch::channel(Owned::new());
        let Names { now: name, before: former_names } = names;
        let ledger = Mutex::new(Ledger::new(name, ttl));
        let (process, revived, has_withdrawn) = (Process::this(), Notify::new(), Notify::new());
        let told = Told::default();
        let ownership = Self {
            leases,
            ttl,
            former_names,
            process,
            ledger,
            revived,
            has_withdrawn,
            listing,
            running,
            lease,
            owned,
            told,
        };
        (ownership, receiver)
    }

    /// Works until told to stop, or until its name is of no use. Give up what is held with [`ShardOwnership::leave`] when nothing works on it any more.
    pub(crate) async fn keep(&self, shutdown: &CancellationToken) -> KeptUntil {
        // Side by side: however long a look at the bucket takes, the own key is renewed.
        tokio::select! {
            () = shutdown.cancelled() => KeptUntil::Stopped,
            () = self.keep_renewing() => KeptUntil::Refused,
            never = self.keep_turning() => match never {},
        }
    }

    /// Gives up shard by shard what no lane runs in any more, until all lanes have ended: one target that hangs must not keep
    /// the others' URLs waiting. Usually all lanes end at once, and then all is given up at once, by [`ShardOwnership::leave`].
    pub(crate) async fn hand_over(&self, ended: &CancellationToken) {
        tokio::select! {
            () = ended.cancelled() => return,
            () = sleep(LEAVING_PATIENCE) => {}
            // Nothing can be handed over in order: others wait for the lease to end.
            () = self.keep_renewing() => return,
        }
        self.ledger().leaves();
        tokio::select! {
            () = ended.cancelled() => {}
            // Nothing can be handed over in order: others wait for the lease to end.
            () = self.keep_renewing() => {}
            never = self.keep_turning() => match never {},
        }
    }

    /// Gives up everything at once. The own key goes first, so that others take what could not be given up: and shards in
    /// which lanes were cut off, of which it is not written how far they have come.
    pub(crate) async fn leave(self, within: Duration) {
        let busy = self.busy();
        let (held, revision, name) = {
            let mut ledger = self.ledger();
            let held = ledger.held().iter().filter(|(shard, _)| !busy.contains(shard));
            let held: Vec<(Shard, u64)> = held.map(|(shard, held)| (*shard, held.revision)).collect();
            let (revision, name) = (ledger.own_revision(), ledger.name().to_owned());
            ledger.leave();
            self.publish(&ledger);
            (held, revision, name)
        };
        let removing = async {
            match revision {
                Some(revision) => self.remove_own_key(&name, revision).await,
                None => Ok(()),
            }
        };
        let shards = held.len();
        let giving_back = join_all(held.into_iter().map(|(shard, revision)| self.write(shard, None, revision)));
        let left = timeout(within, join(removing, giving_back)).await;
        let is_left = left.is_ok_and(|(removed, given_back)| {
            removed.is_ok() && given_back.iter().all(|written| *written != Written::Unanswered)
        });
        if !is_left {
            tracing::warn!(shards, lease_secs = self.ttl.as_secs(), "ownership.not_given_up");
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells lanes and their supervisor what holds now.
    fn publish(&self, ledger: &Ledger) {
        let (until, shards) = ledger.lease();
        self.lease.set(until, &shards);
        let mut owned = ledger.owned();
        self.owned.send_if_modified(|before| {
            if failpoints::has_no_fencing() {
                let is_lost = |shard: &Shard| !ledger.held().get(shard).is_some_and(|held| held.stage == Stage::Ending);
                owned.extend(
                    before.iter().filter(|(shard, _)| is_lost(shard)).map(|(shard, how)| (*shard, how.clone())),
                );
            }
            let is_new = *before != owned;
            *before = owned;
            is_new
        });
    }

    fn take_in_listings(&self) {
        let last = self.listing.last();
        self.ledger().subscriptions(last.listed_at, last.failing_since);
    }

    /// Says that this dispatcher lives, again and again, once it can list the subscriptions. Ends where that is refused for
    /// longer than a lease.
    async fn keep_renewing(&self) {
        loop {
            self.take_in_listings();
            let began = Instant::now();
            let renewal = self.ledger().renewal(Instant::now());
            let done = match renewal {
                Renewal::None => {
                    self.listing.news().await;
                    Ok(())
                }
                Renewal::At(due_at) => {
                    tokio::select! {
                        () = sleep_until(due_at) => {}
                        () = self.has_withdrawn.notified() => {}
                    }
                    Ok(())
                }
                Renewal::LookUp => self.look_up().await.inspect(|()| self.renewals_work()),
                Renewal::Put { revision } => self.renew(revision).await.inspect(|()| self.renewals_work()),
                Renewal::BeginAnew => return,
            };
            if let Err(error) = done {
                if self.told.renewals.fails(&error) {
                    tracing::warn!(%error, "ownership.interrupted");
                }
                sleep_until(began + RENEWAL_RETRY).await;
            }
        }
    }

    fn renewals_work(&self) {
        if self.told.renewals.works() {
            tracing::info!("ownership.renews_again");
        }
    }

    async fn renew(&self, revision: u64) -> Result<(), LeaseError> {
        let (sent_at, since) = (Instant::now(), Stamp::now());
        let (key, takes_nothing) = {
            let mut ledger = self.ledger();
            ledger.renewal_sent(since);
            (owner_key(ledger.name()), ledger.takes_nothing())
        };
        let owner = Owner { process: self.process.clone(), since, takes_nothing };
        let value = serde_json::to_vec(&owner).map_err(|error| Unavailable::new("writing a lease", error))?;
        let written = self.leases.put(&key, value.into(), revision, Some(self.ttl)).await;
        let mut ledger = self.ledger();
        match written {
            Ok(revision) => {
                if ledger.renewed(sent_at, revision) {
                    self.revived.notify_one();
                }
                self.publish(&ledger);
                Ok(())
            }
            // It has expired, or an earlier write was stored though its answer got lost: the leader knows. Where that is refused
            // as well, it is not asked without end.
            Err(LeaseError::Conflict) if !ledger.renewal_refused(sent_at) => Ok(()),
            Err(LeaseError::Conflict) => Err(LeaseError::Conflict),
            Err(error) => {
                ledger.renewal_missed(sent_at);
                Err(error)
            }
        }
    }

    /// Asks the leader what the own key is.
    async fn look_up(&self) -> Result<(), LeaseError> {
        let key = owner_key(self.ledger().name());
        let (revision, value) = self.leases.get(&key).await?;
        let stamp = value.and_then(|value| serde_json::from_slice::<Owner>(&value).ok()).map(|owner| owner.since);
        let mut ledger = self.ledger();
        if ledger.looked_up(revision, stamp) {
            self.publish(&ledger);
            tracing::error!(name = ledger.name(), shards = ledger.held().len(), "ownership.lost");
        }
        Ok(())
    }

    /// Looks at the bucket, and takes and gives up what is to change hands, again and again.
    async fn keep_turning(&self) -> Infallible {
        loop {
            self.take_in_listings();
            match self.turn().await {
                Ok(()) if self.told.turns.works() => tracing::info!("ownership.goes_on"),
                Err(error) if self.told.turns.fails(&error) => tracing::warn!(%error, "ownership.interrupted"),
                Ok(()) | Err(_) => {}
            }
            let is_ending_any = self.ledger().is_ending_any();
            tokio::select! {
                () = self.revived.notified() => {}
                () = sleep(if is_ending_any { RELEASE_INTERVAL } else { INTERVAL }) => {}
            }
        }
    }

    async fn turn(&self) -> Result<(), Unavailable> {
        let unconfirmed = self.ledger().confirmations();
        if !unconfirmed.is_empty() {
            self.carry_out(&unconfirmed).await;
            let shards = self.ledger().held().len();
            tracing::info!(shards, taken_away = unconfirmed.len().saturating_sub(shards), "ownership.held_on");
        }
        let distrusts_replicas = self.ledger().distrusts_replicas();
        let listed = if distrusts_replicas { self.leases.all_from_leader().await } else { self.leases.all().await };
        let records = Records::of(&listed?);
        let mut dead = self.remove_dead(&records).await;
        dead.extend(self.former_names.iter().cloned());
        let mut turn = self.ledger().listed(records, &dead, Instant::now());
        let asking: Vec<_> = turn.questions.iter().cloned().map(|name| self.ask(name)).collect();
        for (name, answer) in join_all(asking).await {
            match answer {
                Ok(is_there) => self.ledger().answered(&mut turn, &name, is_there, Instant::now()),
                // Nothing is taken from it in this turn.
                Err(error) => tracing::debug!(name, %error, "ownership.not_asked"),
            }
        }
        // Before the ledger is locked: it looks there itself in builds with failpoints.
        let busy = self.busy();
        let steps = self.ledger().plan(&turn, &busy, Instant::now());
        self.carry_out(&steps).await;
        Ok(())
    }

    /// Asks the leader whether a dispatcher's key is there.
    async fn ask(&self, name: String) -> (String, Result<bool, Unavailable>) {
        if self.former_names.contains(&name) {
            // Whatever its key says.
            return (name, Ok(false));
        }
        let answer = self.leases.get(&owner_key(&name)).await;
        (name, answer.map(|(_, value)| value.is_some()))
    }

    /// The shards in which lanes run.
    fn busy(&self) -> BTreeSet<Shard> {
        let mut busy = self.running.busy();
        if failpoints::has_no_fencing() {
            busy.retain(|shard| self.ledger().held().contains_key(shard));
        }
        busy
    }

    /// Removes the keys of dispatchers of this machine whose processes have ended: nobody has to wait for them to expire.
    async fn remove_dead(&self, records: &Records) -> BTreeSet<String> {
        let mut dead = BTreeSet::new();
        for (name, record) in &records.owners {
            if record.owner.as_ref().is_some_and(|owner| owner.process.is_dead(&self.process)) {
                tracing::info!(name, "ownership.dispatcher_has_died");
                match self.leases.remove(&owner_key(name), record.revision).await {
                    Ok(()) | Err(LeaseError::Conflict) => drop(dead.insert(name.clone())),
                    Err(error) => {
                        if self.told.writes.fails(&error) {
                            tracing::warn!(name, %error, "ownership.interrupted");
                        }
                    }
                }
            }
        }
        dead
    }
}
