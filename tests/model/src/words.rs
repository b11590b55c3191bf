//! What one URL has been told to get, over time: versions of words, one after the other, for each pattern.

use std::collections::BTreeMap;

use crate::facts::{Facts, Known, Moment};
use crate::history::{Ask, Delivery, Entry, Event, Words};
use crate::pattern;

/// What was said of one pattern, from one call to the next.
pub(crate) struct Version {
    pub(crate) pattern: String,
    pub(crate) words: Words,
    pub(crate) called: Moment,
    pub(crate) returned: Option<Moment>,
    /// The call was made once: a call that was made again may have started the entry twice.
    pub(crate) is_sure: bool,
    pub(crate) ended: Option<Moment>,
    /// The version that this one replaced.
    pub(crate) previous: Option<usize>,
}

/// A part of the log that is to come again, or may.
pub(crate) struct Rewind {
    pub(crate) called: Moment,
    /// By when it has begun.
    pub(crate) begun_by: u64,
    pub(crate) covers: Covers,
}

pub(crate) enum Covers {
    /// All behind a sequence: the target's word.
    Behind(u64),
    /// What lies between two times: `replay`.
    Times(i64, Option<i64>),
    /// These events: `redrive`.
    Events(Vec<u64>),
}

impl Rewind {
    pub(crate) fn covers(&self, event: &Event) -> bool {
        match &self.covers {
            Covers::Behind(sequence) => event.sequence > *sequence,
            Covers::Times(from, to) => event.time >= *from && to.is_none_or(|to| event.time <= to),
            Covers::Events(events) => events.contains(&event.sequence),
        }
    }
}

/// All versions of one URL, and how they are delivered.
#[derive(Default)]
pub(crate) struct Register {
    pub(crate) versions: Vec<Version>,
    /// The version in force of each pattern, once its call has returned.
    pub(crate) current: BTreeMap<String, usize>,
    /// Settings, each from when on and until when.
    pub(crate) deliveries: Vec<(Delivery, Moment, Option<Moment>)>,
    pub(crate) rewinds: Vec<Rewind>,
    pub(crate) paused: Option<Moment>,
    /// It has been resumed.
    pub(crate) is_resumed: bool,
    /// When the URL was last left without a subscription.
    pub(crate) emptied: Option<Moment>,
    /// Calls that have not returned, and what they would bring.
    pending: BTreeMap<u32, Pending>,
}

struct Pending {
    ask: Ask,
    called: Moment,
    versions: Vec<usize>,
}

/// What a call has changed, once it has returned.
pub(crate) struct Change {
    pub(crate) called: Moment,
    pub(crate) ask: Ask,
    /// The versions it has brought.
    pub(crate) begun: Vec<usize>,
    /// Those it has ended, and not replaced.
    pub(crate) removed: Vec<String>,
}

impl Register {
    /// Whether an event is within what is said, wherever the entry begins. `None`: it cannot be known.
    pub(crate) fn asks(facts: &Facts, version: &Version, event: &Event) -> Option<bool> {
        Self::asks_from(facts, version, event, version.words.start)
    }

    /// Whether a version permits an event: of what the target has said that it lacks, the start does not count.
    pub(crate) fn permits(&self, facts: &Facts, version: &Version, event: &Event) -> bool {
        let is_lacked = |rewind: &Rewind| matches!(rewind.covers, Covers::Behind(_)) && rewind.covers(event);
        let start = version.words.start.filter(|_| !self.rewinds.iter().any(is_lacked));
        Self::asks_from(facts, version, event, start) != Some(false)
    }

    fn asks_from(facts: &Facts, version: &Version, event: &Event, start: Option<i64>) -> Option<bool> {
        let Words { transaction, end, requires, .. } = &version.words;
        let is_within = pattern::matches(&version.pattern, &event.kind)
            && transaction.as_ref().is_none_or(|transaction| *transaction == event.transaction)
            && start.is_none_or(|start| event.time >= start)
            && end.is_none_or(|end| event.time <= end);
        if !is_within {
            return Some(false);
        }
        if *requires { facts.gets_key(event) } else { Some(true) }
    }

    /// Whether an event may be wanted by a version, by where that begins.
    pub(crate) fn may_reach(&self, facts: &Facts, version: &Version, known: &Known) -> bool {
        known.posting.is_none_or(|(_, acknowledged)| acknowledged > version.called.line)
            || version.words.is_retro
            || self.rewinds.iter().any(|rewind| rewind.covers(&known.event))
            || self.before(version).is_some_and(|previous| {
                Self::asks(facts, previous, &known.event) != Some(false) && self.may_reach(facts, previous, known)
            })
    }

    pub(crate) fn before(&self, version: &Version) -> Option<&Version> {
        version.previous.map(|previous| &self.versions[previous])
    }

    /// The versions that may be in force at a moment: also those of calls under way, and those that may still be believed.
    pub(crate) fn in_force<'a>(&'a self, facts: &'a Facts, now: Moment) -> impl Iterator<Item = &'a Version> {
        self.versions.iter().filter(move |version| {
            version.called.line < now.line && version.ended.is_none_or(|ended| facts.heard_by(ended.at) >= now.at)
        })
    }

