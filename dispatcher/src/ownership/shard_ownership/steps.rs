//! Carrying out the steps that the plan says: each is written, and the ledger is told what came of it.

use broker::leases::LeaseError;
use domain::Shard;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::ShardOwnership;
use crate::ownership::ledger::Written;
use crate::ownership::plan::Step;
use crate::ownership::record::{holding_of, owner_key, shard_key};

/// How many shards are written at a time: all of them, so that a slow link is crossed once.
const AT_A_TIME: usize = 64;

impl ShardOwnership {
    pub(super) async fn carry_out(&self, steps: &[Step]) {
        // All steps begin before any is written: lanes that are to end hear of it first.
        let mut begun: Vec<(Step, u64)> = {
            let mut ledger = self.ledger();
            let begun = steps.iter().map(|step| (step.clone(), ledger.begin(step, Instant::now()))).collect();
            self.publish(&ledger);
            begun
        };
        while !begun.is_empty() {
            let some = begun.drain(..begun.len().min(AT_A_TIME));
            let carrying_out: Vec<_> = some.map(|(step, losses)| self.carry_out_one(step, losses)).collect();
            join_all(carrying_out).await;
        }
    }

    pub(super) async fn carry_out_one(&self, step: Step, losses: u64) {
        let written = self.write_step(&step).await;
        let mut ledger = self.ledger();
        ledger.written(&step, losses, written, Instant::now());
        self.publish(&ledger);
    }

    pub(super) async fn write_step(&self, step: &Step) -> Written {
        let name = self.ledger().name().to_owned();
        match *step {
            Step::Take { shard, revision, .. } | Step::Confirm { shard, revision } => {
                self.write(shard, Some(&name), revision).await
            }
            Step::GiveBack { shard, revision } => self.write(shard, None, revision).await,
            Step::Withdraw => {
                tracing::error!(cause = "subscriptions_not_listed", "ownership.withdrawn");
                self.has_withdrawn.notify_one();
                Written::Unanswered
            }
            Step::Leave { revision } => {
                if let Err(error) = self.remove_own_key(&name, revision).await
                    && self.told.writes.fails(&error)
                {
                    tracing::warn!(%error, "ownership.interrupted");
                }
                Written::Unanswered
            }
            Step::End(_) | Step::KeepOn(_) | Step::StopWorking(_) => Written::Unanswered,
        }
    }

    /// Writes who works on a shard that is at a revision.
    pub(super) async fn write(&self, shard: Shard, owner: Option<&str>, revision: u64) -> Written {
        match self.leases.put(&shard_key(shard), holding_of(owner), revision, None).await {
            Ok(revision) => Written::Ok(revision),
            Err(LeaseError::Conflict) => Written::Conflict,
            Err(error) => {
                if self.told.writes.fails(&error) {
                    tracing::warn!(%shard, %error, "ownership.interrupted");
                }
                Written::Unanswered
            }
        }
    }

    pub(super) async fn remove_own_key(&self, name: &str, revision: u64) -> Result<(), LeaseError> {
        let key = owner_key(name);
        match self.leases.remove(&key, revision).await {
            // It was renewed, and the answer got lost.
            Err(LeaseError::Conflict) => match self.leases.get(&key).await? {
                (revision, Some(_)) => self.leases.remove(&key, revision).await,
                (_, None) => Ok(()),
            },
            removed => removed,
        }
    }
}
