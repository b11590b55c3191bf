//! What must be so when all is at rest: nothing is missing, counts are exact, the status is true.

use std::collections::BTreeSet;

use crate::expectation::{Expectation, Why};
use crate::facts::{Facts, Known, Moment};
use crate::fault::{Fault, Kind};
use crate::history::{OnExhausted, Status};
use crate::marks;
use crate::words::{Register, Version};

/// An end is over so long after it, in microseconds: the clocks of two machines may differ by five seconds.
const OVER_MICROS: i64 = 6_000_000;

/// What is wrong with one URL at rest.
pub(crate) fn check(facts: &Facts, expectation: &Expectation, status: Option<&Status>, now: Moment) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut add = |kind, sequence, detail| found.push((kind, sequence, detail));
    match status {
        None if expectation.register.current.is_empty() => {}
        None => add(Kind::WrongState, 0, "there is no subscription".to_owned()),
        Some(status) if expectation.register.current.is_empty() => {
            add(Kind::WrongState, 0, format!("it is there, in state {}", status.state));
        }
        Some(status) => {
            if let Some(detail) = wrong_state(facts, expectation, status, now) {
                add(Kind::WrongState, 0, detail);
            }
            if matches!(status.state.as_str(), "active" | "completed") {
                missing(facts, expectation, &mut add);
                counts_under(facts, expectation, now, &mut add);
            }
            if status.state == "active" {
                wrong_figures(facts, expectation, status, &mut add);
            }
        }
    }
    let fault = |(kind, sequence, detail)| {
        let marks = marks::of(facts, expectation, sequence, now);
        Fault { kind, url: expectation.url, sequence, line: now.line, marks, detail }
    };
    found.into_iter().map(fault).collect()
}

fn wrong_state(facts: &Facts, expectation: &Expectation, status: &Status, now: Moment) -> Option<String> {
    let register = &expectation.register;
    let may_complete =
        || register.currents().all(|version| version.words.count.is_some() || version.words.end.is_some());
    let is_paused = register.paused.is_some();
    let is_gone = expectation.gone.is_some_and(|gone| !facts.may_be_lost(gone.at));
    let is_over = || register.currents().all(|version| is_over(facts, version, now));
    let is_right = match status.state.as_str() {
        "active" => !is_paused && !is_gone && !is_over(),
        "completed" => may_complete(),
        "paused" => is_paused || expectation.is_exhausted(facts, now, OnExhausted::Disable),
        "gone" => expectation.gone.is_some() || expectation.may_be_gone,
        "gap" => facts.is_limited(),
        "held" => expectation.is_exhausted(facts, now, OnExhausted::Hold),
        _ => false,
    };
    (!is_right).then(|| format!("{}; paused: {is_paused}, gone: {is_gone}", status.state))
}

/// Whether the end of an entry lies so far back that it must be complete: an event of a later time was stored after it.
fn is_over(facts: &Facts, version: &Version, now: Moment) -> bool {
    let (Some(end), Some(returned)) = (version.words.end, version.returned) else { return false };
    let is_later = |known: &Known| {
        known.posting.is_some_and(|(posting, acknowledged)| {
            known.event.time > end + OVER_MICROS && posting >= returned.line && acknowledged < now.line
        })
    };
    facts.events.values().any(is_later)
}

fn missing(facts: &Facts, expectation: &Expectation, add: &mut impl FnMut(Kind, u64, String)) {
    for ((sequence, pattern), owed) in &expectation.owed {
        let is_resumed = expectation.register.is_resumed;
        let is_told =
            facts.has_letter(expectation.url, *sequence) || facts.is_in_gap(expectation.url, *sequence, is_resumed);
        if is_told {
            continue;
        }
        let detail = format!("owed since line {} for {pattern}: {:?}", owed.since.line, owed.why);
        if *sequence >= facts.first {
            add(Kind::Lost, *sequence, detail);
        } else if owed.why == Why::Live {
            let version = &expectation.register.versions[expectation.register.current[pattern]];
            if !version.words.allow_gap {
                add(Kind::SilentGap, *sequence, detail);
            }
        }
    }
}

fn wrong_figures(facts: &Facts, expectation: &Expectation, status: &Status, add: &mut impl FnMut(Kind, u64, String)) {
    let register = &expectation.register;
    if status.lag != Some(0) {
        add(Kind::WrongLag, 0, format!("{:?} though all is taken", status.lag));
    }
    if status.phase.as_deref() != Some("live") {
        add(Kind::WrongPhase, 0, format!("{:?} though all is taken", status.phase));
    }
    let has_moved = !register.rewinds.is_empty() || register.versions.iter().any(|version| version.words.is_retro);
    let most = expectation.taken.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
    let is_known = !has_moved && register.emptied.is_none();
    if status.position > facts.end || (is_known && status.position < most) {
        add(Kind::WrongPosition, 0, format!("{}; taken: {most}, the log's end: {}", status.position, facts.end));
    }
    // Where nothing can have been counted twice, or not.
    if has_moved || register.emptied.is_some() || !facts.disturbances.is_empty() || facts.is_limited() {
        return;
    }
    for (pattern, version) in &register.current {
        let version = &register.versions[*version];
        let is_first = register.versions.iter().filter(|other| other.pattern == *pattern).count() == 1;
        let asks = |sequence: &u64| Register::asks(facts, version, &facts.events[sequence].event) == Some(true);
        // While the call was made, an event may have come before or after it.
        let is_surely_after = |sequence: &u64| {
            let posting = facts.events[sequence].posting;
            posting.is_some_and(|(posting, _)| version.returned.is_some_and(|returned| returned.line <= posting))
        };
        let may_be_after = |sequence: &u64| {
            facts.events[sequence].posting.is_none_or(|(_, acknowledged)| acknowledged > version.called.line)
        };
        let had: BTreeSet<u64> = expectation.delivered.iter().map(|(sequence, _)| *sequence).filter(asks).collect();
        let least = had.iter().filter(|sequence| is_surely_after(sequence)).count() as u64;
        let most = had.iter().filter(|sequence| may_be_after(sequence)).count() as u64;
        let told = status.delivered.get(pattern).copied().unwrap_or(0);
        if is_first && version.is_sure && version.words.count.is_none() && !(least..=most).contains(&told) {
            add(Kind::WrongDelivered, 0, format!("{told} for {pattern}, of {least} to {most}"));
        }
    }
}

