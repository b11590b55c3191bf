//! What a dispatcher knows of the bucket `LEASES`, and what it holds there: answers in, plans out. Pure.
//!
//! One rule keeps this simple: a write of a shard that went unanswered ends what was held of it. The next listing tells what
//! came of it, and whatever is written then names a newer revision, so that the lost write cannot arrive later any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Shard, Stamp};
use tokio::time::Instant;

mod preferences;
mod seen;

use super::owned::Owned;
use super::plan::{Dispatchers, Held, Me, Readiness, Stage, Step, plan};
use super::record::{Holder, OwnerRecord, Records};
use preferences::Preferences;
use seen::Seen;

/// By how much a dispatcher's own clock ends its lease before the server does.
const MARGIN: Duration = Duration::from_millis(500);

/// What is known and held.
pub(super) struct Ledger {
    name: String,
    ttl: Duration,
    own: OwnKey,
    held: BTreeMap<Shard, Held>,
    readiness: Readiness,
    others: BTreeMap<String, Seen>,
    /// Owners whose keys are not there, as the leader has said, and from when on their shards may be taken: counted once
    /// for each, when it is first missed.
    gone: BTreeMap<String, Instant>,
    /// Shards whose records do not say who holds them.
    unclear: BTreeMap<Shard, Seen>,
    preferences: Preferences,
    conflicts: Conflicts,
}

/// How often shards were found to be at other revisions than listed: of two dispatchers that want one shard, one is refused,
/// and sees why in the next turn. One that is refused in the next turn too was given another bucket than it writes to.
#[derive(Default)]
struct Conflicts {
    in_this_turn: bool,
    turns_in_a_row: u32,
}

/// The own key.
#[derive(Default)]
struct OwnKey {
    /// What is expected of it when it is written.
    revision: u64,
    /// Whether it is there, and has been all the time since it was written first.
    is_alive: bool,
    /// How often it was lost.
    losses: u64,
    /// When the write that made it last was sent.
    renewed_at: Option<Instant>,
    /// When the first and the last of the writes were sent that were refused one after the other.
    refused: Option<(Instant, Instant)>,
    /// When a write that went unanswered was sent, the last time: others may have fared the same.
    missed_at: Option<Instant>,
    /// By what the writes that went unanswered can be told, since the last one that was answered.
    unanswered: Vec<Stamp>,
    must_look_up: bool,
    /// Whether the last write of it said that this dispatcher takes nothing; and whether what stands there does.
    has_said_so: bool,
    says_so: bool,
}

/// What is to be done about the own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Nothing: the subscriptions cannot be listed.
    None,
    /// Nothing, until then.
    At(Instant),
    /// Ask the leader what it is.
    LookUp,
    /// Write it over a revision.
    Put { revision: u64 },
    /// It has been refused for longer than a lease, whatever the leader said that it is: this name is of no use any more.
    BeginAnew,
}

/// What came of writing a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It has this revision.
    Ok(u64),
    /// It was not written: the revision is another one.
    Conflict,
    /// Nobody knows.
    Unanswered,
}

/// A turn: what was listed, and what the leader has said of dispatchers that may be gone.
pub(super) struct Turn {
    records: Records,
    /// The dispatchers to ask the leader about.
    pub(super) questions: BTreeSet<String>,
    gone: BTreeSet<String>,
}

