//! What others do to a lane: they post, register, change their minds, cut the log, and put the target back.

use domain::subscription::{Entry, Redelivery};
use domain::{Attributes, Stamp};

use super::super::{Input, Leave};
use super::world::{Promise, TYPES, World, pattern};
use std::collections::BTreeSet;

impl World {
    pub(super) fn post(&mut self) {
        for _ in 0..=self.dice.below(4) {
            self.log.push((TYPES[usize::try_from(self.dice.below(3)).unwrap()], self.logs));
        }
    }

    pub(super) fn post_one_of_each(&mut self) {
        self.log.extend(TYPES.map(|of| (of, self.logs)));
    }

    /// A limit cuts the log, but never its end.
    pub(super) fn cut(&mut self) {
        self.first = (self.first + 1 + self.dice.below(4)).min(self.end().max(1));
        if self.dice.one_in(2) {
            let first_sequence = self.first;
            self.tell(Input::Cut { first_sequence });
        }
    }

    /// Registers a type: with the past or without, with a count or without; in the same words or in others.
    pub(super) fn register(&mut self) {
        let of = TYPES[usize::try_from(self.dice.below(3)).unwrap()];
        let live_from = self.end() + 1;
        let reaches_back = self.dice.one_in(3);
        let from = if reaches_back { self.first + self.dice.below(live_from - self.first + 1) } else { live_from };
        let reaches_back = from < live_from;
        let count = self.dice.one_in(4).then(|| 1 + self.dice.below(5));
        let earlier = self.promises.get(of).cloned();
        // Other counts over one line are for the tests of the lane.
        let count = if reaches_back || earlier.is_none() { count } else { earlier.as_ref().and_then(|p| p.count) };
        let name = self.name();
        let datetime_start = reaches_back.then(|| self.stored_at(from));
        let entry = Entry {
            registration: name.clone(),
            registered_at: Stamp::from_micros(0),
            from_sequence: from,
            live_from,
            continues: None,
            after_redelivery: None,
            lacks_to: None,
            attributes: Attributes { count, datetime_start, ..Attributes::default() },
        };
        let entry = self.spec.admits(&pattern(of), &entry);
        // A line with a count that is registered again counts anew: where the earlier one stands is the lane's to say.
        if count.is_some() && earlier.is_some() && from == live_from {
            return;
        }
        let is_new_line = earlier.is_none() || from < live_from;
        self.spec.entries.insert(pattern(of), entry);
        self.spec.registered = Some(name);
        if is_new_line {
            self.promises.insert(of, Promise { from, count, had: BTreeSet::new() });
        }
        self.respec();
    }

    pub(super) fn unregister(&mut self) {
        let of = TYPES[usize::try_from(self.dice.below(3)).unwrap()];
        if self.spec.entries.len() > 1 && self.spec.entries.remove(&pattern(of)).is_some() {
            self.promises.remove(of);
            self.respec();
        }
    }

    pub(super) fn change_mode(&mut self, mode: &str) {
        let on_exhausted = ["hold", "dead_letter", "disable"][usize::try_from(self.dice.below(3)).unwrap()];
        let max_attempts = self.dice.one_in(2).then(|| 1 + self.dice.below(3));
        let settings = serde_json::json!({
            "mode": mode, "max_attempts": max_attempts, "on_exhausted": on_exhausted,
            "batch_max_events": 1 + self.dice.below(4), "batch_max_bytes": 1 + self.dice.below(12), "concurrency": 1 + self.dice.below(4),
        });
        let settings: serde_json::Map<_, _> =
            settings.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        self.spec.delivery = serde_json::from_value(settings.into()).unwrap();
        self.respec();
    }

    pub(super) fn pause_or_resume(&mut self) {
        self.spec.paused = !self.spec.paused;
        if !self.spec.paused {
            self.spec.resumption = Some(self.name());
        }
        self.respec();
    }

    pub(super) fn resume(&mut self) {
        self.spec.paused = false;
        self.spec.resumption = Some(self.name());
        self.respec();
    }

    pub(super) fn redeliver(&mut self) {
        let some = (self.first..=self.end()).filter(|_| self.dice.one_in(3)).collect();
        let id = self.name();
        if let Some(redelivery) = Redelivery::of_only(id, Stamp::from_micros(0), some) {
            self.spec.redelivery = Some(redelivery);
            self.respec();
        }
    }

    fn respec(&mut self) {
        self.tell(Input::Leave(Leave::SetUp));
    }

    /// The target comes up with an older copy of its state.
    pub(super) fn put_target_back(&mut self) {
        let back = self.dice.below(self.end() + 1);
        if back < self.target.last {
            self.trace(|| format!("the target is put back to {back}"));
            self.target.applied.split_off(&(back + 1));
            (self.target.last, self.target.was_put_back) = (back, true);
            for promise in self.promises.values_mut() {
                // What it had, and lacks, is owed again; what counted, counted.
                if promise.count.is_none() {
                    promise.had.split_off(&(back + 1));
                }
            }
        }
    }
}
