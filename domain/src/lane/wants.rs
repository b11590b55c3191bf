//! Which events a lane owes to its entries, and "has had it": the one notion of that.

use std::collections::BTreeSet;

use super::{Due, Lane, Progress};
use crate::event::Event;
use crate::required_data::{self, Found};
use crate::subscription::{Continued, Entry, Start, Subscription, Words};
use crate::type_pattern::TypePattern;

impl Due {
    fn of(event: &Event) -> Self {
        let data = event.data.clone();
        Self { is_replay: true, redelivery: None, priority: f64::INFINITY, listener_data: None, data }
    }

    fn take_in(&mut self, entry: &Entry, event: &Event) {
        self.is_replay &= !entry.is_live_at(event.sequence);
        self.priority = self.priority.min(entry.attributes.priority);
        if self.listener_data.is_none() {
            self.listener_data.clone_from(&entry.attributes.listener_data);
        }
    }
}

impl Lane {
    /// Which keys the event lacks that an entry which wants it requires: to be looked for in earlier events of its
    /// transaction before [`Lane::due`] is asked.
    pub fn lacks(&self, spec: &Subscription, event: &Event) -> BTreeSet<String> {
        if event.sequence <= self.position {
            return BTreeSet::new();
        }
        let covered = self.is_covered(spec, event);
        let wanting = self.wanting(spec, event, covered).chain(self.redelivered(spec, event));
        let required = wanting.flat_map(|(entry, words)| entry.required_data(event.sequence, words));
        let mut required = required.map(String::as_str).peekable();
        if required.peek().is_none() {
            return BTreeSet::new();
        }
        required_data::missing(&event.data, required).into_iter().map(str::to_owned).collect()
    }

    /// Whether an event is to be delivered, and how, with what was `found` of the keys that it lacks. At or below the
    /// position nothing is: it has been. What the target has taken early is due too: see [`Lane::has_taken`].
    pub fn due(&self, spec: &Subscription, event: &Event, found: &Found) -> Option<Due> {
        if event.sequence <= self.position {
            return None;
        }
        let covered = self.is_covered(spec, event);
        let mut due: Option<Due> = None;
        let mut required: BTreeSet<&str> = BTreeSet::new();
        let is_complete = |(entry, words): &(&Entry, Words)| is_satisfied(entry, *words, event, found);
        for (entry, words) in self.redelivered(spec, event).filter(is_complete) {
            let due = due.get_or_insert_with(|| Due::of(event));
            due.redelivery = spec.redelivery.as_ref().map(|asked| asked.id.clone());
            due.take_in(entry, event);
            required.extend(entry.required_data(event.sequence, words).map(String::as_str));
        }
        for (entry, words) in self.wanting(spec, event, covered).filter(is_complete) {
            let due = due.get_or_insert_with(|| Due::of(event));
            due.take_in(entry, event);
            required.extend(entry.required_data(event.sequence, words).map(String::as_str));
        }
        let filled = found.iter().filter(|(key, _)| required.contains(key.as_str()));
        let mut filled = filled.map(|(key, value)| (key.as_str(), value.as_str())).peekable();
        if let (Some(due), Some(_)) = (&mut due, filled.peek()) {
            due.data = required_data::fill(&event.data, filled);
        }
        due
    }

    /// Whether the target has taken an event already, before others that come before it in the log, and no entry wants it
    /// once more.
    pub fn has_taken(&self, spec: &Subscription, event: &Event) -> bool {
        let wants_anew = |(pattern, progress): (&TypePattern, &Progress)| {
            let entry = spec.entries.get(pattern);
            progress.anew_to.is_some_and(|to| event.sequence <= to)
                && entry.is_some_and(|entry| {
                    !entry.is_live_at(event.sequence) && wants(pattern, entry, progress, event, false)
                })
        };
        self.had.contains(&event.sequence) && !self.entries.iter().any(wants_anew)
    }

