//! A run's operations, from its seed.

use clap::ValueEnum;
use serde::Serialize;

use crate::history::{Delivery, Mode, OnExhausted, Url};
use crate::operation::{Answer, Call, Entry, Operation, Post, Said, Start, Trouble};
use crate::random::Random;

pub(crate) const URLS: usize = 4;
pub(crate) const KINDS: [&str; 4] = ["a.x", "a.y", "b.x", "b.y.z"];
const PATTERNS: [&str; 9] = ["a.x", "a.y", "b.x", "b.y.z", "a.*", "a.>", "b.>", "*.x", ">"];
const TRANSACTIONS: u64 = 3;
const BEYOND_LEASE_MS: u64 = 4_500;
/// What a limit leaves of the log, where a run has one.
const LIMITS: [u64; 3] = [15, 30, 60];
/// Requests per second. Slower ones would not come to an end at rest.
const RATES: [u64; 2] = [10, 20];
/// How long a target may take. Shorter ones would not be kept on a busy machine.
const TIMEOUTS_MS: [u64; 2] = [1_500, 3_000];

/// Parts of the model that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub(crate) enum Part {
    Kills,
    Second,
    Limits,
    Replays,
    Resumes,
    Batched,
    Concurrent,
    Counts,
    Required,
    Overlaps,
    Attempts,
    AtOnce,
    Removals,
    Hangs,
}

/// What one run is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// `MER_EVENTS_MAX_COUNT`, in place of none.
    pub(crate) limit: Option<u64>,
    pub(crate) operations: Vec<Operation>,
}

struct Planner<'a> {
    random: Random,
    without: &'a [Part],
    has_trouble: bool,
    /// A second dispatcher runs from the beginning.
    has_second: bool,
    /// What each URL is mostly registered for: so that words meet words of the same pattern.
    usual: Vec<Vec<&'static str>>,
}

/// The plan of a seed.
pub(crate) fn of(seed: u64, operations: usize, without: &[Part]) -> Plan {
    let mut random = Random::new(seed);
    let has_trouble = random.percent(50) && !without.contains(&Part::Kills);
    let has_second = has_trouble && random.percent(40) && !without.contains(&Part::Second);
    // A limit beside two dispatchers would be rare otherwise.
    let limited = if has_second { 30 } else { 15 };
    let limit = (random.percent(limited) && !without.contains(&Part::Limits)).then(|| random.one_of(&LIMITS));
    let among = if without.contains(&Part::Overlaps) { KINDS.len() } else { PATTERNS.len() };
    let usual = (0..URLS).map(|_| (0..3).map(|_| random.one_of(&PATTERNS[..among])).collect()).collect();
    let mut planner = Planner { random, without, has_trouble, has_second, usual };
    let mut planned = Vec::new();
    if has_second {
        planned.push(Operation::Trouble(Trouble::SecondBegins));
    }
    for url in 0..URLS {
        if planner.random.percent(60) {
            planned.push(Operation::Call(url, planner.register(url)));
        }
    }
    while planned.len() < operations {
        let next = planner.next();
        planned.extend(next);
    }
    Plan { seed, limit, operations: planned }
}

#[derive(Clone, Copy)]
enum Choice {
    Post,
    Batch,
    Call,
    Chain,
    AtOnce,
    Answer,
    Trouble,
    Breathe,
    Rest,
}

