//! How a lane comes forward through the log, and how it goes back.

use std::collections::BTreeSet;

use super::wants::{is_satisfied, words_for};
use super::{Failure, Lane, Phase, State};
use crate::event::Event;
use crate::log_epoch::Mark;
use crate::required_data::Found;
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription};
use crate::type_pattern::TypePattern;

impl Lane {
    /// Takes in the acknowledgement floor of the consumer of the same epoch, which must be that of a message that is
    /// still in the log: one that is removed while it is out moves the floor without having been delivered. Beyond the
    /// written position it is then an event that was delivered: what is passed over is acknowledged after the position
    /// has been written, or together with a later delivery.
    /// `mark`: what stands there.
    pub fn adopt_floor(&mut self, floor: u64, mark: Option<Mark>) {
        if floor > self.position {
            self.moved_to(floor);
            self.last_delivered = floor;
            self.is_marked_by(mark);
        }
    }

    /// Takes note of what stands at a place that the lane has had, if that is further than what it knows.
    pub fn is_marked_by(&mut self, mark: Option<Mark>) {
        let known = self.mark.as_ref().map_or(0, |known| known.sequence);
        if let Some(mark) = mark.filter(|mark| mark.sequence > known) {
            self.mark = Some(mark);
        }
    }

    /// Records that an event was delivered before others that come before it in the log.
    pub fn delivered_early(&mut self, event: &Event) {
        if event.sequence > self.position {
            self.had.insert(event.sequence);
            self.remember(event);
        }
    }

    /// Records that an event was delivered. Answers whether that must be written before the next one: a count has to
    /// survive a crash, and so has a change of what is wanted.
    pub fn delivered(&mut self, spec: &Subscription, event: &Event, found: &Found) -> bool {
        let mut must_write = self.count_shared(spec, event);
        for (entry, progress) in self.progress_of_wanting(spec, event) {
            if !is_satisfied(entry, words_for(progress, event), event, found) {
                progress.skipped += 1;
                continue;
            }
            must_write |= progress.count_one(entry);
            if let Some(owed) = progress.owed.as_mut().filter(|owed| event.sequence < owed.until) {
                owed.events = owed.events.saturating_sub(1);
                must_write = true;
            }
        }
        self.last_delivered = event.sequence;
        self.moved_behind(event);
        self.goes_on();
        must_write
    }

    /// Records that an event is not delivered: nobody wants it, or what they require was not found. Answers whether that
    /// must be written before the next one.
    pub fn skipped(&mut self, spec: &Subscription, event: &Event) -> bool {
        let mut must_write = false;
        if event.sequence > self.position {
            must_write = self.count_shared(spec, event);
            self.progress_of_wanting(spec, event).for_each(|(_, progress)| progress.skipped += 1);
        }
        self.passed_over(event.sequence);
        self.remember(event);
        must_write
    }

    /// Records that an event has become a dead letter. That must be written before the next one: what a consumer has
    /// acknowledged beyond the written position was always delivered.
    pub fn dead_lettered(&mut self, spec: &Subscription, event: &Event, found: &Found) {
        self.count_shared(spec, event);
        for (entry, progress) in self.progress_of_wanting(spec, event) {
            let is_dead = is_satisfied(entry, words_for(progress, event), event, found);
            *(if is_dead { &mut progress.dead_lettered } else { &mut progress.skipped }) += 1;
        }
        self.moved_behind(event);
        self.goes_on();
    }

    /// Nothing fails any more. What has ended deliveries meanwhile stays: other requests may have been under way.
    fn goes_on(&mut self) {
        if self.state.is_at_work() {
            self.state = State::Active;
        }
    }

    /// Records that nobody wants what lies up to a sequence.
    pub fn passed_over(&mut self, sequence: u64) {
        self.moved_to(sequence);
        if self.failure().is_some_and(|failure| failure.sequence <= sequence) {
            self.goes_on();
        }
    }

    /// Whether it would be news that there is nothing behind the position: see [`Lane::read_to_the_end`].
    pub fn awaits_the_end(&self, spec: &Subscription) -> bool {
        self.phase == Phase::Replaying || self.is_redelivering(spec)
    }

    fn is_redelivering(&self, spec: &Subscription) -> bool {
        match (&spec.redelivery, &self.redelivery) {
            (Some(asked), Some(redelivery)) => redelivery.next <= asked.to_sequence,
            _ => false,
        }
    }

    /// Records that there is nothing behind the position, for now, that the filters let through. Answers whether that
    /// is news: it ends a redelivery, and what is delivered from now on is live.
    pub fn read_to_the_end(&mut self, spec: &Subscription) -> bool {
        let is_news = self.awaits_the_end(spec);
        self.phase = Phase::Live;
        if let (Some(asked), Some(redelivery)) = (&spec.redelivery, &mut self.redelivery) {
            redelivery.next = redelivery.next.max(asked.to_sequence + 1);
        }
        is_news
    }

