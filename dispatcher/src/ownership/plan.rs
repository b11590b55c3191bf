//! What is to be done about each shard: pure.
//!
//! Why no two dispatchers work on one shard: a dispatcher works on a shard only while the bucket names it there, at a
//! revision that it has written itself, and while its own key is there by its own clock. Another one takes the shard only
//! by a write that names this revision, after the bucket's leader has said that the key is not there. A dispatcher whose
//! key was not there for a moment writes each of its shards once more before it works on them again.
//!
//! A lane ends when its request to the target has. So that one target that hangs does not keep the other lanes of its shard from
//! their work, a shard whose lanes do not end soon goes on here, and is tried again later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::Shard;
use tokio::time::Instant;

use super::owned::Takeover;
use super::record::{Holder, Records, ShardRecord};

/// How long the lanes of a shard may take to end before it goes on here.
const ENDING_PATIENCE: Duration = Duration::from_millis(500);
/// How long after that it is tried again.
const ENDING_RETRY: Duration = Duration::from_secs(5);

/// The dispatcher that plans.
pub(super) struct Me<'a> {
    pub(super) name: &'a str,
    /// The revision of its own key, if that is there, as far as it knows. Without it, nothing is written.
    pub(super) revision: Option<u64>,
    pub(super) ttl: Duration,
    pub(super) readiness: Readiness,
    /// The shards in which lanes of its own run.
    pub(super) busy: &'a BTreeSet<Shard>,
}

/// Whether a dispatcher can do the work of a shard that it takes: it must be able to list the subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It has listed them; the last time at the moment given.
    Ready { listed_at: Instant },
    /// It has, and now it cannot, since a moment.
    Failing { listed_at: Instant, since: Instant },
    /// It has not listed them yet, or cannot for so long that others are to take what it would have to begin with. What
    /// runs, goes on: a dispatcher that cannot list can push.
    Withdrawn { listed_at: Option<Instant> },
    /// It stops, and gives up shard by shard.
    Leaving,
}

impl Readiness {
    /// Whether shards may be this dispatcher's, as far as that goes.
    pub(super) fn is_at_work(self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Failing { .. })
    }
}

/// The dispatchers, as they are known when a turn begins.
pub(super) struct Dispatchers<'a> {
    /// Which of them is to work on a shard. One that has withdrawn, or leaves, is not among them.
    pub(super) preferred: &'a dyn Fn(Shard) -> Option<&'a str>,
    /// Whether there is another one to work.
    pub(super) has_others: bool,
    /// Whether there is another one at all, to work or about to leave.
    pub(super) is_alone: bool,
    /// Shards whose records do not say who holds them, and have been as they are for as long as a lease.
    pub(super) long_unclear: &'a BTreeSet<Shard>,
    /// Those whose key is not there: the leader has said so after the records were read. And from when on their shards
    /// may be taken.
    pub(super) gone: &'a BTreeMap<String, Instant>,
}

/// A shard that is held: the bucket names this dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The revision at which it does.
    pub(super) revision: u64,
    pub(super) takeover: Takeover,
    pub(super) stage: Stage,
    pub(super) taken_at: Instant,
    /// When it was last begun to have its lanes end, so that another dispatcher can have it.
    pub(super) ended_at: Option<Instant>,
}

/// How far a held shard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Working,
    /// The own key was lost since: nothing is pushed until the shard has been written once more.
    Unconfirmed,
    /// Its lanes come to their end, so that it can be given back.
    Ending,
}

/// What is to be done. What has no step waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the own name to a shard that is at a revision.
    Take { shard: Shard, revision: u64, takeover: Takeover },
    /// Write the own name once more.
    Confirm { shard: Shard, revision: u64 },
    /// Have the lanes come to their end.
    End(Shard),
    /// Have them go on after all.
    KeepOn(Shard),
    /// Write that nobody works on it: nothing is under way.
    GiveBack { shard: Shard, revision: u64 },
    /// It is somebody else's, or nobody's.
    StopWorking(Shard),
    /// Take nothing any more, and give back what does not run, as another dispatcher can do the work and this one cannot.
    Withdraw,
    /// Remove the own key, which is at a revision: everything has been given back.
    Leave { revision: u64 },
}