impl Planner<'_> {
    fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    fn url(&mut self) -> Url {
        usize::try_from(self.random.below(URLS as u64)).unwrap_or(0)
    }

    fn next(&mut self) -> Vec<Operation> {
        let trouble = if self.has_trouble { 4 } else { 0 };
        let at_once = if self.has(Part::AtOnce) { 5 } else { 0 };
        let choice = self.random.weighted(&[
            (30, Choice::Post),
            (12, Choice::Batch),
            (22, Choice::Call),
            (8, Choice::Chain),
            (at_once, Choice::AtOnce),
            (14, Choice::Answer),
            (trouble, Choice::Trouble),
            (12, Choice::Breathe),
            (2, Choice::Rest),
        ]);
        match choice {
            Choice::Post => vec![Operation::Post(self.post())],
            Choice::Batch => vec![self.batch()],
            Choice::Call => {
                let url = self.url();
                vec![Operation::Call(url, self.call(url))]
            }
            Choice::Chain => self.chain(),
            Choice::AtOnce => vec![self.at_once()],
            Choice::Answer => {
                let url = self.url();
                vec![self.answer(url)]
            }
            Choice::Trouble => vec![Operation::Trouble(self.trouble())],
            Choice::Breathe => vec![self.breathe()],
            Choice::Rest => vec![Operation::Rest],
        }
    }

    fn breathe(&mut self) -> Operation {
        Operation::Breathe(self.random.one_of(&[5, 20, 60, 150, 400]))
    }

    fn batch(&mut self) -> Operation {
        let most = self.random.one_of(&[3, 25]);
        let count = self.random.between(2, most);
        Operation::Batch((0..count).map(|_| self.post()).collect())
    }

    /// Several things in a row about one URL, most of them while its deliveries wait: what is asked for then meets.
    fn chain(&mut self) -> Vec<Operation> {
        let url = self.url();
        let mut chain = vec![self.batch(), self.breathe()];
        let is_paused = self.random.percent(60);
        chain.push(if is_paused { Operation::Call(url, Call::Pause) } else { self.answer(url) });
        for _ in 0..self.random.between(1, 4) {
            chain.push(match self.random.below(5) {
                0 => self.batch(),
                1 => self.answer(url),
                2 => Operation::Post(self.post()),
                _ => Operation::Call(url, self.call(url)),
            });
        }
        if is_paused {
            chain.push(Operation::Call(url, Call::Resume));
        }
        if self.has_trouble && self.random.percent(40) {
            // While its target does not take what was posted, and so with something under way.
            chain.push(Operation::Answer(url, Answer::Status(503), 4));
            chain.push(self.batch());
            chain.push(Operation::Breathe(20));
            chain.push(Operation::Trouble(self.trouble()));
        }
        chain
    }

    fn post(&mut self) -> Post {
        let transaction = self.random.percent(50).then(|| self.random.below(TRANSACTIONS));
        Post { kind: self.random.one_of(&KINDS).to_owned(), transaction, has_key: self.random.percent(40) }
    }

    fn pattern(&mut self, url: Url) -> String {
        let among = if self.has(Part::Overlaps) { PATTERNS.len() } else { KINDS.len() };
        let usual = self.random.percent(75).then(|| self.random.one_of(&self.usual[url]));
        usual.unwrap_or_else(|| self.random.one_of(&PATTERNS[..among])).to_owned()
    }

    fn said(&mut self) -> Said {
        if self.random.percent(20) {
            return Said { is_same: true, ..Said::default() };
        }
        let mut said = Said::default();
        if self.random.percent(15) {
            said.transaction = Some(self.random.below(TRANSACTIONS));
        }
        if self.random.percent(25) {
            let back = usize::try_from(self.random.below(30)).unwrap_or(0);
            said.start = Some(if self.random.percent(80) { Start::Back(back) } else { Start::In(600) });
        }
        if self.random.percent(7) {
            said.end_in_ms = Some(self.random.one_of(&[400, 1_500]));
        }
        if self.random.percent(15) && self.has(Part::Counts) {
            said.count = Some(self.random.between(1, 8));
        }
        said.requires = self.random.percent(12) && self.has(Part::Required);
        said.allow_gap = self.random.percent(10);
        said
    }

    fn entries(&mut self, url: Url) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let pattern = self.pattern(url);
            if entries.iter().all(|(named, _)| *named != pattern) {
                let said = self.said();
                entries.push((pattern, said));
            }
        }
        entries
    }

    fn register(&mut self, url: Url) -> Call {
        Call::Register(self.entries(url))
    }

    fn delivery(&mut self) -> Delivery {
        let batched = if self.has(Part::Batched) { 25 } else { 0 };
        let concurrent = if self.has(Part::Concurrent) { 15 } else { 0 };
        let modes = [(60, Mode::Ordered), (batched, Mode::Batched), (concurrent, Mode::Concurrent)];
        let mode = self.random.weighted(&modes);
        let rated = if self.has_second { 20 } else { 8 };
        let max_attempts = (self.random.percent(20) && self.has(Part::Attempts)).then(|| self.random.between(1, 3));
        Delivery {
            mode,
            batch_max_events: (mode == Mode::Batched).then(|| self.random.one_of(&[2, 5, 100])),
            concurrency: (mode == Mode::Concurrent).then(|| self.random.one_of(&[2, 8])),
            max_attempts,
            on_exhausted: match max_attempts {
                None => OnExhausted::Hold,
                Some(_) => self.random.one_of(&[
                    OnExhausted::Hold,
                    OnExhausted::DeadLetter,
                    OnExhausted::DeadLetter,
                    OnExhausted::Disable,
                ]),
            },
            rate_per_second: self.random.percent(rated).then(|| self.random.one_of(&RATES)),
            timeout_ms: self.random.percent(10).then(|| self.random.one_of(&TIMEOUTS_MS)),
        }
    }

    fn call(&mut self, url: Url) -> Call {
        let removals = if self.has(Part::Removals) { 1 } else { 0 };
        let replays = if self.has(Part::Replays) { 1 } else { 0 };
        match self.random.weighted(&[
            (8, 0),
            (3 * removals, 1),
            (3, 2),
            (2, 3),
            (4, 4),
            (removals, 5),
            (3, 6),
            (4, 7),
            (3 * replays, 8),
            (2 * replays, 9),
        ]) {
            0 => self.register(url),
            1 => Call::Unregister(vec![self.pattern(url)]),
            2 => Call::Put(self.entries(url), self.delivery()),
            3 => Call::PatchEvents(self.entries(url)),
            4 => Call::PatchDelivery(self.delivery()),
            5 => Call::Delete,
            6 => Call::Pause,
            7 => Call::Resume,
            8 => {
                let from = usize::try_from(self.random.below(40)).unwrap_or(0);
                Call::Replay(from, self.random.percent(30).then_some(from / 2))
            }
            _ => Call::Redrive(()),
        }
    }

    /// Two calls that come to the same in either order; or a call while something is posted.
    fn at_once(&mut self) -> Operation {
        let url = self.url();
        if self.random.percent(50) {
            let posts = (0..self.random.between(1, 5)).map(|_| self.post()).collect();
            return Operation::Meanwhile(url, self.call(url), posts);
        }
        let (one, mut other) = (self.pattern(url), self.pattern(url));
        while other == one {
            other = self.random.one_of(&PATTERNS[..KINDS.len()]).to_owned();
        }
        let first = Call::Register(vec![(one, self.said())]);
        let second = if self.random.percent(30) {
            Call::PatchDelivery(self.delivery())
        } else {
            Call::Register(vec![(other, self.said())])
        };
        Operation::AtOnce(url, first, second)
    }

    fn answer(&mut self, url: Url) -> Operation {
        let resumes = if self.has(Part::Resumes) { 1 } else { 0 };
        let hangs = if self.has(Part::Hangs) { 1 } else { 0 };
        let back = self.random.between(1, 12);
        let on = self.random.below(6);
        let answer = self.random.weighted(&[
            (5, Answer::Status(503)),
            (2, Answer::Status(500)),
            (2, Answer::Status(302)),
            (2, Answer::Status(404)),
            (2, Answer::Status(422)),
            (1, Answer::Status(410)),
            (3, Answer::Slow(back * 20)),
            (3, Answer::Closed),
            (2 * hangs, Answer::Hang),
            (3 * resumes, Answer::ResumeBack(back)),
            (3 * resumes, Answer::ResumeOn(on)),
            (resumes, Answer::ResumeBeyond),
        ]);
        let most = match answer {
            Answer::Slow(_) => 6,
            Answer::Status(410) | Answer::Hang => 1,
            Answer::ResumeBack(_) | Answer::ResumeOn(_) | Answer::ResumeBeyond => 2,
            _ => 4,
        };
        let times = u32::try_from(self.random.between(1, most)).unwrap_or(1);
        Operation::Answer(url, answer, times)
    }

    fn trouble(&mut self) -> Trouble {
        let ms = self.random.one_of(&[10, 100, 400]);
        let second = if self.has(Part::Second) { 1 } else { 0 };
        let beyond = if self.has_second { 3 } else { second };
        self.random.weighted(&[
            (5, Trouble::KillMer(ms)),
            (2, Trouble::FreezeMer(ms * 2)),
            // Beyond its lease, where another dispatcher can take over.
            (beyond, Trouble::FreezeMer(BEYOND_LEASE_MS)),
            (2, Trouble::KillNats(ms)),
            (2, Trouble::FreezeNats(ms)),
            (3 * second, Trouble::SecondBegins),
            (second, Trouble::SecondKilled),
            (second, Trouble::SecondEnds),
            (beyond, Trouble::FreezeSecond(BEYOND_LEASE_MS)),
        ])
    }
}