    pub(crate) fn currents(&self) -> impl Iterator<Item = &Version> {
        self.current.values().map(|version| &self.versions[*version])
    }

    /// The settings that may be in force at a moment.
    pub(crate) fn deliveries_at<'a>(&'a self, facts: &'a Facts, now: Moment) -> impl Iterator<Item = &'a Delivery> {
        let may_be = move |(_, from, until): &&(Delivery, Moment, Option<Moment>)| {
            from.line < now.line && until.is_none_or(|until| facts.heard_by(until.at) >= now.at)
        };
        self.deliveries.iter().filter(may_be).map(|(delivery, ..)| delivery)
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn called(&mut self, call: u32, ask: &Ask, called: Moment) {
        let entries: &[Entry] = match ask {
            Ask::Register(entries) | Ask::Put(entries, _) | Ask::PatchEvents(entries) => entries,
            _ => &[],
        };
        let goes_on = |(pattern, words): &&Entry| {
            let current = self.current.get(pattern).map(|version| &self.versions[*version].words);
            !matches!(ask, Ask::Register(_)) && current.is_some_and(|current| current.are_same(words))
        };
        let begun: Vec<Version> = entries
            .iter()
            .filter(|entry| !goes_on(entry))
            .map(|(pattern, words)| Version {
                pattern: pattern.clone(),
                words: words.clone(),
                called,
                returned: None,
                is_sure: false,
                ended: None,
                previous: None,
            })
            .collect();
        let versions = (self.versions.len()..self.versions.len() + begun.len()).collect();
        self.versions.extend(begun);
        if let Ask::Put(_, delivery) | Ask::PatchDelivery(delivery) = ask {
            self.deliveries.push((*delivery, called, None));
        }
        let covers = match ask {
            Ask::Replay(from, to) => Some(Covers::Times(*from, *to)),
            Ask::Redrive(events) => Some(Covers::Events(events.clone())),
            _ => None,
        };
        self.rewinds.extend(covers.map(|covers| Rewind { called, begun_by: u64::MAX, covers }));
        if *ask == Ask::Resume {
            (self.paused, self.is_resumed) = (None, true);
        }
        self.pending.insert(call, Pending { ask: ask.clone(), called, versions });
    }

    /// Takes in that a call has returned. Answers with what has changed; `None` where it was refused.
    pub(crate) fn returned(
        &mut self,
        facts: &Facts,
        call: u32,
        is_taken: bool,
        tries: u32,
        now: Moment,
    ) -> Option<Change> {
        let Pending { ask, called, versions } = self.pending.remove(&call)?;
        for rewind in self.rewinds.iter_mut().filter(|rewind| rewind.called == called) {
            rewind.begun_by = facts.heard_by(now.at);
        }
        if !is_taken {
            versions.iter().for_each(|version| self.versions[*version].ended = Some(now));
            self.deliveries
                .iter_mut()
                .filter(|(_, from, _)| *from == called)
                .for_each(|(.., until)| *until = Some(now));
            return None;
        }
        let was_empty = self.current.is_empty();
        let removed = self.removed_by(&ask);
        for pattern in &removed {
            if let Some(version) = self.current.remove(pattern) {
                self.versions[version].ended = Some(now);
            }
        }
        for version in &versions {
            let pattern = self.versions[*version].pattern.clone();
            let previous = self.current.insert(pattern, *version);
            if let Some(previous) = previous {
                self.versions[previous].ended = Some(now);
            }
            let version = &mut self.versions[*version];
            (version.returned, version.is_sure, version.previous) = (Some(now), tries == 1, previous);
        }
        if matches!(ask, Ask::Put(..) | Ask::PatchDelivery(_)) {
            self.settle_settings(None, called, now);
        } else if was_empty != self.current.is_empty() {
            self.settle_settings(Some(Delivery::default()), called, now);
        }
        if self.current.is_empty() {
            (self.paused, self.emptied) = (None, Some(now));
        } else if ask == Ask::Pause {
            self.paused = Some(now);
        }
        Some(Change { called, ask, begun: versions, removed })
    }

    fn removed_by(&self, ask: &Ask) -> Vec<String> {
        match ask {
            Ask::Unregister(patterns) => patterns.clone(),
            Ask::Delete => self.current.keys().cloned().collect(),
            Ask::Put(entries, _) | Ask::PatchEvents(entries) => {
                let is_named = |pattern: &&String| entries.iter().any(|(named, _)| named == *pattern);
                self.current.keys().filter(|pattern| !is_named(pattern)).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Ends all settings but those of a call, or begins with these.
    fn settle_settings(&mut self, settings: Option<Delivery>, called: Moment, now: Moment) {
        let others = self.deliveries.iter_mut().filter(|(_, from, until)| until.is_none() && *from != called);
        others.for_each(|(.., until)| *until = Some(now));
        if let Some(settings) = settings {
            self.deliveries.push((settings, called, None));
        }
    }
}
