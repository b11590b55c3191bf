//! Reads a history from its first line to its last, and says what is wrong with it. It knows nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::expectation::{Expectation, Owed};
use crate::facts::{Facts, LATE, Moment};
use crate::fault::{Fault, Kind};
use crate::history::{Delivery, Event, Item, Line, Mode, Said, Url, What};
use crate::marks;
use crate::rest;
use crate::words::{Register, Version};

/// A request that takes longer than this may have been given up, and made again; with a `timeout_ms`, half of that.
const PATIENCE_MS: u64 = 4_000;

/// What is wrong with a history; each kind of fault once for each event and URL.
pub(crate) fn check(lines: &[Line]) -> Vec<Fault> {
    let facts = Facts::of(lines);
    let mut checker = Checker {
        facts: &facts,
        urls: BTreeMap::new(),
        calls: BTreeMap::new(),
        requests: BTreeMap::new(),
        begun: BTreeMap::new(),
        faults: Vec::new(),
    };
    for (line, Line { at, what }) in lines.iter().enumerate() {
        checker.take_in(what, Moment { line, at: *at });
    }
    let end = Moment { line: lines.len(), at: lines.last().map_or(0, |line| line.at) };
    for expectation in checker.urls.values() {
        checker.faults.extend(rest::counts_over(&facts, expectation, end));
    }
    let mut seen = BTreeSet::new();
    checker.faults.retain(|fault| seen.insert((fault.kind, fault.url, fault.sequence)));
    checker.faults
}

