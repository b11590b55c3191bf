//! What is to come to one URL, and what has: the oracle. It takes in what happens, line by line, and is asked by the checker.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Facts, Known, LATE, Moment, UNDER_WAY};
use crate::history::{Ask, Delivery, Event, Mode, OnExhausted, Url};
use crate::words::{Change, Covers, Register, Rewind, Version};

/// So many events of a URL are under way at a time, at most, where they go one by one: see `tests/end_to_end/failpoints.rs`.
const MOST_UNDER_WAY: usize = 4;

/// Since when an event is to come for one pattern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) since: Moment,
    /// Until then others may come before it: the call that brings it may not have been heard of.
    pub(crate) grace: u64,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was accepted after the registration.
    Live,
    /// The registration reaches into the past.
    Retro,
    /// The target has named a position before it.
    Back,
    /// A redelivery was asked for.
    Replay,
}

pub(crate) struct Expectation {
    pub(crate) url: Url,
    pub(crate) register: Register,
    pub(crate) owed: BTreeMap<(u64, String), Owed>,
    entered: BTreeSet<u64>,
    /// What was taken, by a 2xx or because the target said so, in that order.
    pub(crate) taken: Vec<(u64, Moment)>,
    /// How many came again of what was taken while something was killed or stopped, by when that began.
    repeats: BTreeMap<usize, usize>,
    /// What was taken by a 2xx.
    pub(crate) delivered: Vec<(u64, Moment)>,
    pub(crate) arrived: BTreeSet<u64>,
    /// What a delivery is to name as the one before it; the last one is in force.
    lasts: Vec<(u64, Moment)>,
    pub(crate) gone: Option<Moment>,
    /// It may be gone: it said so while a call was under way that ends that.
    pub(crate) may_be_gone: bool,
    /// The last call that ends that.
    woken: Option<Moment>,
    pub(crate) failures: BTreeMap<u64, u64>,
    /// Where the target said that it is: the last time, and whether nothing was taken since.
    pub(crate) resumed: Option<(u64, Moment)>,
    times_resumed_in_a_row: u32,
    last_call: Option<Moment>,
    /// When a call came with or after several such answers in a row.
    pub(crate) called_in_resume: Option<Moment>,
    /// Positions that the target has named, and had not been sent.
    skipped_to: Vec<(u64, Moment)>,
    /// The target has named a position further on than what it was sent, and had had more before.
    pub(crate) named_in_past: bool,
    /// When the target named a position beyond the log's end, and what was taken last then.
    pub(crate) said_beyond: Option<(Moment, usize)>,
}

impl Expectation {
    pub(crate) fn new(url: Url) -> Self {
        Self {
            url,
            register: Register::default(),
            owed: BTreeMap::new(),
            entered: BTreeSet::new(),
            taken: Vec::new(),
            repeats: BTreeMap::new(),
            delivered: Vec::new(),
            arrived: BTreeSet::new(),
            lasts: Vec::new(),
            gone: None,
            may_be_gone: false,
            woken: None,
            failures: BTreeMap::new(),
            resumed: None,
            times_resumed_in_a_row: 0,
            last_call: None,
            called_in_resume: None,
            skipped_to: Vec::new(),
            named_in_past: false,
            said_beyond: None,
        }
    }

    /// Takes in that an event is in the log.
    pub(crate) fn enter(&mut self, facts: &Facts, known: &Known, now: Moment) {
        let Some((posting, _)) = known.posting.filter(|_| self.entered.insert(known.event.sequence)) else { return };
        let is_after = |version: &&Version| version.returned.is_some_and(|returned| returned.line <= posting);
        let wanting: Vec<String> = self
            .register
            .currents()
            .filter(is_after)
            .filter(|version| version.words.count.is_none())
            .filter(|version| Register::asks(facts, version, &known.event) == Some(true))
            .map(|version| version.pattern.clone())
            .collect();
        for pattern in wanting {
            let owed = Owed { since: now, grace: 0, why: Why::Live };
            self.owed.insert((known.event.sequence, pattern), owed);
        }
    }

