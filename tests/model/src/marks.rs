//! What was so when a fault happened: by this a known fault is told from a new one.

use std::collections::BTreeSet;

use crate::expectation::{Expectation, Why};
use crate::facts::{Facts, LATE, Moment};
use crate::fault::Mark;
use crate::history::Mode;
use crate::words::{Covers, Register, Version};

/// How old may be what comes again after a kill by the fault that is known: a lane is written every five seconds.
const OLD_MS: u64 = 7_000;

pub(crate) fn of(facts: &Facts, expectation: &Expectation, sequence: u64, now: Moment) -> BTreeSet<Mark> {
    let register = &expectation.register;
    let before_now = |version: &&Version| version.called.line < now.line;
    let known = facts.events.get(&sequence);
    let asking: Vec<&Version> = register
        .versions
        .iter()
        .filter(before_now)
        .filter(|version| known.is_none_or(|known| crate::pattern::matches(&version.pattern, &known.event.kind)))
        .collect();
    let owed: Vec<_> = expectation.owed.range((sequence, String::new())..(sequence + 1, String::new())).collect();
    let is_owed = |why: Why| owed.iter().any(|(_, owed)| owed.why == why);
    let was_moved_back = |version: &Version| {
        let back = |rewind: &crate::words::Rewind| matches!(rewind.covers, Covers::Behind(_));
        register.rewinds.iter().any(|rewind| back(rewind) && rewind.called.line > version.called.line)
    };
    let posting = known.and_then(|known| known.posting).map(|(began, _)| began);
    let is_from_before = |version: &&Version| {
        let mut root = *version;
        while let Some(previous) = register.before(root) {
            root = previous;
        }
        let is_after = posting.zip(root.returned).is_some_and(|(posting, returned)| returned.line <= posting);
        !is_after && !version.words.is_retro
    };
    let last_taken = expectation.taken.iter().rev().find(|(taken, at)| *taken == sequence && at.line < now.line);
    let is_new = |version: &&Version| {
        last_taken
            .is_some_and(|(_, taken)| version.returned.is_none_or(|returned| facts.heard_by(returned.at) >= taken.at))
    };
    let patterns: BTreeSet<&str> = asking.iter().map(|version| version.pattern.as_str()).collect();
    let replayed_since = owed.iter().find(|(_, owed)| owed.why == Why::Replay).map(|(_, owed)| owed.since);
    let registered_since = |since: Moment| register.versions.iter().any(|version| version.called.line > since.line);
    let earlier_words = |version: &&Version| {
        let previous = register.before(version);
        previous.is_some_and(|previous| {
            known.is_some_and(|known| Register::asks(facts, previous, &known.event) != Some(true))
        })
    };
    let counted_or_required = |version: &&Version| {
        register.before(version).is_some_and(|previous| previous.words.count.is_some() || previous.words.requires)
    };
    let is_replaced_twice =
        |version: &&Version| register.before(version).is_some_and(|previous| register.before(previous).is_some());
    let are_same_again = |version: &&Version| {
        let Some(previous) = register.before(version) else { return false };
        let has_changed = |earlier: &Version| !earlier.words.are_same(&previous.words);
        previous.words.are_same(&version.words) && register.before(previous).is_some_and(has_changed)
    };
    let is_retro = |version: &&Version| version.words.is_retro;
    let has_moved = !register.rewinds.is_empty() || asking.iter().any(is_retro);
    let is_concurrent = register.deliveries.iter().any(|(delivery, ..)| delivery.mode == Mode::Concurrent);
    let is_batched = register.deliveries.iter().any(|(delivery, ..)| delivery.mode == Mode::Batched);
    let is_given_up = facts.letters.contains_key(&expectation.url);
    let found = [
        (Mark::BackBeforeRegistration, is_owed(Why::Back) && asking.iter().any(is_from_before)),
        (
            Mark::JustRegistered,
            asking.iter().any(|version| {
                let by = version.returned.map_or(u64::MAX, |returned| facts.heard_by(returned.at));
                owed.iter().any(|(_, owed)| owed.why == Why::Live && owed.since.at <= by)
            }),
        ),
        (Mark::NamedInPast, is_owed(Why::Back) && expectation.named_in_past),
        (Mark::SameWordsAgain, asking.iter().any(are_same_again)),
        (Mark::ReplayThenRegistered, replayed_since.is_some_and(registered_since)),
        (Mark::ReplayOfEarlierWords, replayed_since.is_some() && asking.iter().any(earlier_words)),
        (Mark::PatternAdded, patterns.len() > 1 && asking.iter().any(is_new)),
        (
            Mark::TakenBeforeKill,
            last_taken.is_some_and(|(_, at)| {
                let near = |(began, _): &(Moment, Moment)| began.line < now.line && at.at + OLD_MS >= began.at;
                facts.disturbances.iter().any(near)
            }),
        ),
        (
            Mark::WordsThenBack,
            is_owed(Why::Back) && asking.iter().any(|version| version.previous.is_some() && was_moved_back(version)),
        ),
        (Mark::ReplacedCountOrKey, asking.iter().any(counted_or_required)),
        (Mark::ReplacedTwice, asking.iter().any(is_replaced_twice)),
        (
            Mark::SecondResume,
            expectation.called_in_resume.is_some_and(|called| posting.is_some_and(|posting| posting <= called.line)),
        ),
        (
            Mark::SaidBeyond,
            expectation.said_beyond.is_some_and(|(said, taken)| {
                taken == expectation.delivered.len()
                    || posting.is_some_and(|posting| posting <= said.line)
                    || owed.iter().any(|(_, owed)| owed.since.at <= said.at + LATE)
            }),
        ),
        (Mark::ConcurrentBack, is_concurrent && has_moved),
        (Mark::BatchSplit, is_batched && (is_given_up || expectation.resumed.is_some())),
        (Mark::Disturbed, facts.is_disturbed_before(now)),
        (Mark::Limited, facts.is_limited()),
        (Mark::CallsAtOnce, register.has_pending()),
        (Mark::Replaced, asking.iter().any(|version| version.previous.is_some())),
        (Mark::MovedBack, has_moved),
    ];
    found.into_iter().filter(|(_, holds)| *holds).map(|(mark, _)| mark).collect()
}
