//! What dispatchers do in a simulated run: as `shard_ownership` and the supervisor do it.

use std::collections::BTreeSet;

use domain::{Shard, Stamp};

use super::super::ledger::{Renewal, Written};
use super::super::plan::Step;
use super::super::process::Process;
use super::super::record::{Owner, Records};
use super::bucket::{Key, Op, Reply, Value};
use super::faults::Fault;
use super::participant::{Phase, Purpose};
use super::world::{Event, INTERVAL, LISTING_FAILS_AFTER, World};

const RELEASE_INTERVAL: u64 = 50;
const LISTING_INTERVAL: u64 = 30_000;
const LISTING_TAKES: u64 = 20;

impl World {
    pub(super) fn take_in_listings(&mut self, of: usize) {
        let (listed_at, failing_since) = (self.participants[of].listed_at, self.participants[of].failing_since);
        let (listed_at, failing_since) =
            (listed_at.map(|at| self.instant(at)), failing_since.map(|at| self.instant(at)));
        self.participants[of].ledger.subscriptions(listed_at, failing_since);
    }

    pub(super) fn renew(&mut self, of: usize) {
        if self.participants[of].has_left {
            return;
        }
        self.take_in_listings(of);
        let number = self.participants[of].renewals;
        let now = self.instant(self.now);
        let key = Key::Owner(self.participants[of].name.clone());
        match self.participants[of].ledger.renewal(now) {
            Renewal::None => self.at(self.now + 50, Event::Renew(of, number)),
            Renewal::At(at) => {
                let at = u64::try_from(at.duration_since(self.began).as_millis()).unwrap();
                self.at(at.max(self.now + 1), Event::Renew(of, number));
            }
            Renewal::BeginAnew => unreachable!("no bucket here refuses for so long"),
            Renewal::LookUp => self.send(of, Op::Get(key), Purpose::LookUp),
            Renewal::Put { revision } => {
                let wall = self.participants[of].wall_ms + i64::try_from(self.now).unwrap();
                let since = Stamp::from_micros(wall * 1_000);
                self.participants[of].ledger.renewal_sent(since);
                let takes_nothing = self.participants[of].ledger.takes_nothing();
                let value = Value::Owner(Owner { process: Process::unknown(), since, takes_nothing });
                let op = Op::Put { key, value, expected: revision, ttl: Some(self.ttl) };
                self.send(of, op, Purpose::Renew { sent_at: self.now });
            }
        }
    }

    pub(super) fn turn(&mut self, of: usize) {
        let participant = &mut self.participants[of];
        participant.turns += 1;
        participant.phase = Phase::Confirming;
        self.take_in_listings(of);
        let unconfirmed = self.participants[of].ledger.confirmations();
        self.carry_out(of, &unconfirmed);
        self.go_on(of);
    }

    /// Goes on with a turn, if nothing of it is under way.
    pub(super) fn go_on(&mut self, of: usize) {
        while self.participants[of].under_way == 0 {
            match self.participants[of].phase {
                Phase::Between => return,
                Phase::Confirming => {
                    self.participants[of].phase = Phase::Listing;
                    self.ask(of, Op::List, Purpose::List);
                }
                Phase::Listing => {
                    let Some(records) = &self.participants[of].records else { return self.end_turn(of) };
                    let dead: Vec<(String, u64)> = self.dead_among(records);
                    let participant = &mut self.participants[of];
                    participant.phase = Phase::Removing;
                    participant.dead.clear();
                    for (name, expected) in dead {
                        let op = Op::Put { key: Key::Owner(name.clone()), value: Value::Marker, expected, ttl: None };
                        self.ask(of, op, Purpose::RemoveDead { name });
                    }
                }
                Phase::Removing => {
                    let now = self.instant(self.now);
                    let participant = &mut self.participants[of];
                    let Some(records) = participant.records.take() else { return self.end_turn(of) };
                    let turn = participant.ledger.listed(records, &participant.dead, now);
                    participant.phase = Phase::Asking;
                    let questions = turn.questions.clone();
                    participant.turn = Some(turn);
                    for name in questions {
                        self.ask(of, Op::Get(Key::Owner(name.clone())), Purpose::Ask { name });
                    }
                }
                Phase::Asking => {
                    let now = self.instant(self.now);
                    let participant = &mut self.participants[of];
                    let Some(turn) = participant.turn.take() else { return self.end_turn(of) };
                    let steps = participant.ledger.plan(&turn, &participant.running, now);
                    participant.phase = Phase::Writing;
                    self.carry_out(of, &steps);
                }
                Phase::Writing => return self.end_turn(of),
            }
        }
    }

    pub(super) fn dead_among(&self, records: &Records) -> Vec<(String, u64)> {
        let is_dead = |name: &str| self.participants.iter().any(|other| other.name == name && other.is_noticed_dead);
        let dead = records.owners.iter().filter(|(name, _)| is_dead(name));
        dead.map(|(name, record)| (name.clone(), record.revision)).collect()
    }