    /// The entries that an event is delivered to again because it is in the part of the log that was requested again, and
    /// from before where they are.
    fn redelivered<'a>(&'a self, spec: &'a Subscription, event: &'a Event) -> impl Iterator<Item = (&'a Entry, Words)> {
        let next = self.redelivery.as_ref().map_or(u64::MAX, |redelivery| redelivery.next);
        let asked = spec.redelivery.as_ref().filter(|asked| event.sequence >= next && asked.holds(event));
        self.entries.iter().filter_map(move |(pattern, progress)| {
            let (asked, entry) = (asked?, spec.entries.get(pattern)?);
            let is_before = !progress.completed && event.sequence < progress.from_sequence;
            let is_again = is_before && entry.after_redelivery.as_ref() != Some(&asked.id);
            (is_again && pattern.matches(&event.event_type) && entry.lets_through(event, start_of(progress, event)))
                .then_some((entry, Words::Present))
        })
    }

    /// The entries that want an event.
    fn wanting<'a>(
        &'a self,
        spec: &'a Subscription,
        event: &'a Event,
        covered: bool,
    ) -> impl Iterator<Item = (&'a Entry, Words)> {
        self.entries.iter().filter_map(move |(pattern, progress)| {
            let entry = spec.entries.get(pattern)?;
            wants(pattern, entry, progress, event, covered).then(|| (entry, words_for(progress, event)))
        })
    }

    /// The same, and how far each has come.
    pub(super) fn progress_of_wanting<'a>(
        &'a mut self,
        spec: &'a Subscription,
        event: &'a Event,
    ) -> impl Iterator<Item = (&'a Entry, &'a mut Progress)> {
        let covered = self.is_covered(spec, event);
        self.entries.iter_mut().filter_map(move |(pattern, progress)| {
            let entry = spec.entries.get(pattern)?;
            wants(pattern, entry, progress, event, covered).then_some((entry, progress))
        })
    }

    /// Counts an event for the entries that share it with others, through which the target has had it. Answers whether a
    /// count depends on that.
    pub(super) fn count_shared(&mut self, spec: &Subscription, event: &Event) -> bool {
        if !self.is_covered(spec, event) {
            return false;
        }
        let mut must_write = false;
        for (pattern, progress) in &mut self.entries {
            let Some(entry) = spec.entries.get(pattern) else { continue };
            if shares(entry, progress, event) && wants(pattern, entry, progress, event, false) {
                must_write |= progress.count_one(entry);
            }
        }
        must_write
    }

    /// Whether the target has had an event through an entry that was there before those which share it, or by the earlier words
    /// of one. One that lacks by itself what that entry requires may not have been sent: a duplicate is better than a hole.
    fn is_covered(&self, spec: &Subscription, event: &Event) -> bool {
        let is_shared = |progress: &Progress| progress.shares_to.is_some_and(|to| event.sequence <= to);
        let covers = |(pattern, progress): (&TypePattern, &Progress)| {
            let Some(entry) = spec.entries.get(pattern) else { return false };
            if progress.completed || !entry.is_live_at(event.sequence) || !pattern.matches(&event.event_type) {
                return false;
            }
            had_by_earlier_words(entry, progress, event)
                || (event.sequence < progress.from_sequence
                    && !is_shared(progress)
                    && asks_for(entry, progress, event)
                    && is_satisfied(entry, words_for(progress, event), event, &Found::new()))
        };
        self.entries.values().any(is_shared) && self.entries.iter().any(covers)
    }
}

impl Progress {
    /// Counts a delivery. Answers whether a count depends on it: it has to survive a crash.
    pub(super) fn count_one(&mut self, entry: &Entry) -> bool {
        self.delivered += 1;
        let Some(count) = entry.attributes.count else { return false };
        self.completed = self.delivered >= count;
        true
    }
}

/// Whether an entry that has come so far wants an event. `covered`: the target has had it through another entry.
fn wants(pattern: &TypePattern, entry: &Entry, progress: &Progress, event: &Event, covered: bool) -> bool {
    !progress.completed
        && !has_had(entry, progress, event, covered)
        && pattern.matches(&event.event_type)
        && asks_for(entry, progress, event)
}

/// Whether an entry has had an event, or is owed none there: the one notion of it. What a target took early is in
/// [`Lane::had`], event by event.
fn has_had(entry: &Entry, progress: &Progress, event: &Event, covered: bool) -> bool {
    let sequence = event.sequence;
    sequence < progress.from_sequence
        || asked_by_earlier_words(entry, progress, event).is_some()
        || (covered && shares(entry, progress, event))
        || progress.owed.is_some_and(|owed| sequence < owed.until && owed.events == 0)
}

/// The earlier words of an entry by which the lane went past an event, where they asked for it.
fn asked_by_earlier_words<'a>(entry: &'a Entry, progress: &'a Progress, event: &Event) -> Option<&'a Continued> {
    progress.by_earlier_words_to.filter(|to| event.sequence <= *to)?;
    progress.gone_by.as_deref().or(entry.continues.as_ref()).filter(|words| words.asked_for(event))
}

/// Whether there are such, and the event has by itself what they required: the target has had it.
fn had_by_earlier_words(entry: &Entry, progress: &Progress, event: &Event) -> bool {
    asked_by_earlier_words(entry, progress, event).is_some_and(|words| {
        let required = words.attributes.required_data.iter().map(String::as_str);
        required_data::missing(&event.data, required).is_empty()
    })
}

/// Whether the lane had gone past an event when the entry was new to it, and the event had come after the registration.
fn shares(entry: &Entry, progress: &Progress, event: &Event) -> bool {
    progress.shares_to.is_some_and(|to| event.sequence <= to) && entry.is_live_at(event.sequence)
}

/// Whether an entry asks for an event. Of what the target has said that it lacks, the present words alone decide, and their start
/// does not count.
fn asks_for(entry: &Entry, progress: &Progress, event: &Event) -> bool {
    match start_of(progress, event) {
        Start::Counts => entry.asks_for(event, Start::Counts),
        Start::IsWaived => entry.lets_through(event, Start::IsWaived),
    }
}

/// Whether the start of an entry counts for an event.
fn start_of(progress: &Progress, event: &Event) -> Start {
    match progress.resumed_after {
        Some(after) if event.sequence > after => Start::IsWaived,
        _ => Start::Counts,
    }
}

/// Which words of an entry say what an event must have.
pub(super) fn words_for(progress: &Progress, event: &Event) -> Words {
    match start_of(progress, event) {
        Start::Counts => Words::OfItsTime,
        Start::IsWaived => Words::Present,
    }
}

/// Whether an event has, with what was found, all that an entry requires.
pub(super) fn is_satisfied(entry: &Entry, words: Words, event: &Event, found: &Found) -> bool {
    let mut required = entry.required_data(event.sequence, words).map(String::as_str).peekable();
    required.peek().is_none()
        || required_data::missing(&event.data, required).iter().all(|key| found.contains_key(*key))
}