/// Plans a turn.
pub(super) fn plan(
    records: &Records,
    dispatchers: &Dispatchers<'_>,
    held: &BTreeMap<Shard, Held>,
    me: &Me<'_>,
    now: Instant,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut is_idle_in_vain = false;
    for shard in records.all_shards() {
        let record = records.shard(shard);
        let is_mine = (dispatchers.preferred)(shard) == Some(me.name);
        let step = match held.get(&shard) {
            Some(held) => {
                is_idle_in_vain |= !me.serves(held);
                of_held(shard, record, held, is_mine, me, now)
            }
            None => match of_other(shard, record, is_mine, dispatchers, me, now) {
                Some(Step::Take { .. }) if !matches!(me.readiness, Readiness::Ready { .. }) => {
                    is_idle_in_vain = true;
                    None
                }
                step => step,
            },
        };
        steps.extend(step);
    }
    if let Readiness::Failing { since, .. } = me.readiness
        && is_idle_in_vain
        && dispatchers.has_others
        && now >= since + me.ttl
    {
        steps.push(Step::Withdraw);
    }
    let has_nothing = held.is_empty() && !steps.iter().any(|step| matches!(step, Step::GiveBack { .. }));
    if let Some(revision) = me.revision
        && !me.readiness.is_at_work()
        && has_nothing
    {
        steps.push(Step::Leave { revision });
    }
    steps
}

fn of_held(shard: Shard, record: &ShardRecord, held: &Held, is_mine: bool, me: &Me<'_>, now: Instant) -> Option<Step> {
    // Somebody has written it since. A listing may also be older than what is held, and then says nothing.
    if record.revision > held.revision {
        return Some(Step::StopWorking(shard));
    }
    let is_at_work = me.readiness.is_at_work();
    let is_served = me.serves(held);
    let is_long_since_ended = |time| held.ended_at.is_none_or(|at| now >= at + time);
    match held.stage {
        Stage::Unconfirmed if !is_at_work && !is_served => Some(Step::StopWorking(shard)),
        _ if me.revision.is_none() => None,
        Stage::Unconfirmed => Some(Step::Confirm { shard, revision: held.revision }),
        Stage::Working if is_mine || matches!(me.readiness, Readiness::Withdrawn { .. }) && is_served => None,
        Stage::Working if is_at_work && !is_long_since_ended(ENDING_PATIENCE + ENDING_RETRY) => None,
        Stage::Working => Some(Step::End(shard)),
        // What was written about it is certain: a shard whose giving back went unanswered is not held any more.
        Stage::Ending if is_mine => Some(Step::KeepOn(shard)),
        Stage::Ending if me.busy.contains(&shard) => {
            (is_at_work && is_long_since_ended(ENDING_PATIENCE)).then_some(Step::KeepOn(shard))
        }
        Stage::Ending => Some(Step::GiveBack { shard, revision: held.revision }),
    }
}

fn of_other(
    shard: Shard,
    record: &ShardRecord,
    is_mine: bool,
    dispatchers: &Dispatchers<'_>,
    me: &Me<'_>,
    now: Instant,
) -> Option<Step> {
    // Lanes that were lost come to their end before others begin.
    if me.revision.is_none() || me.busy.contains(&shard) {
        return None;
    }
    let revision = record.revision;
    let take = |takeover| Step::Take { shard, revision, takeover };
    let fenced = |from: Option<&str>| take(Takeover::Fenced { from: from.map(str::to_owned) });
    match &record.holder {
        // An answer got lost. Nobody else takes the shard as long as this dispatcher lives.
        Holder::Dispatcher(owner) if owner == me.name && is_mine => Some(fenced(Some(owner))),
        Holder::Dispatcher(owner) if owner == me.name => Some(Step::GiveBack { shard, revision }),
        _ if !is_mine => None,
        // Nobody has ever written it, or the bucket was lost: then nobody has given it up either.
        Holder::Nobody if revision == 0 => Some(fenced(None)),
        Holder::Nobody => Some(take(Takeover::Clean)),
        Holder::Dispatcher(owner) => {
            dispatchers.gone.get(owner).is_some_and(|takeable_at| now >= *takeable_at).then(|| fenced(Some(owner)))
        }
        // Any other dispatcher may hold it.
        Holder::Unknown if !dispatchers.is_alone => None,
        Holder::Unknown | Holder::Removed => dispatchers.long_unclear.contains(&shard).then(|| fenced(None)),
    }
}

impl Me<'_> {
    /// Whether the subscriptions have been listed since a shard was taken: its lanes run.
    fn serves(&self, held: &Held) -> bool {
        match self.readiness {
            Readiness::Ready { .. } => true,
            Readiness::Failing { listed_at, .. } => listed_at >= held.taken_at,
            Readiness::Withdrawn { listed_at } => listed_at.is_some_and(|at| at >= held.taken_at),
            Readiness::Leaving => false,
        }
    }
}

#[cfg(test)]
mod tests;
