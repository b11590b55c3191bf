//! A log that becomes another one: it loses its end, and others post. Nobody says so at once, and what is known of the place is not
//! exact.

use domain::lane::fork::{FoundLog, Standing};
use domain::log_epoch::{Epoch, Evidence, LogEpoch, Mark};

use super::super::{Input, TargetState};
use super::world::World;

impl World {
    /// The log loses its end, and may grow again, further than it was or not.
    pub(super) fn fork(&mut self) {
        // What the registrar has resolved in a log and the dispatcher has not heard of yet is a known limit.
        let knows = |of: &domain::TypePattern, entry: &domain::Entry| {
            let lane = self.bucket.as_ref().and_then(|lane| lane.entries.get(of));
            lane.is_some_and(|known| known.registration == entry.registration)
        };
        if !self.spec.entries.iter().all(|(of, entry)| knows(of, entry)) {
            return;
        }
        let kept = self.first - 1 + self.dice.below(self.end() + 2 - self.first);
        if kept >= self.end() {
            return;
        }
        self.trace(|| format!("the log loses all behind {kept}"));
        self.logs += 1;
        self.log.truncate(usize::try_from(kept).unwrap());
        self.lost.split_off(&(kept + 1));
        self.undeclared = Some(self.undeclared.map_or(kept, |shared_to| shared_to.min(kept)));
        self.target.applied.split_off(&(kept + 1));
        self.buried.split_off(&(kept + 1));
        if self.target.last > kept {
            (self.target.last, self.target.before_lost) = (kept, None);
        }
        self.target.after_crash = true;
        for promise in self.promises.values_mut() {
            promise.had.split_off(&(kept + 1));
            promise.from = promise.from.min(kept + 1);
        }
        // What was acknowledged in the log of before is not taken up.
        self.floors.retain(|_, (floor, _)| *floor <= kept);
        for _ in 0..self.dice.below(4) {
            self.post();
        }
    }

    /// The log watch sees it, and tells everybody.
    pub(super) fn notice_fork(&mut self) {
        if self.undeclared.is_some() {
            self.declare();
            self.tell(Input::Forked);
        }
    }

    /// Declares it, by a checkpoint that lies somewhere before it.
    fn declare(&mut self) {
        let Some(kept) = self.undeclared.take() else {
            self.wrong("another log is declared where there is none".into());
            return;
        };
        let shared_to = kept - self.dice.below(4).min(kept);
        self.trace(|| format!("another log is declared, behind {shared_to}"));
        let (epoch, at) = (LogEpoch::of(u32::try_from(self.logs).unwrap()), self.now.utc);
        self.record.declare(Epoch { epoch, from_sequence: shared_to + 1, at, reason: String::new(), is_fork: true });
    }

    /// Whether the session was set up in the log that is declared.
    pub(super) fn is_set_up_in_this_log(&self) -> bool {
        let current = self.record.current().map(|epoch| &epoch.epoch);
        self.session.as_ref().is_some_and(|session| session.lane().log_epoch.as_ref() == current)
    }

    /// Compares what the lane has had with the log, as the worker does.
    pub(super) fn follow_log(&mut self) {
        for _ in 0..3 {
            let Some(lane) = self.memory.clone() else { return };
            let mut evidence =
                Evidence { first_sequence: self.first, last_sequence: self.end(), ..Evidence::default() };
            if let Some(mark) = lane.mark.as_ref().filter(|mark| evidence.holds(mark.sequence)) {
                evidence
                    .found
                    .insert(mark.sequence, self.holds(mark.sequence).then(|| Mark::of(&self.event(mark.sequence))));
            }
            let Standing::SharesTo(shared_to) = lane.stands(Some(&self.record), &evidence) else {
                self.declare();
                continue;
            };
            let (mut lane, fresh) = (lane, self.name());
            let current = self.record.current().unwrap().epoch.clone();
            let found = FoundLog { epoch: Some(&current), shared_to, at: self.now.utc };
            if let Some(was_at) = lane.follow_log(&self.spec, found, &fresh) {
                self.trace(|| format!("it was at {was_at}, and goes back to {}", lane.position));
                self.target.after_crash = true;
                self.target_state = TargetState::default();
            }
            self.memory = Some(lane);
            return;
        }
        self.wrong("the lane does not come to a log".into());
    }
}