    pub(crate) fn called(&mut self, call: u32, ask: &Ask, now: Moment) {
        self.last_call = Some(now);
        if self.times_resumed_in_a_row > 1 {
            self.called_in_resume = Some(now);
        }
        if matches!(ask, Ask::Register(_) | Ask::Put(..) | Ask::Resume) {
            (self.gone, self.may_be_gone, self.woken) = (None, false, Some(now));
        }
        if matches!(ask, Ask::Replay(..) | Ask::Redrive(_)) {
            // Only the last one that was asked for is carried out.
            self.owed.retain(|_, owed| owed.why != Why::Replay);
        }
        self.register.called(call, ask, now);
    }

    pub(crate) fn returned(&mut self, facts: &Facts, call: u32, is_taken: bool, tries: u32, now: Moment) {
        self.last_call = Some(now);
        let Some(change) = self.register.returned(facts, call, is_taken, tries, now) else { return };
        if self.register.current.is_empty() {
            (self.gone, self.may_be_gone) = (None, false);
        }
        self.owed.retain(|(_, pattern), _| !change.removed.contains(pattern));
        for version in &change.begun {
            self.begin(facts, *version, now);
        }
        if let (Ask::Replay(from, to), 1) = (&change.ask, tries) {
            self.owe_again(facts, &Covers::Times(*from, *to), &change, now);
        }
    }

    /// Takes in that words are in force that were not.
    fn begin(&mut self, facts: &Facts, version: usize, now: Moment) {
        let version = &self.register.versions[version];
        let asks = |sequence: u64| Register::asks(facts, version, &facts.events[&sequence].event) == Some(true);
        let is_counted = version.words.count.is_some();
        // What was owed stays so as far as the new words ask for it too; with a start in the past they begin anew.
        self.owed.retain(|(sequence, pattern), _| {
            *pattern != version.pattern || (!version.words.is_retro && !is_counted && asks(*sequence))
        });
        if !version.words.is_retro || is_counted {
            return;
        }
        let is_shared = |event: &Event| {
            let others = self.register.currents().filter(|other| other.pattern != version.pattern);
            others.into_iter().any(|other| Register::asks(facts, other, event) != Some(false))
        };
        let (pattern, called) = (version.pattern.clone(), version.called);
        let to_come = self.entered.iter().copied().filter(|sequence| asks(*sequence)).filter(|sequence| {
            if self.is_skipped_since(*sequence, called) {
                return false;
            }
            let last = self.last_taken(*sequence);
            // What another pattern brought may come again, or not.
            last.is_none_or(|taken| taken.line < called.line && !is_shared(&facts.events[sequence].event))
        });
        let owed = Owed { since: called, grace: facts.heard_by(now.at), why: Why::Retro };
        let to_come: Vec<u64> = to_come.collect();
        self.owed.extend(to_come.into_iter().map(|sequence| ((sequence, pattern.clone()), owed)));
    }

    /// Takes in that a part of what was taken is to come again.
    fn owe_again(&mut self, facts: &Facts, covers: &Covers, change: &Change, now: Moment) {
        let rewind = Rewind { called: change.called, begun_by: 0, covers: Covers::Behind(0) };
        let covered = |event: &Event| match covers {
            Covers::Times(from, to) => event.time >= *from && to.is_none_or(|to| event.time <= to),
            _ => rewind.covers(event),
        };
        let was_taken: BTreeSet<u64> =
            self.taken.iter().filter(|(_, at)| at.line < change.called.line).map(|(sequence, _)| *sequence).collect();
        let came_since: BTreeSet<u64> =
            self.taken.iter().filter(|(_, at)| at.line > change.called.line).map(|(sequence, _)| *sequence).collect();
        let mut owed = Vec::new();
        for sequence in was_taken.difference(&came_since) {
            if self.is_skipped_since(*sequence, change.called) {
                continue;
            }
            let event = &facts.events[sequence].event;
            let wanting = self
                .register
                .currents()
                .filter(|version| version.words.count.is_none() && Register::asks(facts, version, event) == Some(true));
            owed.extend(wanting.filter(|_| covered(event)).map(|version| (*sequence, version.pattern.clone())));
        }
        let since = Owed { since: change.called, grace: facts.heard_by(now.at), why: Why::Replay };
        self.owed.extend(owed.into_iter().map(|key| (key, since)));
    }

