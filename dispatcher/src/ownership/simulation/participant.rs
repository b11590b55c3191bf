//! A dispatcher in a simulated run: its ledger, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::Shard;
use tokio::time::Instant;

use super::super::ledger::{Ledger, Turn};
use super::super::plan::Step;
use super::super::record::Records;

/// What a request is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Renew {
        sent_at: u64,
    },
    LookUp,
    /// Of a turn.
    Write {
        step: Step,
        losses: u64,
    },
    List,
    RemoveDead {
        name: String,
    },
    Ask {
        name: String,
    },
    /// Of the end.
    RemoveOwn,
    LookUpOwn,
    GiveBack,
}

/// How far a turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Between,
    Confirming,
    Listing,
    Removing,
    Asking,
    Writing,
}

/// What runs, and what of it is told to others.
pub(super) struct Participant {
    pub(super) name: String,
    pub(super) ledger: Ledger,
    pub(super) is_running: bool,
    pub(super) is_leaving: bool,
    /// Its lanes end, and it gives up one shard after the other.
    pub(super) is_shutting_down: bool,
    /// It has: only what is under way is waited for.
    pub(super) has_left: bool,
    pub(super) is_noticed_dead: bool,
    pub(super) stalled_until: u64,
    /// By how much its wall clock is ahead.
    pub(super) wall_ms: i64,
    pub(super) waits_for: BTreeMap<u64, Purpose>,
    pub(super) phase: Phase,
    /// How many requests of the phase are under way.
    pub(super) under_way: usize,
    pub(super) records: Option<Records>,
    pub(super) dead: BTreeSet<String>,
    pub(super) turn: Option<Turn>,
    /// Tells a turn that was planned for later from the next one.
    pub(super) turns: u64,
    /// The same, for renewals.
    pub(super) renewals: u64,
    /// Shards whose lanes run.
    pub(super) running: BTreeSet<Shard>,
    /// Those of them in which all lanes but one that hangs have ended.
    pub(super) quiet: BTreeSet<Shard>,
    pub(super) listed_at: Option<u64>,
    pub(super) failing_since: Option<u64>,
    pub(super) lists: u64,
    /// What lanes have been told: until when, and in which shards, they may push.
    pub(super) lease_until: u64,
    pub(super) lease_shards: BTreeSet<Shard>,
    pub(super) lease_bits: u64,
    pub(super) running_bits: u64,
}

impl Participant {
    pub(super) fn new(number: usize, ttl: Duration) -> Self {
        let name = format!("d{number}");
        Self {
            ledger: Ledger::new(name.clone(), ttl),
            name,
            is_running: true,
            is_leaving: false,
            is_shutting_down: false,
            has_left: false,
            is_noticed_dead: false,
            stalled_until: 0,
            wall_ms: 0,
            waits_for: BTreeMap::new(),
            phase: Phase::Between,
            under_way: 0,
            records: None,
            dead: BTreeSet::new(),
            turn: None,
            turns: 0,
            renewals: 0,
            running: BTreeSet::new(),
            quiet: BTreeSet::new(),
            listed_at: None,
            failing_since: None,
            lists: 0,
            lease_until: 0,
            lease_shards: BTreeSet::new(),
            lease_bits: 0,
            running_bits: 0,
        }
    }

    /// What lanes are told.
    pub(super) fn publish(&mut self, began: Instant) {
        let (until, shards) = self.ledger.lease();
        let ms = |until: Instant| u64::try_from(until.duration_since(began).as_millis()).unwrap();
        self.lease_until = until.map_or(0, ms);
        self.lease_bits = bits(&shards);
        self.lease_shards = shards;
    }

    /// Lanes have begun or ended.
    pub(super) fn count_running(&mut self) {
        self.running_bits = bits(&self.running) & !bits(&self.quiet);
    }

    /// What was under way is not waited for any more.
    pub(super) fn forget_requests(&mut self) {
        self.waits_for.clear();
        (self.phase, self.under_way) = (Phase::Between, 0);
        self.turns += 1;
        self.renewals += 1;
    }

    /// The shards in which it may push at a moment, a bit for each.
    pub(super) fn may_push(&self, now: u64) -> u64 {
        let may_push = self.is_running && self.stalled_until <= now && now < self.lease_until;
        if may_push { self.lease_bits } else { 0 }
    }
}

/// A bit for each shard, the first of all first.
fn bits(shards: &BTreeSet<Shard>) -> u64 {
    let bit = |shard: &Shard| Shard::all().position(|other| other == *shard).map_or(0, |at| 1 << at);
    shards.iter().fold(0, |bits, shard| bits | bit(shard))
}
