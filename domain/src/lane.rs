//! What is, per URL: how far its lane has come. The value of a key in the bucket `LANES`. Only the dispatcher writes it.
//!
//! A lane is one position in the log: all that its entries wanted up to there has been acknowledged by the target.
//! Everything that can happen to it is a function here; the dispatcher carries it out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Event;
use crate::required_data::{self, Found};
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription};
use crate::type_pattern::{self, TypePattern};

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
    /// Whether it has had all that it asked for.
    pub completed: bool,
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
    /// The event.
    pub sequence: u64,
    /// When it was tried.
    pub at: Stamp,
    /// The status that the target answered with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
    /// When it is tried again.
    pub next_attempt: Stamp,
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
    /// The lane that delivers what is `asked` for, going on from a `previous` state where there is one.
    ///
    /// An entry that was registered anew may want events from before the lane's position. Then the position moves back,
    /// and the entries that have had their events up to there want only what comes after: so nothing is lost, nothing
    /// comes twice, and every event comes in the log's order. `fresh_epoch` becomes the lane's epoch if a new
    /// consumer is needed.
    pub fn reconcile(previous: Option<&Self>, asked: &Subscription, fresh_epoch: &str) -> Self {
        let known = |pattern: &TypePattern, entry: &Entry| {
            previous?.entries.get(pattern).filter(|progress| progress.registration == entry.registration)
        };
        // Replaced without asking for the past: goes on where the earlier registration is, if that is not done.
        let continued = |pattern: &TypePattern, entry: &Entry| {
            previous?.entries.get(pattern).filter(|progress| progress.line == entry.line())
        };
        let starts_at = |entry: &Entry, earlier: Option<&Progress>| match (&entry.continues, earlier) {
            (Some(_), Some(earlier)) if !earlier.completed => earlier.from_sequence,
            (Some(continued), None) => continued.from_sequence,
            _ => entry.from_sequence,
        };
        let owes =
            |pattern: &TypePattern, entry: &Entry| continued(pattern, entry).is_some_and(|earlier| !earlier.completed);
        let newcomers =
            asked.entries.iter().filter(|(pattern, entry)| known(pattern, entry).is_none() && !owes(pattern, entry));
        let newcomers_want = newcomers.map(|(p, entry)| starts_at(entry, continued(p, entry)).saturating_sub(1)).min();
        let mut replay = asked.replay.as_ref().map(|asked| {
            let taken_up = previous.and_then(|lane| lane.replay.clone()).filter(|replay| replay.id == asked.id);
            taken_up.unwrap_or_else(|| ReplayProgress { id: asked.id.clone(), next: asked.from_sequence })
        });
        let ends = asked.replay.as_ref().map_or(0, |replay| replay.to_sequence);
        let replay_wants = replay.as_ref().filter(|replay| replay.next <= ends).map(|replay| replay.next - 1);
        let had = previous.map(|lane| lane.position);
        let mut position = had.into_iter().chain(newcomers_want).chain(replay_wants).min().unwrap_or(0);
        let moved_back = had.is_some_and(|had| position < had);

        let progress = |(pattern, entry): (&TypePattern, &Entry)| {
            let progress = match known(pattern, entry) {
                Some(progress) if moved_back => {
                    Progress { from_sequence: progress.from_sequence.max(had.unwrap_or(0) + 1), ..progress.clone() }
                }
                Some(progress) => progress.clone(),
                None => {
                    let earlier = continued(pattern, entry);
                    let from_sequence = starts_at(entry, earlier);
                    let already_had = if moved_back && owes(pattern, entry) { had.unwrap_or(0) + 1 } else { 0 };
                    Progress {
                        registration: entry.registration.clone(),
                        line: entry.line().to_owned(),
                        from_sequence: from_sequence.max(already_had),
                        delivered: 0,
                        skipped: 0,
                        completed: false,
                    }
                }
            };
            (pattern.clone(), progress)
        };
        let entries: BTreeMap<TypePattern, Progress> = asked.entries.iter().map(progress).collect();

        let active = || entries.iter().filter(|(_, progress)| !progress.completed);
        let first_wanted = active().map(|(_, progress)| progress.from_sequence).min();
        match (first_wanted, &mut replay) {
            (Some(first_wanted), _) => {
                let first_wanted = replay_wants.map_or(first_wanted, |wants| first_wanted.min(wants + 1));
                position = position.max(first_wanted.saturating_sub(1));
            }
            // Nobody wants anything any more, not even again.
            (None, Some(replay)) => replay.next = ends + 1,
            (None, None) => {}
        }
        let filters = type_pattern::disjoint(active().map(|(pattern, _)| pattern));
        let same_consumer = previous.is_some_and(|lane| lane.filters == filters && !moved_back);
        let epoch = previous.filter(|_| same_consumer).map_or(fresh_epoch, |lane| &lane.epoch).to_owned();
        let completed = entries.values().all(|progress| progress.completed);
        // With other filters, or further back, another event may be the next one: it is tried at once.
        let failure = previous.and_then(|lane| lane.failure.clone()).filter(|_| same_consumer);
        Self {
            url: asked.url.to_string(),
            state: match (completed, asked.paused, &failure) {
                (true, ..) => State::Completed,
                (false, true, _) => State::Paused,
                (false, false, Some(_)) => State::Held,
                (false, false, None) => State::Active,
            },
            phase: previous.filter(|_| !moved_back).map_or(Phase::Replaying, |lane| lane.phase),
            position,
            last_delivered: previous.map_or(0, |lane| lane.last_delivered),
            epoch,
            filters,
            entries,
            failure,
            last_attempt: previous.and_then(|lane| lane.last_attempt.clone()),
            replay,
            updated: previous.map_or(Stamp::from_micros(0), |lane| lane.updated),
        }
    }

    /// Takes in the acknowledgement floor of the consumer of the same epoch, which must be that of a message that is
    /// still in the log: one that is removed while it is out moves the floor without having been delivered. Beyond the
    /// written position it is then an event that was delivered: what is passed over is acknowledged after the position
    /// has been written, or together with a later delivery.
    pub fn adopt_floor(&mut self, floor: u64) {
        if floor > self.position {
            self.position = floor;
            self.last_delivered = floor;
        }
    }

    /// Which keys the event lacks that an entry which wants it requires: to be looked for in earlier events of its
    /// transaction before [`Lane::due`] is asked.
    pub fn lacks(&self, asked: &Subscription, event: &Event) -> BTreeSet<String> {
        if event.sequence <= self.position {
            return BTreeSet::new();
        }
        let wanting = self.wanting(asked, event).chain(self.replayed(asked, event));
        let required = wanting.flat_map(|(_, entry)| &entry.attributes.required_data);
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
        let again = self.replayed(asked, event).filter(|(_, entry)| is_satisfied(entry, event, found));
        for (_, entry) in again {
            let due = due.get_or_insert(Due {
                is_replay: true,
                priority: f64::INFINITY,
                listener_data: None,
                data: event.data.clone(),
            });
            due.take_in(entry);
            required.extend(entry.attributes.required_data.iter().map(String::as_str));
        }
        for (_, entry) in self.wanting(asked, event).filter(|(_, entry)| is_satisfied(entry, event, found)) {
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

    /// Records that an event was delivered. Answers whether that must be written before the next one: a count has to
    /// survive a crash, and so has a change of what is wanted.
    pub fn delivered(&mut self, asked: &Subscription, event: &Event, found: &Found) -> bool {
        let mut must_write = false;
        for (pattern, count, satisfied) in self.wanting_by_name(asked, event, found) {
            let Some(progress) = self.entries.get_mut(&pattern) else { continue };
            if !satisfied {
                progress.skipped += 1;
                continue;
            }
            progress.delivered += 1;
            if let Some(count) = count {
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
    pub fn skipped(&mut self, asked: &Subscription, event: &Event, found: &Found) {
        if event.sequence > self.position {
            for (pattern, ..) in self.wanting_by_name(asked, event, found) {
                if let Some(progress) = self.entries.get_mut(&pattern) {
                    progress.skipped += 1;
                }
            }
        }
        self.passed_over(event.sequence);
    }

    /// Records that nobody wants what lies up to a sequence.
    pub fn passed_over(&mut self, sequence: u64) {
        self.moved_to(sequence);
        if self.failure.as_ref().is_some_and(|failure| failure.sequence <= sequence) {
            self.failure = None;
            self.state = State::Active;
        }
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
        if self.position <= last_sequence {
            return false;
        }
        self.position = last_sequence;
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
    fn replayed<'a>(
        &'a self,
        asked: &'a Subscription,
        event: &'a Event,
    ) -> impl Iterator<Item = (&'a TypePattern, &'a Entry)> {
        let next = self.replay.as_ref().map_or(u64::MAX, |replay| replay.next);
        let replay = asked.replay.as_ref().filter(|replay| event.sequence >= next && replay.holds(event));
        self.active(asked).filter(move |(pattern, entry)| {
            replay.is_some_and(|replay| entry.registered_at <= replay.asked_at)
                && self.entries.get(*pattern).is_some_and(|progress| event.sequence < progress.from_sequence)
                && pattern.matches(&event.event_type)
                && entry.asks_for(event)
        })
    }

    /// The entries that want an event: pattern, count, and whether what they require is there.
    fn wanting_by_name(
        &self,
        asked: &Subscription,
        event: &Event,
        found: &Found,
    ) -> Vec<(TypePattern, Option<u64>, bool)> {
        let wanting = self.wanting(asked, event);
        wanting
            .map(|(pattern, entry)| (pattern.clone(), entry.attributes.count, is_satisfied(entry, event, found)))
            .collect()
    }

    fn wanting<'a>(
        &'a self,
        asked: &'a Subscription,
        event: &'a Event,
    ) -> impl Iterator<Item = (&'a TypePattern, &'a Entry)> {
        self.active(asked).filter(move |(pattern, entry)| {
            self.entries.get(*pattern).is_some_and(|progress| event.sequence >= progress.from_sequence)
                && pattern.matches(&event.event_type)
                && entry.asks_for(event)
        })
    }
}

/// Whether an event has, with what was found, all that an entry requires.
fn is_satisfied(entry: &Entry, event: &Event, found: &Found) -> bool {
    let required = entry.attributes.required_data.iter().map(String::as_str);
    entry.attributes.required_data.is_empty()
        || required_data::missing(&event.data, required).iter().all(|key| found.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::subscription::Replay;
    use crate::target_url::TargetUrl;
    use proptest::prelude::*;

    fn event(sequence: u64, event_type: &str) -> Event {
        let at = Stamp::from_micros(i64::try_from(sequence).unwrap() * 1_000_000);
        Event::from_message("EVENTS", &format!("events.{event_type}"), sequence, at, [], Bytes::new()).unwrap()
    }

    /// Entries as (pattern, name of the registration, from, live from, count).
    fn asked(entries: &[(&str, &str, u64, u64, Option<u64>)]) -> Subscription {
        let mut subscription = Subscription::new(TargetUrl::parse("http://host/").unwrap());
        for (pattern, registration, from_sequence, live_from, count) in entries {
            let entry = Entry {
                registration: (*registration).to_owned(),
                registered_at: Stamp::from_micros(0),
                from_sequence: *from_sequence,
                live_from: *live_from,
                continues: None,
                attributes: Attributes { count: *count, ..Attributes::default() },
            };
            subscription.entries.insert(TypePattern::parse(pattern).unwrap(), entry);
        }
        subscription
    }

    /// Runs a lane over a log of types from sequence 1, up to and with `until`; answers what it delivered.
    fn run(lane: &mut Lane, asked: &Subscription, log: &[&str], until: u64) -> Vec<u64> {
        let mut delivered = Vec::new();
        for (sequence, event_type) in (1..=until).zip(log) {
            let event = event(sequence, event_type);
            if sequence <= lane.position || !lane.filters.iter().any(|filter| filter.matches(&event.event_type)) {
                continue;
            }
            if lane.due(asked, &event, &Found::new()).is_some() {
                lane.delivered(asked, &event, &Found::new());
                delivered.push(sequence);
            } else {
                lane.passed_over(sequence);
            }
        }
        delivered
    }

    #[test]
    fn a_lane_starts_where_its_first_entry_does() {
        let lane = Lane::reconcile(None, &asked(&[("a", "1", 7, 7, None), ("b", "2", 3, 9, None)]), "e1");
        assert_eq!((lane.position, lane.epoch.as_str(), lane.state), (2, "e1", State::Active));
        assert_eq!(lane.filters.len(), 2);
        assert_eq!(lane.live_from(&asked(&[("a", "1", 7, 7, None), ("b", "2", 3, 9, None)])), 9);
    }

    #[test]
    fn adding_a_past_start_brings_the_past_and_nothing_twice() {
        let log = ["a", "b", "a", "b", "a", "b", "a", "b"];
        let before = asked(&[("a", "1", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &before, "e1");
        assert_eq!(run(&mut lane, &before, &log, 5), [1, 3, 5]);

        let after = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 6, None)]);
        let mut lane = Lane::reconcile(Some(&lane), &after, "e2");
        assert_eq!((lane.position, lane.epoch.as_str(), lane.phase), (0, "e2", Phase::Replaying));
        assert_eq!(run(&mut lane, &after, &log, 8), [2, 4, 6, 7, 8]);
    }

    #[test]
    fn a_live_entry_is_not_lost_though_the_lane_has_gone_past_its_start() {
        let log = ["a", "a", "b", "a", "b"];
        let before = asked(&[("a", "1", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &before, "e1");
        assert_eq!(run(&mut lane, &before, &log, 4), [1, 2, 4]);
        let after = asked(&[("a", "1", 1, 1, None), ("b", "2", 3, 3, None)]);
        let mut lane = Lane::reconcile(Some(&lane), &after, "e2");
        assert_eq!(run(&mut lane, &after, &log, 5), [3, 5]);
    }

    #[test]
    fn registering_the_same_again_replays_it_and_the_same_registration_does_not() {
        let log = ["a", "a", "a"];
        let first = asked(&[("a", "1", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &first, "e1");
        assert_eq!(run(&mut lane, &first, &log, 3), [1, 2, 3]);
        assert_eq!(Lane::reconcile(Some(&lane), &first, "e2"), lane);

        let again = asked(&[("a", "2", 1, 4, Some(1))]);
        let mut lane = Lane::reconcile(Some(&lane), &again, "e3");
        assert!(lane.due(&again, &event(1, "a"), &Found::new()).is_some_and(|due| due.is_replay));
        assert_eq!(run(&mut lane, &again, &log, 3), [1]);
        assert_eq!(Lane::reconcile(Some(&lane), &again, "e4").state, State::Completed);
    }

    #[test]
    fn registering_again_without_a_past_start_still_brings_what_is_owed() {
        let log = ["a", "a", "a", "a", "b"];
        let again = |earlier: &Subscription, name: &str, from: u64| {
            let mut now = asked(&[("a", name, from, from, None)]);
            let before = &earlier.entries[&TypePattern::parse("a").unwrap()];
            for entry in now.entries.values_mut() {
                *entry = entry.clone().replacing(before);
            }
            now
        };
        let first = asked(&[("a", "1", 1, 1, Some(2))]);
        let mut lane = Lane::reconcile(None, &first, "e1");
        assert_eq!(run(&mut lane, &first, &log, 1), [1]);
        // Replaced twice while 2 to 4 wait; the lane hears of the last one only.
        let third = again(&again(&first, "2", 4), "3", 5);
        let mut lane = Lane::reconcile(Some(&lane), &third, "e2");
        assert_eq!(lane.position, 1);
        assert_eq!(lane.due(&third, &event(2, "a"), &Found::new()).map(|due| due.is_replay), Some(false));
        assert_eq!(run(&mut lane, &third, &log, 5), [2, 3, 4]);
        // A lane that never saw the first one owes what that was promised.
        assert_eq!(Lane::reconcile(None, &third, "e3").position, 0);
        // One that was completed owes nothing: it starts anew, with what came after its acceptance, though another entry
        // has taken the lane past that.
        let first_and_b = asked(&[("a", "1", 1, 1, Some(1)), ("b", "9", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &first_and_b, "e6");
        assert_eq!(run(&mut lane, &first_and_b, &log, 1), [1]);
        let mut lane = Lane::reconcile(Some(&lane), &first_and_b, "e7");
        assert_eq!(run(&mut lane, &first_and_b, &log, 5), [5]);
        let mut anew = again(&first, "2", 3);
        anew.entries.extend(
            first_and_b
                .entries
                .iter()
                .filter(|(pattern, _)| pattern.as_str() == "b")
                .map(|(p, e)| (p.clone(), e.clone())),
        );
        let mut lane = Lane::reconcile(Some(&lane), &anew, "e8");
        assert_eq!(run(&mut lane, &anew, &log, 5), [3, 4]);
        let mut lane = Lane::reconcile(None, &first, "e4");
        assert_eq!(run(&mut lane, &first, &log, 2), [1, 2]);
        let mut lane = Lane::reconcile(Some(&lane), &third, "e5");
        assert_eq!(run(&mut lane, &third, &log, 5), [0u64; 0]);
    }

    #[test]
    fn a_replay_brings_a_part_of_the_log_again_and_then_goes_on_where_it_was() {
        let log = ["a", "b", "a", "b", "a", "a"];
        let mut one = asked(&[("a", "1", 1, 1, Some(5))]);
        let mut lane = Lane::reconcile(None, &one, "e1");
        assert_eq!(run(&mut lane, &one, &log, 5), [1, 3, 5]);
        let at = |seconds: i64| Stamp::from_micros(seconds * 1_000_000);
        let replay =
            Replay { id: "r".into(), asked_at: at(9), from_sequence: 2, to_sequence: 5, from: at(2), to: Some(at(4)) };
        one.replay = Some(replay);
        let mut lane = Lane::reconcile(Some(&lane), &one, "e2");
        assert_eq!((lane.position, lane.epoch.as_str()), (1, "e2"));
        assert!(lane.due(&one, &event(3, "a"), &Found::new()).unwrap().is_replay);
        assert_eq!(run(&mut lane, &one, &log, 6), [3, 6]);
        assert_eq!(lane.entries.values().next().unwrap().delivered, 4, "what is replayed is not counted again");
        assert_eq!(Lane::reconcile(Some(&lane), &one, "e3").position, 6, "and the same replay is not taken up twice");
        // Nor does a later move back repeat it.
        let mut both = asked(&[("a", "1", 1, 1, Some(5)), ("b", "2", 1, 7, None)]);
        both.replay.clone_from(&one.replay);
        let mut lane = Lane::reconcile(Some(&lane), &both, "e4");
        assert_eq!(run(&mut lane, &both, &log, 6), [2, 4]);
    }

    #[test]
    fn a_paused_lane_stays_where_it_is() {
        let mut one = asked(&[("a", "1", 1, 1, None)]);
        let lane = Lane::reconcile(None, &one, "e1");
        one.paused = true;
        let paused = Lane::reconcile(Some(&lane), &one, "e2");
        assert_eq!((paused.state, paused.position, paused.epoch.as_str()), (State::Paused, 0, "e1"));
    }

    #[test]
    fn a_count_must_be_written_and_completes_the_entry() {
        let both = asked(&[("a", "1", 1, 1, Some(2)), (">", "2", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &both, "e1");
        assert!(lane.delivered(&both, &event(1, "a"), &Found::new()));
        assert!(!lane.delivered(&both, &event(2, "b"), &Found::new()));
        assert!(lane.delivered(&both, &event(3, "a"), &Found::new()));
        assert!(lane.entries.values().next_back().unwrap().completed);
        assert!(!lane.delivered(&both, &event(4, "a"), &Found::new()));
    }

    #[test]
    fn an_event_that_several_entries_want_is_due_once_and_live_if_it_is_for_one() {
        let both = asked(&[("a", "1", 1, 5, None), ("*", "2", 1, 3, None)]);
        let lane = Lane::reconcile(None, &both, "e1");
        assert_eq!(lane.due(&both, &event(2, "a"), &Found::new()).map(|due| due.is_replay), Some(true));
        assert_eq!(lane.due(&both, &event(4, "a"), &Found::new()).map(|due| due.is_replay), Some(false));
        assert_eq!(lane.due(&both, &event(4, "b.c"), &Found::new()), None);
    }

    #[test]
    fn what_is_required_is_filled_in_or_the_event_is_skipped_for_who_requires_it() {
        let mut both = asked(&[("a", "1", 1, 1, None), ("*", "2", 1, 1, None)]);
        let requiring = both.entries.get_mut(&TypePattern::parse("a").unwrap()).unwrap();
        requiring.attributes.required_data = vec!["k".into(), "l".into()];
        requiring.attributes.listener_data = Some(Value::from(7));
        requiring.attributes.priority = 3.0;
        let at = Stamp::from_micros(0);
        let event = |sequence, data: &'static str| {
            Event::from_message("EVENTS", "events.a", sequence, at, [], Bytes::from(data)).unwrap()
        };
        let mut lane = Lane::reconcile(None, &both, "e1");
        let first = event(1, r#"{"l":0}"#);
        assert_eq!(lane.lacks(&both, &first), BTreeSet::from(["k".to_owned()]));

        // Not found: the other entry gets it as it is.
        let due = lane.due(&both, &first, &Found::new()).unwrap();
        assert_eq!((due.priority, due.listener_data, &due.data[..]), (100.0, None, &br#"{"l":0}"#[..]));
        lane.delivered(&both, &first, &Found::new());
        let progress = |lane: &Lane| lane.entries.values().map(|p| (p.delivered, p.skipped)).collect::<Vec<_>>();
        assert_eq!(progress(&lane), [(1, 0), (0, 1)]);

        // Found: filled in.
        let found = Found::from([("k".to_owned(), "[1]".to_owned())]);
        let due = lane.due(&both, &event(2, r#"{"l":0}"#), &found).unwrap();
        assert_eq!((due.priority, due.listener_data), (3.0, Some(Value::from(7))));
        assert_eq!(&due.data[..], br#"{"l":0,"k":[1]}"#);

        // Alone, and not found: not due at all.
        both.entries.remove(&TypePattern::parse("*").unwrap());
        let mut lane = Lane::reconcile(None, &both, "e2");
        assert_eq!(lane.due(&both, &first, &Found::new()), None);
        lane.skipped(&both, &first, &Found::new());
        assert_eq!((progress(&lane), lane.position), (vec![(0, 1)], 1));
    }

    #[test]
    fn a_redelivery_at_or_below_the_position_is_not_due() {
        let one = asked(&[("a", "1", 1, 1, None)]);
        let mut lane = Lane::reconcile(None, &one, "e1");
        lane.delivered(&one, &event(4, "a"), &Found::new());
        assert_eq!(lane.due(&one, &event(4, "a"), &Found::new()), None);
        assert_eq!(lane.due(&one, &event(3, "a"), &Found::new()), None);
        assert!(lane.due(&one, &event(5, "a"), &Found::new()).is_some());
    }

    #[test]
    fn a_log_that_was_rolled_back_is_followed() {
        let one = asked(&[("a", "1", 9, 9, None)]);
        let mut lane = Lane::reconcile(None, &one, "e1");
        lane.delivered(&one, &event(9, "a"), &Found::new());
        assert!(!lane.follow_log_back(9, "e2"));
        assert!(lane.follow_log_back(4, "e2"));
        assert_eq!(lane.epoch, "e2");
        assert!(lane.due(&one, &event(5, "a"), &Found::new()).is_some());
    }

    #[test]
    fn an_end_that_is_over_completes_its_entry() {
        let mut one = asked(&[("a", "1", 1, 1, None)]);
        for entry in one.entries.values_mut() {
            entry.attributes.datetime_end = Some(Stamp::from_micros(10_000_000));
        }
        let mut lane = Lane::reconcile(None, &one, "e1");
        let over = lane.next_over(&one).unwrap();
        assert!(!lane.complete_over(&one, 5, over));
        assert!(lane.complete_over(&one, 5, over.plus_micros(1)));
        assert!(!lane.complete_over(&one, 5, over.plus_micros(1)));
        assert_eq!(lane.next_over(&one), None);
        assert_eq!(Lane::reconcile(Some(&lane), &one, "e2").state, State::Completed);
    }

    proptest! {
        /// However registrations and deliveries alternate, and however late the lane hears of a registration, each line
        /// of registrations gets exactly the events it is owed, from its start on, each once; and what is delivered
        /// between two changes is in the log's order.
        #[test]
        fn every_registration_gets_each_of_its_events_exactly_once(
            log in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 64),
            steps in prop::collection::vec(
                (0usize..3, prop::option::of(1u64..61), 1u64..10, 0u64..=100, any::<bool>(), 0u64..=100), 1..8,
            ),
        ) {
            let patterns = ["a", "b", "c"];
            let mut asked = asked(&[]);
            // The lane, and what it has heard of.
            let mut lane: Option<(Lane, Subscription)> = None;
            let mut accepted = 0;
            // Where each line begins, and what it has had.
            let mut lines: BTreeMap<String, (&str, u64)> = BTreeMap::new();
            let mut had: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            let mut deliver = |(lane, asked): &mut (Lane, Subscription), until: u64| {
                let delivered = run(lane, asked, &log, until);
                for sequence in &delivered {
                    let event_type = TypePattern::parse(log[usize::try_from(*sequence).unwrap() - 1]).unwrap();
                    had.entry(asked.entries[&event_type].line().to_owned()).or_default().push(*sequence);
                }
                delivered.is_sorted()
            };
            let steps = steps.into_iter().map(Some).chain([None]);
            for (number, step) in steps.enumerate() {
                let (hears, before, after) = if let Some((which, past, more, before, hears, after)) = step {
                    let pattern = TypePattern::parse(patterns[which]).unwrap();
                    let live_from = accepted + 1;
                    let entry = Entry {
                        registration: format!("r{number}"),
                        registered_at: Stamp::from_micros(0),
                        from_sequence: past.map_or(live_from, |past| past.min(live_from)),
                        live_from,
                        continues: None,
                        attributes: Attributes::default(),
                    };
                    let entry = match asked.entries.get(&pattern) {
                        Some(earlier) => entry.replacing(earlier),
                        None => entry,
                    };
                    lines.entry(entry.line().to_owned()).or_insert((patterns[which], entry.from_sequence));
                    // A line that is replaced from the past ends here.
                    if let Some(earlier) = asked.entries.insert(pattern, entry.clone()) && earlier.line() != entry.line() {
                        lines.remove(earlier.line());
                    }
                    accepted += more;
                    (hears, before, after)
                } else {
                    (true, 0, 100)
                };
                if let Some(lane) = &mut lane {
                    prop_assert!(deliver(lane, accepted * before / 100));
                }
                if hears {
                    let now = Lane::reconcile(lane.as_ref().map(|(lane, _)| lane), &asked, &format!("e{number}"));
                    let now = lane.insert((now, asked.clone()));
                    prop_assert!(deliver(now, accepted * after / 100));
                }
            }
            for (line, (pattern, from)) in &lines {
                let expected: Vec<u64> =
                    (*from..=accepted).filter(|s| log[usize::try_from(*s).unwrap() - 1] == *pattern).collect();
                let mut got = had.remove(line).unwrap_or_default();
                got.sort_unstable();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
