//! What a change of what is asked for does to a lane.

use std::collections::{BTreeMap, BTreeSet};

use super::{Gap, Lane, Phase, Progress, ReplayProgress, State, stop};
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription};
use crate::type_pattern::{self, TypePattern};

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
        let is_resumed = previous.is_some_and(|lane| lane.resumption != asked.resumption);
        let given_up = previous.and_then(|lane| lane.gap).filter(|_| is_resumed).map_or(0, |gap| gap.to_sequence);
        let had = previous.map(|lane| lane.position.max(given_up));
        // Where the words have changed and the lane has gone on by the earlier ones, it has passed over what only the
        // new ones ask for.
        let changed_at = |pattern: &TypePattern, entry: &Entry| {
            let until = entry.continues.as_ref().map(|earlier| earlier.until).filter(|until| *until > 0)?;
            let has_gone_on = known(pattern, entry).is_none() && owes(pattern, entry) && had? >= until;
            has_gone_on.then_some(until)
        };
        let newcomers =
            asked.entries.iter().filter(|(pattern, entry)| known(pattern, entry).is_none() && !owes(pattern, entry));
        let newcomers_want = newcomers.map(|(p, entry)| starts_at(entry, continued(p, entry)).saturating_sub(1)).min();
        let changes_want = asked.entries.iter().filter_map(|(p, entry)| Some(changed_at(p, entry)? - 1)).min();
        let newcomers_want = newcomers_want.into_iter().chain(changes_want).min();
        let mut replay = asked.replay.as_ref().map(|asked| {
            let taken_up = previous.and_then(|lane| lane.replay.clone()).filter(|replay| replay.id == asked.id);
            let mut replay =
                taken_up.unwrap_or_else(|| ReplayProgress { id: asked.id.clone(), next: asked.from_sequence });
            replay.next = replay.next.max(given_up + 1);
            replay
        });
        let ends = asked.replay.as_ref().map_or(0, |replay| replay.to_sequence);
        let replay_wants = replay.as_ref().filter(|replay| replay.next <= ends).map(|replay| replay.next - 1);
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
                    let changed_at = changed_at(pattern, entry);
                    let already_had = match changed_at {
                        Some(until) => until,
                        None if moved_back && owes(pattern, entry) => had.unwrap_or(0) + 1,
                        None => 0,
                    };
                    Progress {
                        registration: entry.registration.clone(),
                        line: entry.line().to_owned(),
                        from_sequence: from_sequence.max(already_had),
                        delivered: 0,
                        skipped: 0,
                        dead_lettered: 0,
                        completed: false,
                        by_earlier_words_to: changed_at.and(had),
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
        let failure = previous.and_then(|lane| lane.failure.clone()).filter(|_| same_consumer && !is_resumed);
        let stopped = previous.and_then(|lane| lane.stopped.clone());
        let stopped = stopped.filter(|stop| !is_resumed && stop.registered == asked.registered);
        let clear_to = previous.filter(|_| !moved_back).map_or(0, |lane| lane.clear_to);
        let mut lane = Self {
            url: asked.url.to_string(),
            state: State::Active,
            phase: previous.filter(|_| !moved_back).map_or(Phase::Replaying, |lane| lane.phase),
            position,
            last_delivered: previous.map_or(0, |lane| lane.last_delivered),
            epoch,
            filters,
            // Whoever wants the past again gets all of it again.
            had: previous.filter(|_| !moved_back).map_or_else(BTreeSet::new, |lane| lane.had.clone()),
            entries,
            failure,
            last_attempt: previous.and_then(|lane| lane.last_attempt.clone()),
            replay,
            clear_to: newcomers_want.map_or(clear_to, |wanted| wanted.min(clear_to)),
            gap: None,
            stopped,
            test: previous.and_then(|lane| lane.test.clone()),
            resumption: asked.resumption.clone(),
            updated: previous.map_or(Stamp::from_micros(0), |lane| lane.updated),
        };
        lane.gap = previous.and_then(|lane| lane.gap).filter(|gap| !is_resumed && lane.is_stopped_by(asked, gap));
        lane.state = match (&lane.stopped, lane.gap, &lane.failure) {
            _ if completed => State::Completed,
            _ if asked.paused => State::Paused,
            (Some(stop), ..) => stop::state_of(stop.why),
            (None, Some(_), _) => State::Gap,
            (None, None, Some(_)) => State::Held,
            (None, None, None) => State::Active,
        };
        lane
    }

    /// Whether an entry may have wanted what was removed, and minds.
    fn is_stopped_by(&self, asked: &Subscription, gap: &Gap) -> bool {
        self.concerned(asked, gap.to_sequence).any(|entry| !entry.attributes.allow_gap)
    }
}