    fn moved_behind(&mut self, event: &Event) {
        self.moved_to(event.sequence);
        self.remember(event);
    }

    /// Takes note of what the newest event is: for each event that is settled, so in the memory that is there.
    fn remember(&mut self, event: &Event) {
        match &mut self.mark {
            Some(mark) if mark.sequence >= event.sequence => {}
            Some(mark) => mark.move_to(event),
            None => self.mark = Some(Mark::of(event)),
        }
    }

    pub(super) fn moved_to(&mut self, sequence: u64) {
        self.position = self.position.max(sequence);
        if self.had.first().is_some_and(|first| *first <= self.position) {
            self.had = self.had.split_off(&(self.position + 1));
        }
        if let Some(redelivery) = &mut self.redelivery {
            redelivery.next = redelivery.next.max(sequence + 1);
        }
    }

    /// Puts the lane behind a sequence, back or forth: what lies beyond it, nobody has had. Every notion of "has had it" is
    /// moved here, and nowhere else.
    pub(super) fn has_had_nothing_beyond(&mut self, sequence: u64) {
        self.position = sequence;
        self.had = BTreeSet::new();
        self.forget_beyond(sequence);
        for progress in self.entries.values_mut() {
            progress.anew_to = None;
        }
    }

    /// What is known of the log beyond a sequence does not hold any more.
    pub(super) fn forget_beyond(&mut self, sequence: u64) {
        self.clear_to = self.clear_to.min(sequence);
        self.unsure_from = self.unsure_from.filter(|from| *from <= sequence);
        for progress in self.entries.values_mut() {
            progress.from_sequence = progress.from_sequence.min(sequence + 1);
            for to in [&mut progress.by_earlier_words_to, &mut progress.shares_to] {
                *to = to.map(|to| to.min(sequence));
            }
        }
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, failure: Failure) {
        if self.state.is_at_work() {
            self.state = State::Held(failure);
        }
    }

    /// Completes the entries whose end was over when `sequence` was stored, at `stored_at`. What was stored before an
    /// entry was registered says nothing: it may have been imported, with times of its own. Answers whether there were
    /// any.
    pub fn complete_over(&mut self, spec: &Subscription, sequence: u64, stored_at: Stamp) -> bool {
        let mut any = false;
        for (pattern, progress) in &mut self.entries {
            let Some(entry) = spec.entries.get(pattern) else { continue };
            let over = sequence >= entry.live_from && entry.over_after().is_some_and(|over| over < stored_at);
            if over && !progress.completed {
                progress.completed = true;
                any = true;
            }
        }
        any
    }

    /// The next moment at which an entry may have to be completed because its end is over.
    pub fn next_over(&self, spec: &Subscription) -> Option<Stamp> {
        self.active(spec).filter_map(|(_, entry)| entry.over_after()).min()
    }

    /// The first sequence that is live for every entry: before it there is something to replay.
    pub fn live_from(&self, spec: &Subscription) -> u64 {
        let reaches_back = |(pattern, entry): &(&TypePattern, &Entry)| {
            self.entries.get(*pattern).is_some_and(|progress| !entry.is_live_at(progress.from_sequence))
        };
        let live_from = self.active(spec).filter(reaches_back).map(|(_, entry)| entry.live_from).max().unwrap_or(0);
        match &spec.redelivery {
            Some(asked) if self.is_redelivering(spec) => live_from.max(asked.to_sequence + 1),
            _ => live_from,
        }
    }

    /// Takes in that the log ends at `last_sequence`, before the lane's position: it was rolled back or emptied, and
    /// what is written there now has not been seen. Answers whether that was so. `fresh` then names the epoch.
    pub fn follow_log_back(&mut self, last_sequence: u64, fresh: &str) -> bool {
        self.clear_to = self.clear_to.min(last_sequence);
        if self.position <= last_sequence {
            return false;
        }
        self.leave_hole();
        self.has_had_nothing_beyond(last_sequence);
        self.last_delivered = self.last_delivered.min(last_sequence);
        self.epoch = self.epoch.renamed(fresh.to_owned());
        true
    }

    pub(super) fn active<'a>(&'a self, spec: &'a Subscription) -> impl Iterator<Item = (&'a TypePattern, &'a Entry)> {
        let is_active = |pattern: &TypePattern| self.entries.get(pattern).is_some_and(|progress| !progress.completed);
        spec.entries.iter().filter(move |(pattern, _)| is_active(pattern))
    }
}