    /// Takes in that the target has had an event. Answers whether nothing permits that it came, if it came again.
    pub(crate) fn had(&mut self, facts: &Facts, event: &Event, is_delivered: bool, now: Moment) -> bool {
        let sequence = event.sequence;
        let last = self.last_taken(sequence).filter(|last| !self.may_repeat(facts, event, *last, now));
        let is_needless = last.is_some_and(|last| !self.was_under_way(facts, last, now));
        self.owed.retain(|(owed, _), _| *owed != sequence);
        self.taken.push((sequence, now));
        self.lasts.push((sequence, now));
        if is_delivered {
            self.delivered.push((sequence, now));
            self.times_resumed_in_a_row = 0;
        }
        is_needless
    }

    /// Takes in that the target is at a sequence.
    pub(crate) fn is_at(&mut self, facts: &Facts, sequence: u64, first: u64, now: Moment) {
        self.lasts.push((sequence, now));
        self.resumed = Some((sequence, now));
        self.resumes_in_a_row(facts, now);
        if sequence >= first {
            self.skipped_to.push((sequence, now));
            self.named_in_past |= self.taken.iter().any(|(taken, _)| *taken > sequence);
            self.owed.retain(|(owed, _), _| *owed > sequence);
        }
        let covers = Covers::Behind(sequence);
        self.register.rewinds.push(Rewind { called: now, begun_by: facts.heard_by(now.at), covers });
        if facts.may_be_lost(now.at) {
            return;
        }
        let mut owed = Vec::new();
        for behind in self.entered.range(sequence + 1..) {
            let event = &facts.events[behind].event;
            let wanting = self
                .register
                .currents()
                .filter(|version| version.words.count.is_none() && Register::asks(facts, version, event) == Some(true));
            owed.extend(wanting.map(|version| (*behind, version.pattern.clone())));
        }
        let since = Owed { since: now, grace: 0, why: Why::Back };
        for key in owed {
            self.owed.entry(key).or_insert(since);
        }
    }

    /// Takes in that the target says to be gone.
    pub(crate) fn is_gone(&mut self, facts: &Facts, now: Moment) {
        let is_woken =
            self.woken.is_some_and(|woken| self.register.has_pending() || now.at <= facts.heard_by(woken.at));
        (self.gone, self.may_be_gone) = if is_woken { (None, true) } else { (Some(now), false) };
    }

    /// Takes in that the target names a position that the log has not reached.
    pub(crate) fn is_beyond(&mut self, facts: &Facts, now: Moment) {
        self.said_beyond = Some((now, self.delivered.len()));
        self.resumes_in_a_row(facts, now);
    }

    fn resumes_in_a_row(&mut self, facts: &Facts, now: Moment) {
        self.times_resumed_in_a_row += 1;
        let is_called =
            self.last_call.is_some_and(|call| self.register.has_pending() || now.at <= facts.heard_by(call.at));
        if self.times_resumed_in_a_row > 1 && is_called {
            self.called_in_resume = Some(now);
        }
    }

    /// Whether the target has said since a moment that it has an event.
    fn is_skipped_since(&self, sequence: u64, since: Moment) -> bool {
        self.skipped_to.iter().any(|(to, at)| sequence <= *to && at.line > since.line)
    }

    fn last_taken(&self, sequence: u64) -> Option<Moment> {
        self.taken.iter().rev().find(|(taken, _)| *taken == sequence).map(|(_, at)| *at)
    }

    /// The same for one of which nothing is known but that it came: a limit has removed it.
    pub(crate) fn had_unknown(&mut self, sequence: u64, now: Moment) {
        self.lasts.push((sequence, now));
    }

