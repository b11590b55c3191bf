//! What is, per URL: how far its lane has come. The value of a key in the bucket `LANES`. Only the dispatcher writes it.
//!
//! A lane is one position in the log: all that its entries wanted up to there has been acknowledged by the target.
//! Everything that can happen to it is a function here; the dispatcher carries it out. What a change of what is asked for
//! does to it is in `reconcile`, what retention does in [`gap`], what stops
//! it, in `stop`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Event;
use crate::required_data::{self, Found};
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription, Test};
use crate::type_pattern::TypePattern;

pub mod gap;
mod reconcile;
mod stop;
#[cfg(test)]
mod tests;

pub use gap::Gap;
pub use stop::{Stop, Why};

/// The state of one URL's deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// The URL without user information and query, for whoever looks.
    pub url: String,
    /// Whether it delivers, waits for its target, or is done.
    pub state: State,
    /// Whether what it delivers is past or present.
    pub phase: Phase,
    /// All that was wanted up to this sequence has been delivered. Written now and then: the consumer's
    /// acknowledgement floor may be further, and counts if it has the same [`Lane::epoch`].
    pub position: u64,
    /// The sequence delivered last, 0 for none.
    pub last_delivered: u64,
    /// A name for the consumer that this position belongs to. It changes whenever the filters do or the position moves
    /// back, and then the consumer is made anew: a consumer's own state may roll back when a server is killed, and
    /// within one epoch it can only ever roll back to less than was delivered.
    pub epoch: String,
    /// What the consumer lets through: at least what the entries want, without overlaps.
    pub filters: Vec<TypePattern>,
    /// What lies beyond the position and has been delivered, where several deliveries are under way at a time.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub had: BTreeSet<u64>,
    /// How far each entry has come.
    pub entries: BTreeMap<TypePattern, Progress>,
    /// Why the lane is held, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The last attempt to deliver anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// How far the replay that was asked for last has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayProgress>,
    /// There is nothing that the entries want between the position and this sequence. Written now and then.
    #[serde(default)]
    pub clear_to: u64,
    /// What was removed from the log before it could be delivered, while the lane waits because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// What has ended deliveries, while it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
    /// The act of resuming that was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumption: Option<String>,
    /// What came of the test that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestOutcome>,
    /// When this was written.
    pub updated: Stamp,
}

/// Whether a lane delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It delivers what comes.
    Active,
    /// Its target does not take an event; it tries again and again.
    Held,
    /// It waits until it is resumed.
    Paused,
    /// Events were removed from the log before they could be delivered: it waits until it is told to go on without them.
    Gap,
    /// The target has said that it is gone: it waits until it is registered again, or resumed.
    Gone,
    /// Every entry has had all that it asked for.
    Completed,
}

/// Where in the log a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Among events from before a registration.
    Replaying,
    /// Caught up.
    Live,
}

/// How far one entry of a subscription has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The act of registering that this belongs to.
    pub registration: String,
    /// The line of registrations that it is in: see [`Entry::line`].
    pub line: String,
    /// The first sequence that it still may want.
    pub from_sequence: u64,
    /// How many events it has had.
    pub delivered: u64,
    /// How many it did not get because data that it requires was nowhere in their transactions.
    #[serde(default)]
    pub skipped: u64,
    /// How many it did not get because they were tried as often as was asked for: they are dead letters.
    #[serde(default)]
    pub dead_lettered: u64,
    /// Whether it has had all that it asked for.
    pub completed: bool,
    /// Up to here, from where its words changed, the lane has gone by the words before: what those asked for it has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_earlier_words_to: Option<u64>,
}

/// How far a replay has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Which one.
    pub id: String,
    /// The next sequence of it; beyond its last one when it is finished.
    pub next: u64,
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The event; the first one, where several went in one request.
    pub sequence: u64,
    /// The last one, where several went in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_sequence: Option<u64>,
    /// When it was tried.
    pub at: Stamp,
    /// Which attempt at this event it was, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The status that the target answered with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the target said then: the beginning of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What came of a test of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestOutcome {
    /// Which test.
    pub id: String,
    /// What came of it; its sequence is 0, for it is no event. `None`: it was asked for too long ago to be made.
    pub attempt: Option<Attempt>,
}

