//! What a lane does where the log has become another one: found by what stands at the place of the newest event that it had, and
//! by the epoch that its sequences are of.

use super::{Fork, Lane, Phase, State};
use crate::delivery_settings::OnFork;
use crate::log_epoch::{Evidence, LogEpoch, LogRecord, Mark};
use crate::stamp::Stamp;
use crate::subscription::{Entry, Subscription};

/// How a lane stands to the present log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// What it has had up to here is in there. Beyond this sequence it is not, or nobody can tell.
    SharesTo(u64),
    /// What it has had is not in there, though by its name the log is the one that the lane knows: it became another one, and
    /// nobody has said so yet. With what is lacking.
    IsNews(Mark),
}

impl Lane {
    /// How far the lane has had anything: up to its position, or beyond it.
    fn reaches(&self) -> u64 {
        let beyond = self.had.last().copied().max(self.mark.as_ref().map(|mark| mark.sequence));
        beyond.map_or(self.position, |beyond| beyond.max(self.position))
    }

    /// How the lane stands to the log as it is, by a look at the place of its [`Lane::mark`]. `record`: the log's names; `None` where it has
    /// none, and then only its end tells anything.
    pub fn stands(&self, record: Option<&LogRecord>, evidence: &Evidence) -> Standing {
        let last_sequence = evidence.last_sequence;
        let Some(record) = record else { return Standing::SharesTo(last_sequence) };
        let by_epoch = self.log_epoch.as_ref().and_then(|epoch| record.shared_with(epoch));
        let mark = self.mark.as_ref().filter(|mark| mark.sequence >= evidence.first_sequence);
        let (mut shared_to, mut is_lacking) = (by_epoch, false);
        if let Some(mark) = mark {
            match evidence.found.get(&mark.sequence) {
                // A session that ran on while the log became another one has had the newest event and not those before it: so what
                // is said of its epoch counts, where anything is.
                Some(Some(found)) if found == mark => shared_to = by_epoch.or(Some(mark.sequence)),
                // A hole proves nothing.
                None | Some(None) if mark.sequence <= last_sequence => {}
                _ if by_epoch.is_some_and(|shared_to| mark.sequence <= shared_to) => {
                    return Standing::IsNews(mark.clone());
                }
                _ => is_lacking = true,
            }
        }
        // Of a lane that a build wrote which knew no epoch, only the end tells anything.
        let otherwise = if is_lacking { 0 } else { last_sequence };
        Standing::SharesTo(shared_to.unwrap_or(otherwise).min(last_sequence))
    }

    /// Takes in that the log is the one of an epoch, and shares with what the lane has had what lies up to `shared_to`: beyond
    /// that, the lane has had nothing of it. Answers where the lane stood, if it goes back. `fresh` then names its epoch.
    pub fn follow_log(&mut self, spec: &Subscription, found: FoundLog<'_>, fresh: &str) -> Option<u64> {
        let FoundLog { epoch, shared_to, at } = found;
        // Where no name is known, for now or for good, what the lane has had is still of the log whose name it knows: by that, and
        // not by its newest event alone, it goes back when the name is known again.
        let is_same = epoch.is_none() || self.log_epoch.as_ref() == epoch;
        self.is_of_log(epoch);
        self.clear_to = self.clear_to.min(shared_to);
        let was_at = self.reaches();
        if was_at <= shared_to {
            if !is_same {
                self.is_live_behind(spec, shared_to);
                self.forget_beyond(shared_to);
            }
            return None;
        }
        self.is_live_behind(spec, shared_to);
        let to = self.position.min(shared_to);
        if to < self.position {
            self.has_had_nothing_beyond(to);
            self.last_delivered = self.last_delivered.min(to);
            self.phase = Phase::Replaying;
        } else {
            self.had.retain(|sequence| *sequence <= shared_to);
            self.forget_beyond(shared_to);
        }
        self.mark = self.mark.take().filter(|mark| mark.sequence <= shared_to);
        self.epoch = self.epoch.renamed(fresh.to_owned());
        self.waits_or_goes_on(spec, shared_to, was_at, epoch, at);
        Some(was_at)
    }

    /// Takes note of the log's name, where that is known.
    pub fn is_of_log(&mut self, epoch: Option<&LogEpoch>) {
        if let Some(epoch) = epoch {
            self.log_epoch = Some(epoch.clone());
        }
    }

    /// What is behind the fork came after all registrations that were made before it.
    fn is_live_behind(&mut self, spec: &Subscription, shared_to: u64) {
        for (pattern, progress) in &mut self.entries {
            let first_live = spec.entries.get(pattern).map_or(0, Entry::first_live);
            if first_live > shared_to + 1 {
                let known = progress.live_from.unwrap_or(u64::MAX);
                progress.live_from = Some(known.min(shared_to + 1));
            }
        }
    }

    fn waits_or_goes_on(
        &mut self,
        spec: &Subscription,
        shared_to: u64,
        was_at: u64,
        epoch: Option<&LogEpoch>,
        at: Stamp,
    ) {
        let is_paused = matches!(self.state, State::Paused(_));
        let state = match (self.state.beneath(), epoch) {
            (State::Completed | State::Stopped(_), _) => return,
            (_, Some(epoch)) if spec.delivery.on_fork == OnFork::Wait => {
                // One that forks again was noticed once, and stood where it stood first.
                let known = self.state.fork();
                let was_at = known.map_or(was_at, |known| known.was_at);
                let noticed = known.map_or(at, |known| known.noticed);
                State::Forked(Fork { shared_to, was_at, epoch: epoch.clone(), noticed })
            }
            (State::Held(failure), _) if failure.sequence <= shared_to => State::Held(failure.clone()),
            (State::Gap(gap), _) if gap.to_sequence <= shared_to => State::Gap(*gap),
            _ => State::Active,
        };
        self.state = if is_paused { State::Paused(Box::new(state)) } else { state };
    }
}

/// What a look at the log has found.
#[derive(Debug, Clone, Copy)]
pub struct FoundLog<'a> {
    /// The name of the present log; `None` where logs have none.
    pub epoch: Option<&'a LogEpoch>,
    /// Up to where it is the one that the lane knows.
    pub shared_to: u64,
    /// When it was looked at.
    pub at: Stamp,
}