struct Checker<'a> {
    facts: &'a Facts,
    urls: BTreeMap<Url, Expectation>,
    calls: BTreeMap<u32, Url>,
    /// Requests that are under way.
    requests: BTreeMap<u32, (Url, Moment, Vec<Item>)>,
    /// When requests began in the last second, by URL.
    begun: BTreeMap<Url, Vec<u64>>,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn url(&mut self, url: Url) -> &mut Expectation {
        self.urls.entry(url).or_insert_with(|| Expectation::new(url))
    }

    fn take_in(&mut self, what: &What, now: Moment) {
        let facts = self.facts;
        match what {
            What::Posted { event, .. } => {
                self.check_log(event, now);
                for expectation in self.urls.values_mut() {
                    expectation.enter(facts, &facts.events[&event.sequence], now);
                }
            }
            What::Called { call, url, ask } => {
                self.calls.insert(*call, *url);
                let known: Vec<u64> = facts.events.range(..).map(|(sequence, _)| *sequence).collect();
                let expectation = self.url(*url);
                for sequence in known {
                    let known = &facts.events[&sequence];
                    if known.posting.is_some_and(|(_, acknowledged)| acknowledged < now.line) {
                        expectation.enter(facts, known, now);
                    }
                }
                expectation.called(*call, ask, now);
            }
            What::Returned { call, is_taken, tries } => {
                let url = self.calls[call];
                self.url(url).returned(facts, *call, *is_taken, *tries, now);
            }
            What::Came { request, url, is_batch, items } => {
                self.came(*url, *is_batch, items, now);
                self.requests.insert(*request, (*url, now, items.clone()));
            }
            What::Answered { request, said } => self.answered(*request, *said, now),
            What::Letters { url, events } => {
                let expectation = self.urls.entry(*url).or_insert_with(|| Expectation::new(*url));
                self.faults.extend(rest::early_letters(facts, expectation, events, now));
            }
            What::Rest { statuses } => {
                for (url, status) in statuses.iter().enumerate() {
                    let expectation = self.urls.entry(url).or_insert_with(|| Expectation::new(url));
                    self.faults.extend(rest::check(facts, expectation, status.as_ref(), now));
                }
            }
            What::Unknown | What::Disturbed | What::Recovered | What::Gap { .. } | What::Log { .. } => {}
        }
    }

    fn check_log(&mut self, event: &Event, now: Moment) {
        let Some((looked, standing)) = &self.facts.standing else { return };
        if event.sequence >= self.facts.first && now.line < *looked && !standing.contains(&event.sequence) {
            self.add(Kind::NotInLog, 0, event.sequence, now, "it was acknowledged".into());
        }
        if self.facts.events[&event.sequence].event != *event {
            self.add(Kind::LogDiffers, 0, event.sequence, now, format!("{event:?} was acknowledged"));
        }
    }

    fn came(&mut self, url: Url, is_batch: bool, items: &[Item], now: Moment) {
        self.check_beside(url, items, now);
        let facts = self.facts;
        let expectation = self.url(url);
        let settings: Vec<_> = expectation.register.deliveries_at(facts, now).copied().collect();
        self.check_rate(url, &settings, items, now);
        let most = |settings: &[Delivery]| {
            let batched = settings.iter().filter(|settings| settings.mode == Mode::Batched);
            batched.map(|settings| settings.batch_max_events.unwrap_or(100)).max()
        };
        let fits = most(&settings).is_some_and(|most| items.len() as u64 <= most);
        if is_batch && !fits {
            let first = items.first().map_or(0, |item| item.event.sequence);
            self.add(Kind::WrongBatch, url, first, now, format!("{} events at once; {settings:?}", items.len()));
        }
        let first = items.first().map_or(0, |item| item.event.sequence);
        for (n, item) in items.iter().enumerate() {
            let before = n.checked_sub(1).map(|before| items[before].event.sequence);
            self.came_one(url, item, before, first, now);
        }
    }

    fn came_one(&mut self, url: Url, item: &Item, before: Option<u64>, first: u64, now: Moment) {
        let facts = self.facts;
        let sequence = item.event.sequence;
        let Some(known) = facts.events.get(&sequence) else {
            if facts.has_unknown && sequence < facts.first {
                return;
            }
            return self.add(Kind::Phantom, url, sequence, now, format!("{item:?}"));
        };
        let given = Event { has_key: known.event.has_key, ..item.event.clone() };
        if given != known.event || (known.event.has_key && !item.event.has_key) {
            self.add(Kind::Altered, url, sequence, now, format!("came: {:?}, stored: {:?}", item.event, known.event));
        }
        let expectation = self.url(url);
        expectation.enter(facts, known, now);
        let mut found = permission(facts, expectation, item, now);
        let is_one_by_one = expectation.is_one_by_one(facts, now);
        let overtaken = overtaken(facts, expectation, &known.event, first, is_one_by_one, now);
        if let Some((of, owed)) = overtaken {
            found.push((Kind::Overtook, of, format!("{sequence} came before it, though it is owed: {owed:?}")));
        }
        let is_named = match before {
            Some(before) => item.previous == before,
            None => expectation.may_name(facts, item.previous, now),
        };
        if is_one_by_one && !is_named {
            found.push((Kind::WrongPrevious, sequence, format!("it says {}", item.previous)));
        }
        if let Some(detail) = before.is_none().then(|| misnamed(facts, expectation, item, now)).flatten() {
            found.push((Kind::WrongPrevious, sequence, format!("it says {}, and {detail}", item.previous)));
        }
        if let Some(detail) = wrong_replay(facts, expectation, item, now) {
            found.push((Kind::WrongReplay, sequence, detail));
        }
        expectation.arrived.insert(sequence);
        for (kind, sequence, detail) in found {
            self.add(kind, url, sequence, now, detail);
        }
    }

    /// Checks a request against those that are under way, and those that were just before it.
    fn check_beside(&mut self, url: Url, items: &[Item], now: Moment) {
        let facts = self.facts;
        let expectation = self.url(url);
        let is_one_by_one = expectation.is_one_by_one(facts, now);
        let timeouts = expectation.register.deliveries_at(facts, now).filter_map(|settings| settings.timeout_ms);
        let patience = timeouts.map(|timeout| timeout / 2).min().unwrap_or(PATIENCE_MS);
        let is_beside = |(at, began, _): &&(Url, Moment, Vec<Item>)| *at == url && began.at + patience > now.at;
        let beside = self.requests.values().find(is_beside).map(|(_, began, items)| (*began, items.len()));
        if let Some((began, _)) = beside.filter(|_| is_one_by_one && !facts.may_be_lost(now.at)) {
            let first = items.first().map_or(0, |item| item.event.sequence);
            self.add(Kind::AtOnce, url, first, now, format!("another one began at line {}", began.line));
        }
    }

    /// Checks that no more requests begin in a second than the rate allows, twice: a limiter lets a second's worth through at once.
    fn check_rate(&mut self, url: Url, settings: &[Delivery], items: &[Item], now: Moment) {
        let begun = self.begun.entry(url).or_default();
        begun.retain(|at| at + 1_000 > now.at);
        begun.push(now.at);
        let count = begun.len() as u64;
        let most =
            settings.iter().map(|settings| settings.rate_per_second.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX);
        if count > most.saturating_mul(2).saturating_add(1) && !self.facts.may_be_lost(now.at) {
            let first = items.first().map_or(0, |item| item.event.sequence);
            self.add(Kind::TooFast, url, first, now, format!("{count} requests within a second; {most} asked for"));
        }
    }

    fn answered(&mut self, request: u32, said: Said, now: Moment) {
        let Some((url, _, mut items)) = self.requests.remove(&request) else { return };
        let facts = self.facts;
        let unknown = items.iter().map(|item| item.event.sequence).filter(|of| !facts.events.contains_key(of));
        let unknown: Vec<u64> = unknown.collect();
        items.retain(|item| facts.events.contains_key(&item.event.sequence));
        let expectation = self.url(url);
        let first = items.first().map_or(0, |item| item.event.sequence);
        let mut twice = Vec::new();
        let fail = |expectation: &mut Expectation| {
            for item in &items {
                *expectation.failures.entry(item.event.sequence).or_default() += 1;
            }
        };
        match said {
            Said::Status(200..300) => {
                unknown.into_iter().for_each(|sequence| expectation.had_unknown(sequence, now));
                let had = items.iter().map(|item| &item.event);
                twice.extend(had.filter(|event| expectation.had(facts, event, true, now)).map(|event| event.sequence));
            }
            Said::At(sequence) if sequence <= facts.end => {
                for item in items.iter().filter(|item| item.event.sequence <= sequence) {
                    expectation.had(facts, &item.event, false, now);
                }
                expectation.is_at(facts, sequence, first, now);
            }
            Said::Status(410) => {
                expectation.is_gone(facts, now);
                fail(expectation);
            }
            Said::At(_) => {
                expectation.is_beyond(facts, now);
                fail(expectation);
            }
            Said::Status(_) | Said::Nothing => fail(expectation),
        }
        for sequence in twice {
            self.add(Kind::Twice, url, sequence, now, "it was taken before".into());
        }
    }

    fn add(&mut self, kind: Kind, url: Url, sequence: u64, now: Moment, detail: String) {
        let facts = self.facts;
        let marks = marks::of(facts, self.url(url), sequence, now);
        self.faults.push(Fault { kind, url, sequence, line: now.line, marks, detail });
    }
}