    pub(super) fn ask(&mut self, of: usize, op: Op, purpose: Purpose) {
        self.participants[of].under_way += 1;
        self.send(of, op, purpose);
    }

    pub(super) fn end_turn(&mut self, of: usize) {
        let participant = &mut self.participants[of];
        participant.phase = Phase::Between;
        let interval = if participant.ledger.is_ending_any() { RELEASE_INTERVAL } else { INTERVAL };
        let number = participant.turns;
        if !participant.is_leaving || participant.is_shutting_down && !participant.has_left {
            self.at(self.now + interval, Event::Turn(of, number));
        }
    }

    pub(super) fn carry_out(&mut self, of: usize, steps: &[Step]) {
        let name = self.participants[of].name.clone();
        let now = self.instant(self.now);
        let begun: Vec<(Step, u64)> =
            steps.iter().map(|step| (step.clone(), self.participants[of].ledger.begin(step, now))).collect();
        self.publish(of);
        for (step, losses) in begun {
            self.note(|| format!("{name} {step:?}"));
            let op = match &step {
                Step::Take { shard, revision, .. } | Step::Confirm { shard, revision } => Op::Put {
                    key: Key::Shard(*shard),
                    value: Value::Shard(Some(name.clone())),
                    expected: *revision,
                    ttl: None,
                },
                Step::GiveBack { shard, revision } => {
                    Op::Put { key: Key::Shard(*shard), value: Value::Shard(None), expected: *revision, ttl: None }
                }
                Step::Withdraw => {
                    self.says_so_at_once(of);
                    continue;
                }
                Step::Leave { revision } => {
                    Op::Put { key: Key::Owner(name.clone()), value: Value::Marker, expected: *revision, ttl: None }
                }
                _ => continue,
            };
            self.ask(of, op, Purpose::Write { step, losses });
        }
    }

    /// The own key is written at once, unless that is under way.
    fn says_so_at_once(&mut self, of: usize) {
        let participant = &mut self.participants[of];
        let is_renewal = |purpose: &Purpose| matches!(purpose, Purpose::Renew { .. } | Purpose::LookUp);
        if !participant.waits_for.values().any(is_renewal) {
            participant.renewals += 1;
            let number = participant.renewals;
            self.at(self.now, Event::Renew(of, number));
        }
    }

    pub(super) fn answered(&mut self, of: usize, id: u64, reply: Option<Reply>) {
        let Some(purpose) = self.participants[of].waits_for.remove(&id) else { return };
        let (now, number) = (self.instant(self.now), self.participants[of].renewals);
        let began = self.began;
        let participant = &mut self.participants[of];
        let mut is_of_turn = true;
        match (purpose, reply) {
            (Purpose::Renew { sent_at }, reply) => {
                self.renewal_answered(of, sent_at, reply);
                self.at(self.now, Event::Renew(of, number));
                is_of_turn = false;
            }
            (Purpose::LookUp, reply) => {
                if let Some(Reply::Got(revision, value)) = reply {
                    let stamp = match value {
                        Some(Value::Owner(owner)) => Some(owner.since),
                        _ => None,
                    };
                    let is_lost = participant.ledger.looked_up(revision, stamp);
                    participant.publish(began);
                    if is_lost {
                        self.note(|| format!("d{of} lost"));
                    }
                }
                self.at(self.now, Event::Renew(of, number));
                is_of_turn = false;
            }
            (Purpose::Write { step, losses }, reply) => {
                let written = match reply {
                    Some(Reply::Stored(revision)) => Written::Ok(revision),
                    Some(_) => Written::Conflict,
                    None => Written::Unanswered,
                };
                participant.ledger.written(&step, losses, written, now);
                self.publish(of);
            }
            (Purpose::List, Some(Reply::Listed(records))) => participant.records = Some(records),
            (Purpose::RemoveDead { name }, Some(_)) => drop(participant.dead.insert(name)),
            (Purpose::Ask { name }, Some(Reply::Got(_, value))) => {
                if let Some(turn) = &mut participant.turn {
                    participant.ledger.answered(turn, &name, value.is_some(), now);
                }
            }
            (Purpose::RemoveOwn, Some(Reply::Conflict)) => {
                let key = Key::Owner(participant.name.clone());
                self.send(of, Op::Get(key), Purpose::LookUpOwn);
                is_of_turn = false;
            }
            (Purpose::LookUpOwn, Some(Reply::Got(expected, Some(_)))) => {
                let key = Key::Owner(participant.name.clone());
                self.send(of, Op::Put { key, value: Value::Marker, expected, ttl: None }, Purpose::RemoveOwn);
                is_of_turn = false;
            }
            (Purpose::RemoveOwn | Purpose::LookUpOwn | Purpose::GiveBack, _) => is_of_turn = false,
            (Purpose::List | Purpose::RemoveDead { .. } | Purpose::Ask { .. }, _) => {}
        }
        if is_of_turn {
            self.participants[of].under_way -= 1;
            self.go_on(of);
        }
    }

