//! What a change of the spec does to a lane.

use std::collections::{BTreeMap, BTreeSet};

use super::{Epoch, Gap, Lane, Owed, Phase, Progress, RedeliveryProgress, State};
use crate::delivery_settings::OnFork;
use crate::stamp::Stamp;
use crate::subscription::{Continued, Entry, Subscription};
use crate::type_pattern::{self, TypePattern};

/// A lane as it was, beside what is wanted of it now.
struct Change<'a> {
    before: Option<&'a Lane>,
    spec: &'a Subscription,
    /// Whether the subscription was resumed since.
    is_resumed: bool,
    /// Whether anything was registered since.
    is_registered: bool,
    /// What was removed up to here is not waited for any more.
    given_up: u64,
    /// Up to here the lane has gone.
    had: Option<u64>,
}

/// How an entry stands to the lane as it was.
enum Standing<'a> {
    /// The lane knows this registration.
    Known(&'a Progress),
    /// It replaces one that has not had everything, and does not ask for the past: what that was promised is owed. Where the
    /// words have changed and the lane has gone on by the earlier ones: since when.
    Continues(&'a Progress, Option<News>),
    /// It begins here.
    New(u64),
}

/// That the words of an entry have changed, since a sequence that the lane has gone past.
#[derive(Clone, Copy)]
struct News {
    since: u64,
    /// The words before the last change are those that the lane has gone by.
    is_one_change: bool,
}

impl Lane {
    /// The lane that delivers what the spec says, going on from a `previous` status where there is one.
    ///
    /// An entry that was registered again may want events from before the lane's position. Then the position moves back,
    /// and the entries that have had their events up to there want only what comes after: so nothing is lost, nothing
    /// comes twice, and every event comes in the log's order. `fresh` becomes the lane's epoch if a new consumer is needed.
    pub fn reconcile(previous: Option<&Self>, spec: &Subscription, fresh: Epoch) -> Self {
        let change = Change::between(previous, spec);
        let mut redelivery = change.redelivery();
        let redelivery_wants = change.wants_redelivery(redelivery.as_ref());
        let entries_want = spec.entries.iter().filter_map(|(pattern, entry)| change.wants_from(pattern, entry)).min();
        let wanted = entries_want.into_iter().chain(redelivery_wants).min();
        let mut position = change.had.into_iter().chain(wanted).min().unwrap_or(0);
        let moved_back = change.had.is_some_and(|had| position < had);
        let entries: BTreeMap<TypePattern, Progress> =
            spec.entries.iter().map(|(p, entry)| (p.clone(), change.progress(p, entry, moved_back))).collect();

        let active = || entries.iter().filter(|(_, progress)| !progress.completed);
        let first_wanted = active().map(|(_, progress)| progress.from_sequence).min();
        match (first_wanted, &mut redelivery) {
            (Some(first_wanted), _) => {
                let first_wanted = redelivery_wants.map_or(first_wanted, |wants| first_wanted.min(wants + 1));
                position = position.max(first_wanted.saturating_sub(1));
            }
            // Nobody wants anything any more, not even again.
            (None, Some(redelivery)) => redelivery.next = change.redelivery_ends() + 1,
            (None, None) => {}
        }
        let filters = type_pattern::disjoint(active().map(|(pattern, _)| pattern));
        let same_consumer = previous.is_some_and(|lane| lane.filters == filters && !moved_back);
        let stays = previous.filter(|_| !moved_back);
        let clear_to = stays.map_or(0, |lane| lane.clear_to);
        let clear_to = entries_want.map_or(clear_to, |wanted| wanted.min(clear_to));
        // A doubt about what is not taken for clear any more is none: that is read again.
        let unsure_from = previous.and_then(|lane| lane.unsure_from);
        let mut lane = Self {
            url: spec.url.to_string(),
            state: State::Active,
            phase: stays.map_or(Phase::Replaying, |lane| lane.phase),
            position,
            last_delivered: change.stated_position().unwrap_or(previous.map_or(0, |lane| lane.last_delivered)),
            epoch: previous.filter(|_| same_consumer).map_or(fresh, |lane| lane.epoch.clone()),
            filters,
            had: change.taken_early(),
            entries,
            last_attempt: previous.and_then(|lane| lane.last_attempt.clone()),
            redelivery,
            clear_to,
            unsure_from: unsure_from.filter(|from| *from <= position.max(clear_to) + 1),
            log_epoch: previous.and_then(|lane| lane.log_epoch.clone()),
            mark: previous.and_then(|lane| lane.mark.clone()),
            hole: previous.and_then(|lane| lane.hole.clone()),
            test: previous.and_then(|lane| lane.test.clone()),
            resumption: spec.resumption.clone(),
            registered: spec.registered.clone(),
            updated: previous.map_or(Stamp::from_micros(0), |lane| lane.updated),
        };
        lane.state = change.state_of(&lane, same_consumer);
        lane
    }

    /// Whether an entry may have wanted what was removed, and minds.
    pub(super) fn is_stopped_by(&self, spec: &Subscription, gap: &Gap) -> bool {
        self.concerned(spec, gap.to_sequence).any(|entry| !entry.attributes.allow_gap)
    }
}

impl<'a> Change<'a> {
    fn between(before: Option<&'a Lane>, spec: &'a Subscription) -> Self {
        let is_resumed = before.is_some_and(|lane| lane.resumption != spec.resumption);
        let is_registered = before.is_some_and(|lane| lane.registered != spec.registered);
        // What was registered since may want what lies before the hole: the lane comes to it once more.
        let comes_again = is_registered && before.is_some_and(Lane::waits_at_hole);
        let goes_on = !comes_again && (is_resumed || before.is_some_and(|lane| lane.passes_hole(spec)));
        let given_up = before.and_then(|lane| lane.state.gap()).filter(|_| goes_on).map_or(0, |gap| gap.to_sequence);
        let had = before.map(|lane| lane.position.max(given_up));
        Self { before, spec, is_resumed, is_registered, given_up, had }
    }

    fn standing(&self, pattern: &TypePattern, entry: &Entry) -> Standing<'a> {
        let earlier = self.before.and_then(|lane| lane.entries.get(pattern));
        match earlier {
            Some(earlier) if earlier.registration == entry.registration => Standing::Known(earlier),
            Some(earlier) if earlier.line == entry.line() && !earlier.completed => {
                // The lane has passed over what only the new words ask for.
                let news = news(earlier, entry).filter(|news| self.had.is_some_and(|had| had >= news.since));
                Standing::Continues(earlier, news)
            }
            // Of its line the lane has seen nothing, or all that it was to have.
            earlier => {
                let is_unseen = earlier.is_none_or(|earlier| earlier.line != entry.line());
                let continued = entry.continues.as_ref().filter(|_| is_unseen);
                Standing::New(continued.map_or(entry.from_sequence, |continued| continued.from_sequence))
            }
        }
    }

    /// Where the target says that it is, if it has just said so for all that it is registered for: that is what its next event
    /// comes behind.
    fn stated_position(&self) -> Option<u64> {
        let stated = |(pattern, entry): (&TypePattern, &Entry)| match self.standing(pattern, entry) {
            Standing::New(_) => entry.attributes.stated_position(),
            Standing::Known(_) | Standing::Continues(..) => None,
        };
        let mut positions = self.spec.entries.iter().map(stated);
        let first = positions.next()??;
        positions.all(|position| position == Some(first)).then_some(first)
    }

    /// Behind which sequence an entry wants the lane to be, where that may be before where it is.
    fn wants_from(&self, pattern: &TypePattern, entry: &Entry) -> Option<u64> {
        match self.standing(pattern, entry) {
            Standing::Known(_) | Standing::Continues(_, None) => None,
            Standing::Continues(_, Some(news)) => Some(news.since - 1),
            Standing::New(from) => Some(from.saturating_sub(1)),
        }
    }

    /// How far an entry has come, in a lane that has moved back or has not.
    fn progress(&self, pattern: &TypePattern, entry: &Entry, moved_back: bool) -> Progress {
        // Where something may have been cut off unseen, it is not known to be had: a duplicate is better than a hole.
        let unsure_from = self.before.and_then(|lane| lane.unsure_from).unwrap_or(u64::MAX);
        let behind = if moved_back { unsure_from.min(self.had.unwrap_or(0) + 1) } else { 0 };
        let begun = |from_sequence: u64| Progress {
            registration: entry.registration.clone(),
            line: entry.line().to_owned(),
            from_sequence,
            delivered: 0,
            skipped: 0,
            dead_lettered: 0,
            completed: false,
            words_from: entry.continues.as_ref().map_or(0, |earlier| earlier.until),
            words_changed: entry.continues.as_ref().map_or(0, |earlier| earlier.changed),
            by_earlier_words_to: None,
            gone_by: None,
            shares_to: None,
            anew_to: None,
            owed: None,
            live_from: None,
            resumed_after: None,
        };
        match self.standing(pattern, entry) {
            Standing::Known(known) => Progress { from_sequence: known.from_sequence.max(behind), ..known.clone() },
            Standing::Continues(earlier, news) => Progress {
                by_earlier_words_to: match news {
                    // What words brought that are not known any more comes again: a duplicate is better than a hole.
                    Some(news) => self.had.filter(|_| news.is_one_change),
                    None => earlier.by_earlier_words_to,
                },
                gone_by: match news {
                    Some(news) => entry.continues.as_ref().filter(|_| news.is_one_change).map(Continued::words_alone),
                    None => earlier.gone_by.clone(),
                },
                // What other entries brought by then, the target has had, though these words did not ask for it.
                shares_to: news.and(self.had).max(earlier.shares_to),
                anew_to: earlier.anew_to,
                owed: owed_by(entry, Some(earlier)),
                resumed_after: earlier.resumed_after,
                live_from: earlier.live_from,
                ..begun(earlier.from_sequence.max(news.map_or(behind, |news| news.since)))
            },
            Standing::New(from) => {
                let had_early = self.before.and_then(|lane| lane.had.last());
                Progress {
                    shares_to: self.had.filter(|had| *had >= entry.first_live()),
                    anew_to: had_early.copied().filter(|_| from < entry.first_live()),
                    owed: owed_by(entry, None),
                    ..begun(from)
                }
            }
        }
    }

    /// Whether the lane waits at a hole, and does not any more: it is to go on there, or has moved back. Then it comes to the hole
    /// again, and what it wants before it is not given up with it.
    fn leaves_hole(&self, lane: &Lane) -> bool {
        let leaves =
            |before: &Lane| before.passes_hole(self.spec) || lane.position < before.position || self.is_registered;
        self.before.is_some_and(|before| before.waits_at_hole() && leaves(before))
    }

    fn redelivery(&self) -> Option<RedeliveryProgress> {
        let asked = self.spec.redelivery.as_ref()?;
        let taken_up = self.before.and_then(|lane| lane.redelivery.clone()).filter(|known| known.id == asked.id);
        let mut redelivery =
            taken_up.unwrap_or_else(|| RedeliveryProgress { id: asked.id.clone(), next: asked.from_sequence });
        redelivery.next = redelivery.next.max(self.given_up + 1);
        Some(redelivery)
    }

    fn redelivery_ends(&self) -> u64 {
        self.spec.redelivery.as_ref().map_or(0, |asked| asked.to_sequence)
    }

    fn wants_redelivery(&self, redelivery: Option<&RedeliveryProgress>) -> Option<u64> {
        redelivery.map(|redelivery| redelivery.next).filter(|next| *next <= self.redelivery_ends()).map(|next| next - 1)
    }

    /// What the target took early, less what is requested again.
    fn taken_early(&self) -> BTreeSet<u64> {
        let Some(before) = self.before else { return BTreeSet::new() };
        let knows = |id: &String| before.redelivery.as_ref().is_some_and(|known| known.id == *id);
        let asked_anew = self.spec.redelivery.as_ref().filter(|asked| !knows(&asked.id));
        let is_again = |sequence: &u64| asked_anew.is_some_and(|asked| asked.may_hold(*sequence));
        before.had.iter().filter(|sequence| !is_again(sequence)).copied().collect()
    }

    /// What the lane does: the strongest cause that still stands.
    fn state_of(&self, lane: &Lane, same_consumer: bool) -> State {
        if lane.entries.values().all(|progress| progress.completed) {
            return State::Completed;
        }
        let before = self.before.map(|lane| &lane.state).filter(|_| !self.is_resumed);
        let stands = match before.map(State::beneath) {
            Some(State::Stopped(stop)) => stop.registered == self.spec.registered,
            Some(State::Gap(gap)) => lane.is_stopped_by(self.spec, gap) && !self.leaves_hole(lane),
            Some(State::Forked(_)) => self.spec.delivery.on_fork == OnFork::Wait,
            // A dead letter that is decided is written. Who registers is there again, so that the event is tried at once; with
            // other filters, or further back, another event may be the next one.
            Some(State::Held(failure)) => same_consumer && (!self.is_registered || failure.letter.is_some()),
            _ => false,
        };
        let state = before.filter(|_| stands).map_or(State::Active, |state| state.beneath().clone());
        if self.spec.paused { State::Paused(Box::new(state)) } else { state }
    }
}

/// What of an entry's changes the lane did not know, when it went by the words that it knew.
fn news(earlier: &Progress, entry: &Entry) -> Option<News> {
    let continued = entry.continues.as_ref().filter(|continued| continued.until > 0)?;
    if continued.changed == 0 {
        let is_news = earlier.words_from != continued.until;
        return is_news.then_some(News { since: continued.until, is_one_change: true });
    }
    let unknown = usize::try_from(continued.changed.saturating_sub(earlier.words_changed)).unwrap_or(usize::MAX);
    let first = continued.changes.len().saturating_sub(unknown);
    let since = continued.changes.get(first)?;
    Some(News { since: *since, is_one_change: unknown == 1 })
}

/// What the words before the last change still promise, where they had a count and the lane has `earlier` gone by them.
fn owed_by(entry: &Entry, earlier: Option<&Progress>) -> Option<Owed> {
    let words = entry.continues.as_ref().filter(|words| words.until > 0)?;
    let known = earlier.and_then(|earlier| earlier.owed).filter(|owed| owed.until == words.until);
    known.or_else(|| {
        let had = earlier.map_or(0, |earlier| earlier.delivered);
        Some(Owed { until: words.until, events: words.attributes.count?.saturating_sub(had) })
    })
}