/// What forbids that an event comes now.
fn permission(facts: &Facts, expectation: &mut Expectation, item: &Item, now: Moment) -> Vec<(Kind, u64, String)> {
    let sequence = item.event.sequence;
    let known = &facts.events[&sequence];
    let mut found = Vec::new();
    if let Some(gone) = expectation.gone {
        // In other modes than these, others were under way; and the answer may have been lost.
        let is_late = expectation.is_one_by_one(facts, now) || facts.heard_by(gone.at) < now.at;
        if facts.may_be_lost(gone.at) {
            expectation.gone = None;
        } else if is_late {
            found.push((Kind::AfterGone, sequence, format!("gone since line {}", gone.line)));
        }
    }
    if let Some(paused) = expectation.register.paused.filter(|paused| facts.heard_by(paused.at) < now.at) {
        found.push((Kind::WhilePaused, sequence, format!("paused since line {}", paused.line)));
    }
    let register = &expectation.register;
    let asking: Vec<&Version> =
        register.in_force(facts, now).filter(|version| register.permits(facts, version, &known.event)).collect();
    let reaching: Vec<&&Version> = asking.iter().filter(|version| register.may_reach(facts, version, known)).collect();
    if asking.is_empty() {
        let words: Vec<_> = register.in_force(facts, now).map(|version| (&version.pattern, &version.words)).collect();
        found.push((Kind::NotWanted, sequence, format!("{:?}, asked for: {words:?}", known.event)));
    } else if reaching.is_empty() {
        found.push((Kind::BeforeStart, sequence, "posted before the registration".into()));
    } else if !item.event.has_key && reaching.iter().all(|version| version.words.requires) {
        found.push((Kind::LacksKey, sequence, "all that want it require the key".into()));
    }
    found
}