    pub(super) fn renewal_answered(&mut self, of: usize, sent_at: u64, reply: Option<Reply>) {
        let sent = self.instant(sent_at);
        let began = self.began;
        let participant = &mut self.participants[of];
        match reply {
            Some(Reply::Stored(revision)) => {
                if participant.ledger.renewed(sent, revision)
                    && participant.phase == Phase::Between
                    && !participant.is_leaving
                {
                    let number = participant.turns;
                    self.at(self.now, Event::Turn(of, number));
                }
                self.participants[of].publish(began);
            }
            Some(_) => {}
            None => participant.ledger.renewal_missed(sent),
        }
    }

    /// Tells lanes and their supervisor what holds now.
    pub(super) fn publish(&mut self, of: usize) {
        let before: BTreeSet<Shard> = self.participants[of].ledger.owned().into_keys().collect();
        let began = self.began;
        let participant = &mut self.participants[of];
        participant.publish(began);
        let owned = before;
        if participant.is_shutting_down {
            return;
        }
        let is_new =
            owned.iter().any(|shard| !participant.running.contains(shard) || participant.quiet.contains(shard));
        let is_ending = |shard: &&Shard| !owned.contains(shard) && !participant.quiet.contains(shard);
        let ending: Vec<Shard> = participant.running.iter().filter(is_ending).copied().collect();
        let lost: BTreeSet<Shard> =
            ending.iter().filter(|shard| !participant.lease_shards.contains(shard)).copied().collect();
        for shard in ending {
            // Lanes that were lost are cut off; others have a request under way, some of them a slow one.
            let takes = match self.random.between(0, 20) {
                _ if lost.contains(&shard) => 20,
                0 => self.random.between(1_000, 20_000),
                _ => self.random.between(1, 300),
            };
            self.at(self.now + takes, Event::LanesEnd(of, shard));
            let participant = &mut self.participants[of];
            // Meanwhile all its other lanes have ended. One that cannot list has nobody to start them again.
            if takes > 300 && participant.ledger.is_at_work() {
                participant.quiet.insert(shard);
                participant.count_running();
            }
        }
        if is_new {
            self.participants[of].lists += 1;
            let number = self.participants[of].lists;
            self.at(self.now, Event::List(of, number));
        }
    }

    pub(super) fn list(&mut self, of: usize) {
        self.participants[of].lists += 1;
        let number = self.participants[of].lists;
        let is_listed = !self.faults().contains(&Fault::NoListing { of });
        let takes = if is_listed { LISTING_TAKES } else { LISTING_FAILS_AFTER };
        self.at(self.now + takes, Event::Listed { of, number, began: self.now, is_listed });
    }

    pub(super) fn listed(&mut self, of: usize, number: u64, began: u64, is_listed: bool) {
        let participant = &mut self.participants[of];
        if is_listed {
            (participant.listed_at, participant.failing_since) = (Some(began), None);
            let owned = participant.ledger.owned();
            if !participant.is_shutting_down {
                participant.quiet.retain(|shard| !owned.contains_key(shard));
                participant.running.extend(owned.into_keys());
            }
            participant.count_running();
        } else {
            participant.failing_since.get_or_insert(began);
        }
        if participant.lists == number {
            let pause = if is_listed { LISTING_INTERVAL } else { 250 };
            self.at(self.now + pause, Event::List(of, number));
        }
    }

    /// A dispatcher was told to stop, and has a target that hangs: it goes on giving up what its lanes are done with.
    pub(super) fn hand_over(&mut self, of: usize) {
        let participant = &mut self.participants[of];
        if participant.has_left {
            return;
        }
        participant.ledger.leaves();
        participant.forget_requests();
        let (turn, renewal) = (participant.turns, participant.renewals);
        self.at(self.now, Event::Turn(of, turn));
        self.at(self.now, Event::Renew(of, renewal));
    }

    /// A dispatcher leaves in good order: its lanes have ended, or were cut off.
    pub(super) fn leave(&mut self, of: usize) {
        let participant = &mut self.participants[of];
        if participant.has_left {
            return;
        }
        participant.forget_requests();
        let busy =
            if participant.is_shutting_down { std::mem::take(&mut participant.running) } else { BTreeSet::new() };
        participant.running.clear();
        participant.count_running();
        participant.has_left = true;
        let name = participant.name.clone();
        let held = participant.ledger.held().iter().filter(|(shard, _)| !busy.contains(shard));
        let held: Vec<(Shard, u64)> = held.map(|(shard, held)| (*shard, held.revision)).collect();
        let revision = participant.ledger.own_revision();
        participant.ledger.leave();
        self.publish(of);
        if let Some(expected) = revision {
            let op = Op::Put { key: Key::Owner(name), value: Value::Marker, expected, ttl: None };
            self.send(of, op, Purpose::RemoveOwn);
        }
        for (shard, expected) in held {
            let op = Op::Put { key: Key::Shard(shard), value: Value::Shard(None), expected, ttl: None };
            self.send(of, op, Purpose::GiveBack);
        }
    }
}