impl Ledger {
    pub(super) fn new(name: String, ttl: Duration) -> Self {
        Self {
            name,
            ttl,
            own: OwnKey::default(),
            held: BTreeMap::new(),
            readiness: Readiness::Withdrawn { listed_at: None },
            others: BTreeMap::new(),
            gone: BTreeMap::new(),
            unclear: BTreeMap::new(),
            preferences: Preferences::default(),
            conflicts: Conflicts::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The revision of the own key, if that is there.
    pub(super) fn own_revision(&self) -> Option<u64> {
        self.own.is_alive.then_some(self.own.revision)
    }

    pub(super) fn held(&self) -> &BTreeMap<Shard, Held> {
        &self.held
    }

    /// Until when pushes may begin, and in which shards.
    pub(super) fn lease(&self) -> (Option<Instant>, BTreeSet<Shard>) {
        let until = self.own.renewed_at.filter(|_| self.own.is_alive).map(|at| at + self.ttl.saturating_sub(MARGIN));
        let held = self.held.iter().filter(|(_, held)| held.stage != Stage::Unconfirmed);
        (until, held.map(|(shard, _)| *shard).collect())
    }

    /// The shards whose lanes are to run.
    pub(super) fn owned(&self) -> Owned {
        let held = self.held.iter().filter(|(_, held)| held.stage != Stage::Ending);
        held.map(|(shard, held)| (*shard, held.takeover.clone())).collect()
    }

    /// Whether shards are being given back.
    pub(super) fn is_ending_any(&self) -> bool {
        self.held.values().any(|held| held.stage == Stage::Ending)
    }

    /// What is to be written once more, now that the own key is there again: before anything else.
    pub(super) fn confirmations(&self) -> Vec<Step> {
        let unconfirmed = self.held.iter().filter(|(_, held)| self.own.is_alive && held.stage == Stage::Unconfirmed);
        unconfirmed.map(|(shard, held)| Step::Confirm { shard: *shard, revision: held.revision }).collect()
    }

    /// Takes in how listing the subscriptions has gone: the last success, and since when it has failed.
    pub(super) fn subscriptions(&mut self, listed_at: Option<Instant>, failing_since: Option<Instant>) {
        self.readiness = match (self.readiness, listed_at, failing_since) {
            (Readiness::Leaving, ..) => Readiness::Leaving,
            (_, Some(listed_at), None) => Readiness::Ready { listed_at },
            (Readiness::Withdrawn { .. }, ..) | (_, None, _) => Readiness::Withdrawn { listed_at },
            (_, Some(listed_at), Some(since)) => Readiness::Failing { listed_at, since },
        };
    }

    /// This dispatcher stops: from now on it gives up what it has, and takes nothing.
    pub(super) fn leaves(&mut self) {
        self.readiness = Readiness::Leaving;
    }

    #[cfg(test)]
    pub(super) fn is_at_work(&self) -> bool {
        self.readiness.is_at_work()
    }

    /// Whether the own key is to say that this dispatcher takes no shard.
    pub(super) fn takes_nothing(&self) -> bool {
        !self.readiness.is_at_work()
    }

    /// What is to be done about the own key now.
    pub(super) fn renewal(&self, now: Instant) -> Renewal {
        let revision = self.own.revision;
        match self.own.renewed_at.filter(|_| self.own.is_alive).map(|at| at + self.ttl / 3) {
            _ if !self.readiness.is_at_work() && self.held.is_empty() => Renewal::None,
            _ if self.own.refused.is_some_and(|(first, last)| last >= first + self.ttl) => Renewal::BeginAnew,
            _ if self.own.must_look_up => Renewal::LookUp,
            _ if self.takes_nothing() && !self.own.says_so => Renewal::Put { revision },
            Some(due_at) if now < due_at => Renewal::At(due_at),
            _ => Renewal::Put { revision },
        }
    }

    /// The own key is being written, and says this stamp. Until an answer comes, nobody knows what it is.
    pub(super) fn renewal_sent(&mut self, stamp: Stamp) {
        self.own.unanswered.push(stamp);
        self.own.must_look_up = true;
        self.own.has_said_so = self.takes_nothing();
    }

    /// The own key was written, by a request that was sent at a moment. Answers whether it was not there before.
    pub(super) fn renewed(&mut self, sent_at: Instant, revision: u64) -> bool {
        self.own.revision = revision;
        self.own.renewed_at = Some(sent_at);
        self.own.refused = None;
        self.own.unanswered.clear();
        self.own.must_look_up = false;
        self.own.says_so = self.own.has_said_so;
        !std::mem::replace(&mut self.own.is_alive, true)
    }

    /// Writing the own key was refused: it is not at the revision that was named. Answers whether the one before was, too.
    pub(super) fn renewal_refused(&mut self, sent_at: Instant) -> bool {
        // After a lease without an answer it is another matter.
        let first = self.own.refused.filter(|(_, last)| sent_at < *last + self.ttl).map(|(first, _)| first);
        self.own.refused = Some((first.unwrap_or(sent_at), sent_at));
        first.is_some()
    }

    /// Whether the next listing is to be the leader's: what a replica has listed was refused, twice in a row.
    pub(super) fn distrusts_replicas(&mut self) -> bool {
        self.conflicts.turns_in_a_row = if self.conflicts.in_this_turn { self.conflicts.turns_in_a_row + 1 } else { 0 };
        self.conflicts.in_this_turn = false;
        self.conflicts.turns_in_a_row >= 2
    }

    /// Writing the own key went unanswered.
    pub(super) fn renewal_missed(&mut self, sent_at: Instant) {
        self.own.missed_at = Some(sent_at);
        self.own.refused = None;
    }

    /// The leader has said what the own key is: its revision, and what it says of when it was written. Answers whether it
    /// was lost.
    pub(super) fn looked_up(&mut self, revision: u64, stamp: Option<Stamp>) -> bool {
        let is_known = revision == self.own.revision || stamp.is_some_and(|stamp| self.own.unanswered.contains(&stamp));
        let is_lost = self.own.is_alive && !(is_known && stamp.is_some());
        (self.own.revision, self.own.must_look_up) = (revision, false);
        if is_lost {
            self.lose();
        }
        is_lost
    }

    /// The own key is not there, or was not for a moment.
    fn lose(&mut self) {
        self.own.is_alive = false;
        self.own.losses += 1;
        self.own.unanswered.clear();
        // What was being given back is found in the next listing.
        self.held.retain(|_, held| held.stage != Stage::Ending);
        self.held.values_mut().for_each(|held| held.stage = Stage::Unconfirmed);
    }

    /// Begins a turn with a listing. `dead`: dispatchers of this machine whose processes have ended, and whose keys were
    /// removed.
    pub(super) fn listed(&mut self, mut records: Records, dead: &BTreeSet<String>, now: Instant) -> Turn {
        records.owners.retain(|name, _| *name != self.name && !dead.contains(name));
        self.others.retain(|name, _| records.owners.contains_key(name));
        for (name, record) in &records.owners {
            self.others
                .entry(name.clone())
                .or_insert_with(|| Seen::at(record.revision, now))
                .at_revision(record.revision, now);
        }
        let mut unclear: BTreeMap<Shard, Seen> = BTreeMap::new();
        for (shard, record) in records.unclear() {
            let revision = record.revision;
            let seen = self.unclear.remove(&shard).filter(|seen| seen.revision == revision);
            if seen.is_none() && record.holder == Holder::Unknown {
                tracing::error!(%shard, revision, "ownership.shard_unreadable");
            }
            unclear.insert(shard, seen.unwrap_or_else(|| Seen::at(revision, now)));
        }
        self.unclear = unclear;
        let named: BTreeSet<&str> = records.named().collect();
        self.gone.retain(|name, _| named.contains(name.as_str()));
        let missing = named.into_iter().filter(|name| *name != self.name && !records.owners.contains_key(*name));
        // A replica may list for long what has expired.
        let overdue =
            self.others.iter().filter(|(_, seen)| seen.is_overdue(self.ttl, now)).map(|(name, _)| name.as_str());
        let questions = missing.chain(overdue).map(str::to_owned).collect();
        Turn { records, questions, gone: BTreeSet::new() }
    }

    /// The leader has said whether a dispatcher's key is there.
    pub(super) fn answered(&mut self, turn: &mut Turn, name: &str, is_there: bool, now: Instant) {
        if is_there {
            self.gone.remove(name);
            return;
        }
        turn.gone.insert(name.to_owned());
        // Where nobody could write for a while, it lives, and holds on to what it has.
        let waits_until = self.own.missed_at.map(|at| at + self.ttl).filter(|until| *until > now);
        self.gone.entry(name.to_owned()).or_insert(waits_until.unwrap_or(now));
    }

    /// What is to be done.
    pub(super) fn plan(&mut self, turn: &Turn, busy: &BTreeSet<Shard>, now: Instant) -> Vec<Step> {
        let living: Vec<(&String, &OwnerRecord)> = turn
            .records
            .owners
            .iter()
            .filter(|(name, record)| {
                // One that cannot be read and is not renewed is no dispatcher's.
                let is_ghost =
                    record.owner.is_none() && self.others.get(*name).is_some_and(|seen| seen.is_overdue(self.ttl, now));
                !turn.gone.contains(*name) && !is_ghost
            })
            .collect();
        let is_alone = living.is_empty();
        let takes = |record: &OwnerRecord| !record.owner.as_ref().is_some_and(|owner| owner.takes_nothing);
        let taking = living.into_iter().filter(|(_, record)| takes(record));
        let mut names: BTreeSet<String> = taking.map(|(name, _)| name.clone()).collect();
        let has_others = !names.is_empty();
        if self.readiness.is_at_work() {
            names.insert(self.name.clone());
        }
        let overdue = self.unclear.iter().filter(|(_, seen)| seen.is_overdue(self.ttl, now));
        let long_unclear = overdue.map(|(shard, _)| *shard).collect();
        self.preferences.prepare(names, turn.records.all_shards());
        let gone = self.gone.iter().filter(|(name, _)| turn.gone.contains(*name));
        let gone = gone.map(|(name, at)| (name.clone(), *at)).collect();
        let preferred = |shard: Shard| self.preferences.by_shard.get(&shard).map(String::as_str);
        let dispatchers =
            Dispatchers { preferred: &preferred, has_others, is_alone, long_unclear: &long_unclear, gone: &gone };
        let me = Me { name: &self.name, revision: self.own_revision(), ttl: self.ttl, readiness: self.readiness, busy };
        plan(&turn.records, &dispatchers, &self.held, &me, now)
    }

    /// A step begins. Answers how often the own key was lost before it.
    pub(super) fn begin(&mut self, step: &Step, now: Instant) -> u64 {
        match step {
            Step::End(shard) => {
                self.set(*shard, Stage::Ending);
                self.held.entry(*shard).and_modify(|held| held.ended_at = Some(now));
            }
            Step::KeepOn(shard) => {
                self.set(*shard, Stage::Working);
                // Lanes that have ended already are started by the next listing.
                self.held.entry(*shard).and_modify(|held| held.taken_at = now);
            }
            Step::GiveBack { shard, .. } | Step::StopWorking(shard) => drop(self.held.remove(shard)),
            Step::Withdraw => {
                if let Readiness::Failing { listed_at, .. } = self.readiness {
                    self.readiness = Readiness::Withdrawn { listed_at: Some(listed_at) };
                }
            }
            Step::Leave { .. } => self.leave(),
            Step::Take { .. } | Step::Confirm { .. } => {}
        }
        self.own.losses
    }

    fn set(&mut self, shard: Shard, stage: Stage) {
        if let Some(held) = self.held.get_mut(&shard) {
            held.stage = stage;
        }
    }

    /// The own key is going to be removed: nothing is held any more.
    pub(super) fn leave(&mut self) {
        self.held.clear();
        self.own.is_alive = false;
        self.own.losses += 1;
        self.own.must_look_up = true;
    }

    /// A shard was written, or not, by a step that began after so many losses of the own key.
    pub(super) fn written(&mut self, step: &Step, losses: u64, written: Written, now: Instant) {
        let stage = if losses == self.own.losses { Stage::Working } else { Stage::Unconfirmed };
        self.conflicts.in_this_turn |= written == Written::Conflict;
        match (step, written) {
            (Step::Take { shard, takeover, .. }, Written::Ok(revision)) => {
                let takeover = takeover.clone();
                self.held.insert(*shard, Held { revision, takeover, stage, taken_at: now, ended_at: None });
            }
            (Step::Confirm { shard, .. }, Written::Ok(revision)) => {
                if let Some(held) = self.held.get_mut(shard) {
                    (held.revision, held.stage) = (revision, stage);
                }
            }
            (Step::Confirm { shard, .. }, Written::Conflict | Written::Unanswered) => drop(self.held.remove(shard)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