/// A delivery that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The event that waits.
    pub sequence: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub error: String,
    /// When it is tried again; `None`: when the subscription is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Stamp>,
    /// A name for the dead letter that it becomes, once that is decided: from then on the letter is written, however often
    /// that must be tried, and the target is not tried any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
}

/// An event that a lane has to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Whether it is from before the registrations of all entries that want it.
    pub is_replay: bool,
    /// How urgent it is, by the most urgent entry that wants it: lower goes first.
    pub priority: f64,
    /// What the first entry that wants it and has any wants to be given back.
    pub listener_data: Option<Value>,
    /// The payload, with what an entry requires filled in.
    pub data: Bytes,
}

impl Due {
    fn take_in(&mut self, entry: &Entry) {
        self.priority = self.priority.min(entry.attributes.priority);
        if self.listener_data.is_none() {
            self.listener_data.clone_from(&entry.attributes.listener_data);
        }
    }
}

impl Lane {
    /// Takes in the acknowledgement floor of the consumer of the same epoch, which must be that of a message that is
    /// still in the log: one that is removed while it is out moves the floor without having been delivered. Beyond the
    /// written position it is then an event that was delivered: what is passed over is acknowledged after the position
    /// has been written, or together with a later delivery.
    pub fn adopt_floor(&mut self, floor: u64) {
        if floor > self.position {
            self.moved_to(floor);
            self.last_delivered = floor;
        }
    }

