//! What it means for a lane that the log no longer begins where it did: retention, or an operator, has removed events.

use super::{Gap, Lane, Progress, State};
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription};
use crate::type_pattern::TypePattern;

/// What a lane misses because the log was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    None,
    /// Perhaps something, and all who might have wanted it have said that they do not mind.
    Allowed(Gap),
    /// Perhaps something: the lane waits until it is told to go on.
    Stops(Gap),
}

/// The oldest event that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Its sequence; for an emptied log that of the next event. 0 or 1 where nothing was ever removed.
    pub sequence: u64,
    /// When it was stored, if there is one.
    pub stored_at: Option<Stamp>,
}

impl Lane {
    /// Records that nothing which the entries want lies between the position and a sequence.
    pub fn is_clear_to(&mut self, sequence: u64) {
        self.clear_to = self.clear_to.max(sequence);
    }

    /// Records that an event comes next: nothing that the entries want lies between the position and it. It may lie in
    /// what was taken for clear: a server that comes to life late gives late.
    pub fn comes(&mut self, sequence: u64) {
        if sequence > self.position {
            self.clear_to = sequence - 1;
        }
    }

    /// Records that what comes next leaves out what begins here: it may be that nobody wants that, or that it was cut off
    /// before it was given. A look-up that begins later will tell: see [`Lane::is_whole_from`].
    pub fn came_past(&mut self, from: u64) {
        self.unsure_from = Some(self.unsure_from.map_or(from, |known| known.min(from)));
    }

    /// Takes in where the log begins, by a look-up that began after the last skip. Answers whether nothing can have been cut
    /// off unseen; where something can, [`Lane::may_lack`] says so from now on.
    pub fn is_whole_from(&mut self, first_sequence: u64) -> bool {
        let is_whole = self.unsure_from.is_none_or(|from| first_sequence <= from);
        if is_whole {
            self.unsure_from = None;
        }
        is_whole
    }

    /// Whether something may have been removed that is not accounted for, where the log begins with `first_sequence`.
    pub fn may_lack(&self, first_sequence: u64) -> bool {
        first_sequence > self.accounted_to() + 1
    }

    /// Goes on with what is left, whatever may be lacking.
    pub fn go_on_at(&mut self, first_sequence: u64) {
        self.unsure_from = None;
        self.moved_to(first_sequence.saturating_sub(1));
    }

    /// Takes in where the log begins.
    pub fn take_in_beginning(&mut self, spec: &Subscription, begins: Beginning, now: Stamp) -> Loss {
        if self.is_whole_from(begins.sequence) && !self.may_lack(begins.sequence)
            || matches!(self.state, State::Completed | State::Paused(_) | State::Stopped(_) | State::Forked(_))
        {
            return Loss::None;
        }
        let gap = Gap { from_sequence: self.accounted_to() + 1, to_sequence: begins.sequence - 1, noticed: now };
        let concerned: Vec<&Entry> =
            self.concerned(spec, gap.to_sequence).filter(|entry| !starts_later(entry, begins)).collect();
        let loss = match concerned.as_slice() {
            [] => Loss::None,
            entries if entries.iter().all(|entry| entry.attributes.allow_gap) => Loss::Allowed(gap),
            _ => Loss::Stops(gap),
        };
        if let Loss::Stops(gap) = loss {
            // One that goes on growing was noticed once.
            let noticed = self.state.gap().map_or(now, |known| known.noticed);
            self.state = State::Gap(Gap { noticed, ..gap });
        } else {
            self.unsure_from = None;
            self.is_clear_to(gap.to_sequence);
        }
        loss
    }

    /// Up to where everything that was wanted has been delivered, or is known not to have been there: the one notion of
    /// "nothing was there".
    pub fn accounted_to(&self) -> u64 {
        self.unsure_from.map_or(self.position.max(self.clear_to), |from| from - 1)
    }

    /// The entries that may have wanted something up to a sequence, or were to get it again.
    pub(super) fn concerned<'a>(&'a self, spec: &'a Subscription, to_sequence: u64) -> impl Iterator<Item = &'a Entry> {
        let is_again = match (&spec.redelivery, &self.redelivery) {
            (Some(asked), Some(redelivery)) => redelivery.next <= to_sequence.min(asked.to_sequence),
            _ => false,
        };
        let reaches = move |pattern: &TypePattern, entry: &Entry| {
            // Without a start, in the present words or those before, nothing is promised of what was there before.
            let progress = self.entries.get(pattern);
            let promised_from = |progress: &Progress| match (entry.names_start(), progress.live_from) {
                (true, _) => 0,
                (false, live_from) => {
                    live_from.map_or(entry.first_live(), |live_from| live_from.min(entry.first_live()))
                }
            };
            progress.is_some_and(|progress| progress.from_sequence.max(promised_from(progress)) <= to_sequence)
        };
        let is_concerned = move |(pattern, entry): &(&TypePattern, &Entry)| is_again || reaches(pattern, entry);
        self.active(spec).filter(is_concerned).map(|(_, entry)| entry)
    }
}

/// Whether an entry wants nothing from before the oldest event that is left.
fn starts_later(entry: &Entry, begins: Beginning) -> bool {
    match (entry.attributes.datetime_start, begins.stored_at) {
        (Some(start), Some(oldest)) => start > oldest,
        _ => false,
    }
}