/// An event that was to come before this one, and has not come.
fn overtaken(
    facts: &Facts,
    expectation: &Expectation,
    event: &Event,
    first: u64,
    is_one_by_one: bool,
    now: Moment,
) -> Option<(u64, Owed)> {
    let is_before = |((sequence, _), owed): &(&(u64, String), &Owed)| {
        let is_open = owed.grace < now.at && (is_one_by_one || owed.since.at + LATE < now.at);
        let of_same = is_one_by_one || facts.events[sequence].event.transaction == event.transaction;
        is_open && of_same && *sequence >= facts.first && !facts.has_letter(expectation.url, *sequence)
    };
    // Those of the same batch come with it. While a call is under way, what is owed may be so no more.
    if expectation.register.has_pending() {
        return None;
    }
    let before = expectation.owed.range(..(first.min(event.sequence), String::new()));
    before.filter(is_before).map(|((sequence, _), owed)| (*sequence, *owed)).next()
}

/// What is wrong with the event that is named as the one before this one, whatever the mode: it is the URL's, and nothing that
/// is to come lies between the two. (Which of several is named where requests go side by side, nobody is promised.)
fn misnamed(facts: &Facts, expectation: &Expectation, item: &Item, now: Moment) -> Option<String> {
    let (previous, sequence) = (item.previous, item.event.sequence);
    if previous != 0 && !expectation.knows(facts, previous) {
        return Some("that is none of this URL's".to_owned());
    }
    let has_moved = expectation.may_have_moved(facts, now);
    if previous >= sequence && !has_moved {
        return Some("that comes behind it".to_owned());
    }
    let between = (previous + 1)..sequence.max(previous + 1);
    let taken = expectation.taken.iter().map(|(taken, _)| *taken).find(|taken| between.contains(taken));
    if let Some(taken) = taken.filter(|_| !has_moved) {
        return Some(format!("{taken} was taken"));
    }
    // While a call is under way, what is owed may be so no more.
    if expectation.register.has_pending() {
        return None;
    }
    let is_open = |(of, owed): &(&(u64, String), &Owed)| {
        let is_left = of.0 >= facts.first && !facts.has_letter(expectation.url, of.0);
        is_left && owed.grace < now.at && owed.since.at + LATE < now.at
    };
    let mut owed = expectation.owed.range((between.start, String::new())..(between.end, String::new()));
    owed.find(is_open).map(|((of, _), owed)| format!("{of} is owed: {owed:?}"))
}

/// What is wrong with `ce-replay`, where that is certain: one version wants the event, and nothing has moved back.
fn wrong_replay(facts: &Facts, expectation: &Expectation, item: &Item, now: Moment) -> Option<String> {
    let register = &expectation.register;
    let known = &facts.events[&item.event.sequence];
    let (posting, acknowledged) = known.posting?;
    let mut asking = register.versions.iter().filter(|version| {
        version.called.line < now.line && Register::asks(facts, version, &known.event) != Some(false)
    });
    let (version, others) = (asking.next()?, asking.next());
    if others.is_some() || !register.rewinds.is_empty() {
        return None;
    }
    let is_live = version.returned.is_some_and(|returned| returned.line <= posting);
    let is_past = acknowledged < version.called.line;
    ((is_live && item.is_replay) || (is_past && !item.is_replay)).then(|| format!("ce-replay: {}", item.is_replay))
}
