//! One simulated run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use domain::Shard;
use tokio::time::Instant;

use super::super::record::Records;
use super::bucket::{Bucket, Key, Op, Reply, Value};
use super::faults::{Blow, Schedule, Weather};
use super::participant::Participant;
use super::promises::Broken;
use super::random::Random;

const DISPATCHERS: usize = 10;
pub(super) const SHARDS: usize = 6;
pub(super) const FAULTS_FROM: u64 = 6_000;
const FAULTS_TO: u64 = 30_000;
const END: u64 = 72_000;
/// How often a dispatcher looks at the bucket.
pub(super) const INTERVAL: u64 = 1_000;
/// How often it is looked whether all promises are kept, at least.
const LOOK_INTERVAL: u64 = 100;
/// How long all lanes may take to end at the end, before shards are given up one by one, and then in all.
const LEAVING_PATIENCE: u64 = 200;
const GRACE: u64 = 10_000;
/// How long a listing takes that fails.
pub(super) const LISTING_FAILS_AFTER: u64 = 4_000;

/// A run that kept all promises.
pub(super) struct Run {
    pub(super) events: u64,
    pub(super) longest_silence: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Renew(usize, u64),
    Turn(usize, u64),
    Arrive { of: usize, id: u64, op: Op, is_late: bool },
    Answer { of: usize, id: u64, reply: Reply },
    Expire { of: usize, id: u64 },
    List(usize, u64),
    Listed { of: usize, number: u64, began: u64, is_listed: bool },
    LanesEnd(usize, Shard),
    HandOver(usize),
    Left(usize),
    Blow(Blow),
    Look,
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

pub(super) struct World {
    pub(super) began: Instant,
    pub(super) weather: Weather,
    pub(super) ttl: u64,
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) schedule: Schedule,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(super) events: u64,
    pub(super) requests: u64,
    pub(super) bucket: Bucket,
    pub(super) old: Option<(u64, Records)>,
    pub(super) participants: Vec<Participant>,
    pub(super) shards: Vec<Shard>,
    /// When each of them was worked on last.
    pub(super) worked_at: Vec<u64>,
    /// Until when something was wrong.
    pub(super) wrong_until: u64,
    pub(super) longest_silence: u64,
    pub(super) log: Vec<String>,
    pub(super) is_logging: bool,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let mut random = Random::new(seed);
        let shards: Vec<Shard> = Shard::all().take(SHARDS).collect();
        let schedule = Schedule::random(&mut random, weather, FAULTS_FROM, FAULTS_TO, DISPATCHERS);
        let mut world = Self {
            began: Instant::now(),
            weather,
            ttl: random.between(4, 8) * 1_000,
            now: 0,
            queue: BinaryHeap::new(),
            events: 0,
            requests: 0,
            bucket: Bucket::new(shards.clone(), random.between(2_000, 60_000)),
            old: None,
            participants: Vec::new(),
            worked_at: vec![0; SHARDS],
            shards,
            wrong_until: 0,
            longest_silence: 0,
            log: Vec::new(),
            is_logging: std::env::var_os("MER_SIMULATION_LOG").is_some(),
            schedule,
            random,
        };
        for (blow, at) in world.schedule.blows.clone() {
            world.at(at, Event::Blow(blow));
        }
        (0..DISPATCHERS).for_each(|_| world.join());
        world.at(0, Event::Look);
        world
    }

    /// Goes through it.
    pub(super) fn run(mut self) -> Result<Run, Broken> {
        while let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() {
            if at > END {
                break;
            }
            self.now = at;
            self.events += 1;
            self.happens(event);
            self.check()?;
        }
        Ok(Run { events: self.events, longest_silence: self.longest_silence })
    }

    pub(super) fn instant(&self, at: u64) -> Instant {
        self.began + Duration::from_millis(at)
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.push(Reverse(Scheduled { at, number: self.events, event }));
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.is_logging {
            self.log.push(format!("{:>6} {}", self.now, what()));
        }
    }

    fn join(&mut self) {
        let number = self.participants.len();
        self.participants.push(Participant::new(number, Duration::from_millis(self.ttl)));
        let soon = self.now + self.random.between(1, 50);
        self.at(soon, Event::List(number, 0));
        self.at(soon, Event::Renew(number, 0));
        self.at(soon, Event::Turn(number, 0));
    }

    fn happens(&mut self, event: Event) {
        // A process that stands still finds all that has come when it goes on.
        let of = match &event {
            Event::Renew(of, _) | Event::Turn(of, _) | Event::List(of, _) | Event::LanesEnd(of, _) => Some(*of),
            Event::HandOver(of) | Event::Left(of) => Some(*of),
            Event::Answer { of, .. } | Event::Expire { of, .. } | Event::Listed { of, .. } => Some(*of),
            Event::Arrive { .. } | Event::Blow(_) | Event::Look => None,
        };
        if let Some(participant) = of.map(|of| &self.participants[of]) {
            if !participant.is_running {
                return;
            }
            if participant.stalled_until > self.now {
                let until = participant.stalled_until;
                return self.at(until, event);
            }
        }
        match event {
            Event::Renew(of, number) if self.participants[of].renewals == number => self.renew(of),
            Event::Renew(..) => {}
            Event::Turn(of, number) if self.participants[of].turns == number => self.turn(of),
            Event::Turn(..) => {}
            Event::Arrive { of, id, op, is_late } => self.arrive(of, id, &op, is_late),
            Event::Answer { of, id, reply } => self.answered(of, id, Some(reply)),
            Event::Expire { of, id } => self.answered(of, id, None),
            Event::List(of, number) if self.participants[of].lists == number => self.list(of),
            Event::List(..) => {}
            Event::Listed { of, number, began, is_listed } => self.listed(of, number, began, is_listed),
            Event::LanesEnd(of, shard) => {
                let participant = &mut self.participants[of];
                if participant.is_shutting_down || !participant.ledger.owned().contains_key(&shard) {
                    participant.running.remove(&shard);
                    participant.quiet.remove(&shard);
                    participant.count_running();
                }
                if participant.is_shutting_down && participant.running.is_empty() {
                    self.leave(of);
                }
            }
            Event::HandOver(of) => self.hand_over(of),
            Event::Left(of) => self.leave(of),
            Event::Blow(blow) => self.strike(blow),
            Event::Look => self.at(self.now + LOOK_INTERVAL, Event::Look),
        }
    }

    fn strike(&mut self, blow: Blow) {
        self.note(|| format!("{blow:?}"));
        let is_there = |of: usize| self.participants[of].is_running && !self.participants[of].is_leaving;
        match blow {
            Blow::Stall { of, for_ms } if is_there(of) => {
                self.participants[of].stalled_until = self.now + for_ms;
                self.wrong_until = self.wrong_until.max(self.now + for_ms);
            }
            Blow::ClockStep { of, by_ms } => self.participants[of].wall_ms += by_ms,
            Blow::Kill { of, is_noticed } if is_there(of) => {
                let participant = &mut self.participants[of];
                (participant.is_running, participant.is_noticed_dead) = (false, is_noticed);
                self.wrong_until = self.wrong_until.max(self.now);
            }
            Blow::Leave { of } if is_there(of) => {
                let participant = &mut self.participants[of];
                participant.is_leaving = true;
                participant.turns += 1;
                let ended = self.now + self.random.between(1, 300);
                self.at(ended, Event::Left(of));
            }
            Blow::LeaveSlowly { of } if is_there(of) => {
                self.begins_anew();
                let participant = &mut self.participants[of];
                (participant.is_leaving, participant.is_shutting_down) = (true, true);
                participant.forget_requests();
                let renewal = participant.renewals;
                let running: Vec<Shard> = participant.running.iter().copied().collect();
                let hangs = self.random.between(0, 3) as usize;
                for (at, shard) in running.into_iter().enumerate() {
                    let takes =
                        if at == hangs { self.random.between(500, 12_000) } else { self.random.between(1, 150) };
                    self.at(self.now + takes, Event::LanesEnd(of, shard));
                }
                self.at(self.now, Event::Renew(of, renewal));
                self.at(self.now + LEAVING_PATIENCE, Event::HandOver(of));
                self.at(self.now + GRACE, Event::Left(of));
            }
            Blow::Join => self.join(),
            Blow::Junk => {
                let key = Key::Owner("junk".to_owned());
                let Reply::Got(expected, _) = self.bucket.apply(&Op::Get(key.clone()), self.now) else { return };
                self.bucket.apply(&Op::Put { key, value: Value::Junk, expected, ttl: None }, self.now);
                self.wrong_until = self.wrong_until.max(self.now);
            }
            Blow::Stall { .. } | Blow::Kill { .. } | Blow::Leave { .. } | Blow::LeaveSlowly { .. } => {}
        }
    }
}

impl World {
    /// One leaves in good order: a shard that nobody works on just then, as one before has left it, may have been about to
    /// become its own.
    fn begins_anew(&mut self) {
        let is_idle = |worked_at: &&mut u64| self.now - **worked_at > 2 * LOOK_INTERVAL;
        if self.weather == Weather::Fair {
            self.worked_at.iter_mut().filter(is_idle).for_each(|worked_at| *worked_at = self.now);
        }
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}