    /// Whether an event that was last taken then may come again now.
    fn may_repeat(&self, facts: &Facts, event: &Event, last: Moment, now: Moment) -> bool {
        let by_rewind = self
            .register
            .rewinds
            .iter()
            .any(|rewind| rewind.called.line < now.line && last.at <= rewind.begun_by && rewind.covers(event));
        let by_registration = self.register.in_force(facts, now).any(|version| {
            let begun_by = version.returned.map_or(u64::MAX, |returned| facts.heard_by(returned.at));
            version.words.is_retro && last.at <= begun_by && Register::asks(facts, version, event) != Some(false)
        });
        by_rewind || by_registration
    }

    /// Whether an event that was last taken then may come again because something was killed or stopped: what was taken just
    /// before that may; and of what was taken until it was over, as many as may have been under way, each time.
    fn was_under_way(&mut self, facts: &Facts, last: Moment, now: Moment) -> bool {
        let before = facts.disturbances.iter().filter(|(began, _)| began.line < now.line);
        let near = before.filter(|(began, over)| last.at + UNDER_WAY >= began.at && last.at <= over.at + LATE);
        for (began, _) in near {
            let repeats = self.repeats.entry(began.line).or_default();
            if last.at <= began.at {
                return true;
            }
            if *repeats < MOST_UNDER_WAY {
                *repeats += 1;
                return true;
            }
        }
        false
    }

    /// Whether a delivery may name this one as the one before it.
    pub(crate) fn may_name(&self, facts: &Facts, previous: u64, now: Moment) -> bool {
        let last = self.lasts.last();
        if last.map_or(0, |(last, _)| *last) == previous {
            return true;
        }
        // Of those that went side by side, any may have been the last one.
        if last.is_some_and(|(_, at)| !self.is_one_by_one(facts, *at)) {
            return true;
        }
        let has_restarted =
            |emptied: &Moment| last.is_none_or(|(_, at)| at.line < emptied.line || at.at <= facts.heard_by(emptied.at));
        if previous == 0 && self.register.emptied.as_ref().is_some_and(has_restarted) {
            return true;
        }
        // Of what came around a kill, any may be the last one that is known.
        facts.disturbances.iter().filter(|(began, _)| began.line < now.line).any(|(began, _)| {
            let may_be_known = |n: usize| self.lasts.get(n + 1).is_none_or(|(_, at)| at.at + UNDER_WAY >= began.at);
            (0..self.lasts.len()).any(|n| self.lasts[n].0 == previous && may_be_known(n))
                || (previous == 0 && self.lasts.first().is_none_or(|(_, at)| at.at + UNDER_WAY >= began.at))
        })
    }

    /// Whether an event is one of those that this URL was sent, has named or may be sent.
    pub(crate) fn knows(&self, facts: &Facts, sequence: u64) -> bool {
        let Some(known) = facts.events.get(&sequence) else { return facts.is_limited() && sequence < facts.first };
        let may_want = |version: &Version| self.register.permits(facts, version, &known.event);
        self.arrived.contains(&sequence)
            || self.lasts.iter().any(|(last, _)| *last == sequence)
            || self.register.versions.iter().any(may_want)
    }

    /// Whether the lane may have gone back in the log, or may have begun anew.
    pub(crate) fn may_have_moved(&self, facts: &Facts, now: Moment) -> bool {
        let register = &self.register;
        !register.rewinds.is_empty()
            || register.emptied.is_some()
            || register.versions.iter().any(|version| version.words.is_retro || version.previous.is_some())
            || facts.is_disturbed_before(now)
            || facts.is_limited()
    }

    /// Whether no request could go beside another one.
    pub(crate) fn is_one_by_one(&self, facts: &Facts, now: Moment) -> bool {
        self.register.deliveries_at(facts, now).all(|delivery| delivery.mode != Mode::Concurrent)
    }

    /// Whether some event was tried as often as may be.
    pub(crate) fn is_exhausted(&self, facts: &Facts, now: Moment, how: OnExhausted) -> bool {
        let has_ended = |delivery: &Delivery| {
            let most = delivery.max_attempts.unwrap_or(u64::MAX);
            delivery.on_exhausted == how && self.failures.values().any(|failures| *failures >= most)
        };
        self.register.deliveries_at(facts, now).any(has_ended)
    }
}
