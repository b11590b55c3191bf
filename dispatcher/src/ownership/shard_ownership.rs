//! Takes, keeps and gives up shards, in the bucket `LEASES`.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::Unavailable;
use broker::leases::{LeaseError, Leases, Record};
use domain::{Shard, Stamp};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lease::Lease;
use super::owned::{Owned, RunningLanes, Takeover};
use super::process::Process;
use super::record::{OWNER, Owner, SHARD, holding, holding_of};
use crate::failpoints;

/// How often the bucket is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, while a shard is being given up.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);
/// How many shards are taken at a time.
const TAKEN_AT_A_TIME: usize = 16;
/// By how much a dispatcher's own clock ends its lease before the server does.
const MARGIN: Duration = Duration::from_millis(500);

/// Takes, keeps and gives up shards.
pub(crate) struct ShardOwnership {
    leases: Leases,
    ttl: Duration,
    process: Process,
    lease: Lease,
    owned: watch::Sender<Owned>,
    running: RunningLanes,
    /// What the bucket has of what is held, also of what is being given up.
    held: BTreeMap<Shard, u64>,
    name: String,
    /// What is expected of the own key when it is written.
    revision: u64,
    /// Whether the own key is there, and all that is held was held all the time.
    lives: bool,
    renewed_at: Instant,
    /// When writing the own key failed, the last time: others may have fared the same.
    failed_at: Option<Instant>,
}

impl ShardOwnership {
    pub(crate) fn new(
        leases: Leases,
        ttl: Duration,
        lease: Lease,
        running: RunningLanes,
    ) -> (Self, watch::Receiver<Owned>) {
        let (owned, receiver) = watch::channel(Owned::new());
        let ownership = Self {
            leases,
            ttl,
            process: Process::this(),
            lease,
            owned,
            running,
            held: BTreeMap::new(),
            name: Uuid::now_v7().to_string(),
            revision: 0,
            lives: false,
            renewed_at: Instant::now(),
            failed_at: None,
        };
        (ownership, receiver)
    }