/// Where an entry with a `count` has had less, though there was more.
fn counts_under(facts: &Facts, expectation: &Expectation, now: Moment, add: &mut impl FnMut(Kind, u64, String)) {
    let register = &expectation.register;
    for version in register.currents() {
        let (Some(count), Some(returned), true) = (version.words.count, version.returned, version.is_sure) else {
            continue;
        };
        // What the target says to have, what is dead and what comes again may count or not.
        let has_named = expectation.resumed.is_some() || expectation.said_beyond.is_some();
        let is_clear = !has_named && !facts.is_limited() && version.previous.is_none();
        if !is_clear || !facts.letters.is_empty() {
            continue;
        }
        let asks = |sequence: u64| Register::asks(facts, version, &facts.events[&sequence].event) == Some(true);
        let is_promised = |sequence: &u64| {
            let Some((posting, acknowledged)) = facts.events[sequence].posting else { return false };
            let is_live = returned.line <= posting && acknowledged < now.line;
            let is_past = version.words.is_retro && acknowledged < version.called.line;
            let was_had = expectation.taken.iter().any(|(had, at)| had == sequence && at.line < version.called.line);
            asks(*sequence) && (is_live || (is_past && !was_had))
        };
        let promised = facts.events.keys().copied().filter(is_promised).count() as u64;
        let had: BTreeSet<u64> = expectation
            .delivered
            .iter()
            .filter(|(sequence, at)| at.line > version.called.line && asks(*sequence))
            .map(|(sequence, _)| *sequence)
            .collect();
        if (had.len() as u64) < count.min(promised) {
            let detail = format!("{} had of {count}, for {}; {promised} promised", had.len(), version.pattern);
            add(Kind::CountUnder, 0, detail);
        }
    }
}

/// Where an entry with a `count` brought more events than that.
pub(crate) fn counts_over(facts: &Facts, expectation: &Expectation, end: Moment) -> Vec<Fault> {
    let register = &expectation.register;
    let mut faults = Vec::new();
    for version in register.versions.iter().filter(|version| version.is_sure) {
        let (Some(count), Some(returned)) = (version.words.count, version.returned) else { continue };
        // In place of others: what those brought until it was heard of does not count.
        let after = if version.previous.is_some() { facts.heard_by(returned.at) } else { 0 };
        let is_by_it_alone = |sequence: u64, at: Moment| {
            let known = &facts.events[&sequence];
            let may_bring = |other: &Version| {
                Register::asks(facts, other, &known.event) != Some(false) && register.may_reach(facts, other, known)
            };
            let others = register.in_force(facts, at).filter(|other| !std::ptr::eq(*other, version));
            let is_moved = register.rewinds.iter().any(|rewind| rewind.covers(&known.event));
            may_bring(version) && !is_moved && !others.into_iter().any(may_bring)
        };
        let had: BTreeSet<u64> = expectation
            .delivered
            .iter()
            .filter(|(sequence, at)| {
                let until = version.ended.map_or(end.line, |ended| ended.line);
                let is_within = at.line > version.called.line && at.line < until && at.at >= after;
                is_within && is_by_it_alone(*sequence, *at)
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        if had.len() as u64 > count {
            let detail = format!("{had:?} had, {count} asked for by {}", version.pattern);
            let marks = marks::of(facts, expectation, *had.last().unwrap_or(&0), end);
            faults.push(Fault {
                kind: Kind::CountOver,
                url: expectation.url,
                sequence: 0,
                line: end.line,
                marks,
                detail,
            });
        }
    }
    faults
}

/// Dead letters of events that were not tried as often as the least that was ever asked for.
pub(crate) fn early_letters(facts: &Facts, expectation: &Expectation, events: &[u64], now: Moment) -> Vec<Fault> {
    let asked = expectation.register.deliveries.iter();
    let least = asked.filter_map(|(delivery, ..)| delivery.max_attempts).min().unwrap_or(u64::MAX);
    let tried = |sequence: &u64| expectation.failures.get(sequence).copied().unwrap_or(0);
    let early = events.iter().filter(|sequence| tried(sequence) < least);
    let fault = |sequence: &u64| Fault {
        kind: Kind::EarlyLetter,
        url: expectation.url,
        sequence: *sequence,
        line: now.line,
        marks: marks::of(facts, expectation, *sequence, now),
        detail: format!("tried {} times, of {least}", tried(sequence)),
    };
    early.map(fault).collect()
}