    /// The test that was asked for and has not been made.
    pub fn test_due<'a>(&self, asked: &'a Subscription) -> Option<&'a Test> {
        asked.test.as_ref().filter(|test| self.test.as_ref().is_none_or(|done| done.id != test.id))
    }

    /// Which keys the event lacks that an entry which wants it requires: to be looked for in earlier events of its
    /// transaction before [`Lane::due`] is asked.
    pub fn lacks(&self, asked: &Subscription, event: &Event) -> BTreeSet<String> {
        if event.sequence <= self.position {
            return BTreeSet::new();
        }
        let wanting = self.wanting(asked, event).chain(self.replayed(asked, event));
        let required = wanting.flat_map(|entry| &entry.attributes.required_data);
        let mut required = required.map(String::as_str).peekable();
        if required.peek().is_none() {
            return BTreeSet::new();
        }
        required_data::missing(&event.data, required).into_iter().map(str::to_owned).collect()
    }

    /// Whether an event is to be delivered, and how, with what was `found` of the keys that it lacks. At or below the
    /// position nothing is: it has been.
    pub fn due(&self, asked: &Subscription, event: &Event, found: &Found) -> Option<Due> {
        if event.sequence <= self.position {
            return None;
        }
        let mut due: Option<Due> = None;
        let mut required: BTreeSet<&str> = BTreeSet::new();
        let again = self.replayed(asked, event).filter(|entry| is_satisfied(entry, event, found));
        for entry in again {
            let due = due.get_or_insert(Due {
                is_replay: true,
                priority: f64::INFINITY,
                listener_data: None,
                data: event.data.clone(),
            });
            due.take_in(entry);
            required.extend(entry.attributes.required_data.iter().map(String::as_str));
        }
        for entry in self.wanting(asked, event).filter(|entry| is_satisfied(entry, event, found)) {
            let due = due.get_or_insert(Due {
                is_replay: true,
                priority: f64::INFINITY,
                listener_data: None,
                data: event.data.clone(),
            });
            due.is_replay &= !entry.is_live_at(event.sequence);
            due.take_in(entry);
            required.extend(entry.attributes.required_data.iter().map(String::as_str));
        }
        let filled = found.iter().filter(|(key, _)| required.contains(key.as_str()));
        let mut filled = filled.map(|(key, value)| (key.as_str(), value.as_str())).peekable();
        if let (Some(due), Some(_)) = (&mut due, filled.peek()) {
            due.data = required_data::fill(&event.data, filled);
        }
        due
    }

    /// Records that an event was delivered before others that come before it in the log.
    pub fn delivered_early(&mut self, sequence: u64) {
        if sequence > self.position {
            self.had.insert(sequence);
        }
    }

    /// Records that an event was delivered. Answers whether that must be written before the next one: a count has to
    /// survive a crash, and so has a change of what is wanted.
    pub fn delivered(&mut self, asked: &Subscription, event: &Event, found: &Found) -> bool {
        let mut must_write = false;
        for (entry, progress) in self.progress_of_wanting(asked, event) {
            if !is_satisfied(entry, event, found) {
                progress.skipped += 1;
                continue;
            }
            progress.delivered += 1;
            if let Some(count) = entry.attributes.count {
                must_write = true;
                progress.completed = progress.delivered >= count;
            }
        }
        self.last_delivered = event.sequence;
        self.moved_to(event.sequence);
        self.failure = None;
        self.state = State::Active;
        must_write
    }

    /// Records that an event is not delivered, to whoever wants it, because what they require was not found.
    pub fn skipped(&mut self, asked: &Subscription, event: &Event) {
        if event.sequence > self.position {
            self.progress_of_wanting(asked, event).for_each(|(_, progress)| progress.skipped += 1);
        }
        self.passed_over(event.sequence);
    }

    /// Records that an event has become a dead letter. That must be written before the next one: what a consumer has
    /// acknowledged beyond the written position was always delivered.
    pub fn dead_lettered(&mut self, asked: &Subscription, event: &Event, found: &Found) {
        for (entry, progress) in self.progress_of_wanting(asked, event) {
            let is_dead = is_satisfied(entry, event, found);
            *(if is_dead { &mut progress.dead_lettered } else { &mut progress.skipped }) += 1;
        }
        self.moved_to(event.sequence);
        self.failure = None;
        self.state = State::Active;
    }

    /// Records that nobody wants what lies up to a sequence.
    pub fn passed_over(&mut self, sequence: u64) {
        self.moved_to(sequence);
        if self.failure.as_ref().is_some_and(|failure| failure.sequence <= sequence) {
            self.failure = None;
            self.state = State::Active;
        }
    }

    /// Whether it would be news that there is nothing behind the position: see [`Lane::read_to_the_end`].
    pub fn awaits_the_end(&self, asked: &Subscription) -> bool {
        let ends = asked.replay.as_ref().map_or(0, |replay| replay.to_sequence);
        self.phase == Phase::Replaying || self.replay.as_ref().is_some_and(|replay| replay.next <= ends)
    }

    /// Records that there is nothing behind the position, for now, that the filters let through. Answers whether that
    /// is news: it ends a replay, and what is delivered from now on is live.
    pub fn read_to_the_end(&mut self, asked: &Subscription) -> bool {
        let ends = asked.replay.as_ref().map_or(0, |replay| replay.to_sequence);
        let was_replaying = self.phase == Phase::Replaying;
        self.phase = Phase::Live;
        match &mut self.replay {
            Some(replay) if replay.next <= ends => {
                replay.next = ends + 1;
                true
            }
            _ => was_replaying,
        }
    }

    fn moved_to(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
        if self.had.first().is_some_and(|first| *first <= self.position) {
            self.had = self.had.split_off(&(self.position + 1));
        }
        if let Some(replay) = &mut self.replay {
            replay.next = replay.next.max(sequence + 1);
        }
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, failure: Failure) {
        self.state = State::Held;
        self.failure = Some(failure);
    }

    /// Completes the entries whose end was over when `sequence` was stored, at `stored_at`. What was stored before an
    /// entry was registered says nothing: it may have been imported, with times of its own. Answers whether there were
    /// any.
    pub fn complete_over(&mut self, asked: &Subscription, sequence: u64, stored_at: Stamp) -> bool {
        let mut any = false;
        for (pattern, progress) in &mut self.entries {
            let Some(entry) = asked.entries.get(pattern) else { continue };
            let over = sequence >= entry.live_from && entry.over_after().is_some_and(|over| over < stored_at);
            if over && !progress.completed {
                progress.completed = true;
                any = true;
            }
        }
        any
    }

    /// The next moment at which an entry may have to be completed because its end is over.
    pub fn next_over(&self, asked: &Subscription) -> Option<Stamp> {
        self.active(asked).filter_map(|(_, entry)| entry.over_after()).min()
    }

    /// The first sequence that is live for every entry: before it there is something to replay.
    pub fn live_from(&self, asked: &Subscription) -> u64 {
        let reaches_back = |(pattern, entry): &(&TypePattern, &Entry)| {
            self.entries.get(*pattern).is_some_and(|progress| !entry.is_live_at(progress.from_sequence))
        };
        let live_from = self.active(asked).filter(reaches_back).map(|(_, entry)| entry.live_from).max().unwrap_or(0);
        match (&asked.replay, &self.replay) {
            (Some(asked), Some(replay)) if replay.next <= asked.to_sequence => live_from.max(asked.to_sequence + 1),
            _ => live_from,
        }
    }

    /// How many entries have not had all that they asked for.
    pub fn active_entries(&self) -> usize {
        self.entries.values().filter(|progress| !progress.completed).count()
    }

    /// Takes in that the log ends at `last_sequence`, before the lane's position: it was rolled back or emptied, and
    /// what is written there now has not been seen. Answers whether that was so.
    pub fn follow_log_back(&mut self, last_sequence: u64, fresh_epoch: &str) -> bool {
        self.clear_to = self.clear_to.min(last_sequence);
        if self.position <= last_sequence {
            return false;
        }
        self.position = last_sequence;
        self.had.clear();
        self.last_delivered = self.last_delivered.min(last_sequence);
        for progress in self.entries.values_mut() {
            progress.from_sequence = progress.from_sequence.min(last_sequence + 1);
        }
        fresh_epoch.clone_into(&mut self.epoch);
        true
    }

    fn active<'a>(&'a self, asked: &'a Subscription) -> impl Iterator<Item = (&'a TypePattern, &'a Entry)> {
        let is_active = |pattern: &TypePattern| self.entries.get(pattern).is_some_and(|progress| !progress.completed);
        asked.entries.iter().filter(move |(pattern, _)| is_active(pattern))
    }

    /// The entries that an event is delivered to again because it is in the part of the log that is to be replayed, and
    /// from before where they are.
    fn replayed<'a>(&'a self, asked: &'a Subscription, event: &'a Event) -> impl Iterator<Item = &'a Entry> {
        let next = self.replay.as_ref().map_or(u64::MAX, |replay| replay.next);
        let replay = asked.replay.as_ref().filter(|replay| event.sequence >= next && replay.holds(event));
        self.entries.iter().filter_map(move |(pattern, progress)| {
            let (replay, entry) = (replay?, asked.entries.get(pattern)?);
            let is_before = !progress.completed && event.sequence < progress.from_sequence;
            let is_again = is_before && entry.registered_at <= replay.asked_at;
            (is_again && pattern.matches(&event.event_type) && entry.asks_for(event)).then_some(entry)
        })
    }

    /// The entries that want an event.
    fn wanting<'a>(&'a self, asked: &'a Subscription, event: &'a Event) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter_map(|(pattern, progress)| {
            let entry = asked.entries.get(pattern)?;
            wants(pattern, entry, progress, event).then_some(entry)
        })
    }

    /// The same, and how far each has come.
    fn progress_of_wanting<'a>(
        &'a mut self,
        asked: &'a Subscription,
        event: &'a Event,
    ) -> impl Iterator<Item = (&'a Entry, &'a mut Progress)> {
        self.entries.iter_mut().filter_map(|(pattern, progress)| {
            let entry = asked.entries.get(pattern)?;
            wants(pattern, entry, progress, event).then_some((entry, progress))
        })
    }
}

/// Whether an entry that has come so far wants an event.
fn wants(pattern: &TypePattern, entry: &Entry, progress: &Progress, event: &Event) -> bool {
    let has_had = progress.by_earlier_words_to.is_some_and(|to| event.sequence <= to);
    !progress.completed
        && event.sequence >= progress.from_sequence
        && !(has_had && entry.asked_before(event))
        && pattern.matches(&event.event_type)
        && entry.asks_for(event)
}

/// Whether an event has, with what was found, all that an entry requires.
fn is_satisfied(entry: &Entry, event: &Event, found: &Found) -> bool {
    let required = entry.attributes.required_data.iter().map(String::as_str);
    entry.attributes.required_data.is_empty()
        || required_data::missing(&event.data, required).iter().all(|key| found.contains_key(*key))
}