    /// Works until told to stop. Give up what is held with [`ShardOwnership::leave`] when nothing works on it any more.
    pub(crate) async fn keep(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "ownership.interrupted");
            }
            let is_releasing = self.held.len() > self.owned.borrow().len();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(if is_releasing { RELEASE_INTERVAL } else { INTERVAL }) => {}
            }
        }
    }

    /// Renews the own key and nothing else, until told to stop.
    pub(crate) async fn keep_alive(&mut self, ended: &CancellationToken) {
        while self.lives {
            tokio::select! {
                () = ended.cancelled() => return,
                () = sleep(self.ttl / 3) => {}
            }
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "ownership.interrupted");
            }
        }
        ended.cancelled().await;
    }

    /// Renews the own key, and takes and gives up what is to change hands.
    async fn turn(&mut self) -> Result<(), LeaseError> {
        self.renew_if_due().await?;
        let records = self.leases.all().await?;
        let living = self.living(&records).await?;
        let (mut to_take, mut to_release) = (Vec::new(), Vec::new());
        for shard in Shard::all() {
            let is_preferred = shard.preferred(living.iter().map(String::as_str)) == Some(&self.name);
            match (self.held.contains_key(&shard), is_preferred) {
                (true, false) => to_release.push(shard),
                (false, true) => to_take.push(shard),
                // It was taken, and the answer got lost: nobody else will take it as long as this dispatcher lives.
                (false, false) if holding(&records, shard).1.owner.as_ref() == Some(&self.name) => to_take.push(shard),
                // It was being given up, and is to be kept after all.
                (true, true) => self.keep_on(shard),
                (false, false) => {}
            }
        }
        for shard in to_release {
            self.renew_if_due().await?;
            self.release(shard).await?;
        }
        // Several at a time, for a disk that is slow; and in between, whatever takes long, this dispatcher says that it
        // lives.
        for shards in to_take.chunks(TAKEN_AT_A_TIME) {
            self.renew_if_due().await?;
            let taking = shards.iter().map(|shard| self.take(*shard, &records, &living));
            let taken = join_all(taking).await;
            for (shard, revision, takeover) in taken.iter().flatten().flatten() {
                self.held.insert(*shard, *revision);
                self.owned.send_modify(|owned| {
                    owned.insert(*shard, *takeover);
                });
            }
            taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(())
    }

    async fn renew_if_due(&mut self) -> Result<(), LeaseError> {
        if self.lives && self.renewed_at.elapsed() < self.ttl / 3 {
            return Ok(());
        }
        self.renew().await
    }

    /// Says that this dispatcher lives.
    async fn renew(&mut self) -> Result<(), LeaseError> {
        let asked_at = Instant::now();
        let owner = Owner { process: self.process.clone(), since: Stamp::now() };
        let value = serde_json::to_vec(&owner).map_err(|error| Unavailable::new("writing a lease", error))?;
        let key = format!("{OWNER}{}", self.name);
        match self.leases.put(&key, value.into(), self.revision, Some(self.ttl)).await {
            Ok(revision) => {
                (self.revision, self.renewed_at) = (revision, asked_at);
                if !self.lives && !self.held.is_empty() {
                    self.hold_on().await?;
                }
                self.lives = true;
                self.lease.set(Some(asked_at + self.ttl.saturating_sub(MARGIN)));
                Ok(())
            }
            // It has expired, or an earlier write was stored though nobody heard of it: the next one begins with what
            // there is.
            Err(error) => {
                self.failed_at = Some(Instant::now());
                let (revision, value) = self.leases.get(&key).await?;
                self.revision = revision;
                if value.is_none() && self.lives {
                    tracing::error!(name = self.name, shards = self.held.len(), "ownership.lost");
                    self.lease.set(None);
                    self.lives = false;
                }
                Err(error)
            }
        }
    }

    /// After the own key had expired: keeps what nobody has taken meanwhile, and gives up the rest.
    async fn hold_on(&mut self) -> Result<(), LeaseError> {
        let held: Vec<(Shard, u64)> = self.held.iter().map(|(shard, revision)| (*shard, *revision)).collect();
        let mut taken_away = 0;
        for some in held.chunks(TAKEN_AT_A_TIME) {
            let writing = some.iter().map(|(shard, revision)| self.write(*shard, Some(&self.name), *revision));
            let mut outcome = Ok(());
            for ((shard, _), written) in some.iter().zip(join_all(writing).await) {
                match written {
                    Ok(revision) => drop(self.held.insert(*shard, revision)),
                    Err(LeaseError::Conflict) => {
                        taken_away += 1;
                        self.held.remove(shard);
                        if !failpoints::has_no_fencing() {
                            self.owned.send_if_modified(|owned| owned.remove(shard).is_some());
                        }
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            outcome?;
        }
        tracing::info!(shards = self.held.len(), taken_away, "ownership.held_on");
        Ok(())
    }

    /// Writes who works on a shard that is at a revision. Answers the new one.
    async fn write(&self, shard: Shard, owner: Option<&str>, revision: u64) -> Result<u64, LeaseError> {
        self.leases.put(&format!("{SHARD}{shard}"), holding_of(owner), revision, None).await
    }

    /// The names of the dispatchers that live.
    async fn living(&self, records: &[Record]) -> Result<Vec<String>, LeaseError> {
        let mut names = vec![self.name.clone()];
        for record in records {
            let Some(name) = record.key.strip_prefix(OWNER).filter(|name| *name != self.name) else { continue };
            let owner: Option<Owner> = serde_json::from_slice(&record.value).ok();
            let is_overdue = |owner: &Owner| owner.since.plus_micros(micros(self.ttl)) < Stamp::now();
            if owner.as_ref().is_some_and(is_overdue) && self.leases.get(&record.key).await?.1.is_none() {
                // A replica may have for long what has expired; and nobody would do the work of one who is held for living.
                tracing::debug!(name, "ownership.dispatcher_has_gone");
            } else if owner.is_some_and(|owner| owner.process.is_dead(&self.process)) {
                tracing::info!(name, "ownership.dispatcher_has_died");
                match self.leases.remove(&record.key, record.revision).await {
                    Ok(()) | Err(LeaseError::Conflict) => {}
                    Err(error) => return Err(error),
                }
            } else {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Takes a shard that nobody works on. Answers it with the revision that is held then, and how it came.
    async fn take(
        &self,
        shard: Shard,
        records: &[Record],
        living: &[String],
    ) -> Result<Option<(Shard, u64, Takeover)>, LeaseError> {
        let (revision, holding) = holding(records, shard);
        let takeover = match &holding.owner {
            None => Takeover::Clean,
            // Its answer got lost; or what was read is old, and writing it fails.
            Some(owner) if *owner == self.name => Takeover::Fenced,
            Some(owner) if living.contains(owner) => return Ok(None),
            // What was read may be old: only the leader knows that it does not live.
            Some(owner) => match self.leases.get(&format!("{OWNER}{owner}")).await? {
                // Where nobody could write for a while, it lives, and holds on to what it has.
                (_, None) if self.failed_at.is_some_and(|at| at.elapsed() < self.ttl) => return Ok(None),
                (_, None) => Takeover::Fenced,
                (_, Some(_)) => return Ok(None),
            },
        };
        match self.write(shard, Some(&self.name), revision).await {
            Ok(revision) => Ok(Some((shard, revision, takeover))),
            Err(LeaseError::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep_on(&self, shard: Shard) {
        self.owned.send_if_modified(|owned| {
            let is_being_given_up = !owned.contains_key(&shard);
            owned.entry(shard).or_insert(Takeover::Clean);
            is_being_given_up
        });
    }

    /// Gives up a shard once its lanes have come to their end.
    async fn release(&mut self, shard: Shard) -> Result<(), LeaseError> {
        if self.owned.send_if_modified(|owned| owned.remove(&shard).is_some()) {
            // The supervisor has to hear of it first.
            return Ok(());
        }
        let Some(revision) = self.held.get(&shard).copied().filter(|_| self.running.is_idle(shard)) else {
            return Ok(());
        };
        match self.write(shard, None, revision).await {
            Ok(_) | Err(LeaseError::Conflict) => {
                self.held.remove(&shard);
                Ok(())
            }
            // It may have been written: the next try finds out.
            Err(error) => Err(error),
        }
    }

    /// Gives up everything at once: nothing works on it any more.
    pub(crate) async fn leave(mut self, within: Duration) {
        self.lease.set(None);
        let left = async {
            for (shard, revision) in std::mem::take(&mut self.held) {
                self.write(shard, None, revision).await?;
            }
            if self.lives { self.leases.remove(&format!("{OWNER}{}", self.name), self.revision).await } else { Ok(()) }
        };
        if !matches!(timeout(within, left).await, Ok(Ok(()))) {
            tracing::warn!("ownership.not_given_up: others wait until the lease ends");
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
