//! What the target answers, and what it then has.

use std::time::Duration;

use domain::Subscription;

use super::super::{Input, Landed};
use super::world::{World, pattern};
use crate::push::verdict::{Answer, PushOutcome};

impl World {
    /// A request comes to its end. Answers whether there was one.
    pub(super) fn land_request(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let at = usize::try_from(self.dice.below(self.requests.len() as u64)).unwrap();
        let (load, logs, previous) = self.requests.swap_remove(at);
        let outcome = if !self.is_calm && self.dice.one_in(40) {
            // The lease is over: nothing was sent.
            None
        } else {
            Some(self.answer(&load, &logs, previous))
        };
        let session = self.session.as_ref().unwrap();
        let attempt = session.window().attempts(&load);
        let (at, duration, jitter) = (self.now.utc, Duration::from_millis(1), 0.5);
        self.tell(Input::Landed(Landed { load, attempt, outcome, at, duration, jitter }));
        true
    }

    fn answer(&mut self, load: &[u64], logs: &[u64], previous: u64) -> PushOutcome {
        let status = |status: u16| PushOutcome::Answered(Answer { status, ..Answer::default() });
        if !self.is_calm {
            match self.dice.below(12) {
                0 => return status(500),
                1 if self.dice.one_in(6) => return status(410),
                2 => return PushOutcome::Failed("refused".into()),
                5 if self.dice.one_in(3) => return status(413),
                3 if self.dice.one_in(4) => {
                    let beyond = (self.end() + 1_000_000).to_string();
                    return PushOutcome::Answered(Answer {
                        status: 409,
                        resume_after: Some(beyond),
                        ..Answer::default()
                    });
                }
                // It takes it, and its answer is lost.
                4 if self.dice.one_in(4) && self.is_in_order() && !self.target.was_put_back => {
                    self.take(load, logs, previous);
                    self.target.before_lost.get_or_insert(previous);
                    return PushOutcome::Failed("reset".into());
                }
                _ => {}
            }
        }
        if self.target.was_put_back && self.is_in_order() && previous != self.target.last {
            let resume_after = Some(self.target.last.to_string());
            // It says that it has everything up to there.
            self.gaps.push((1, self.target.last));
            return PushOutcome::Answered(Answer { status: 409, resume_after, ..Answer::default() });
        }
        self.take(load, logs, previous);
        status(204)
    }

    /// Whether events go one after the other.
    fn is_in_order(&self) -> bool {
        self.spec.delivery.mode != domain::delivery_settings::Mode::Concurrent
    }

    fn take(&mut self, load: &[u64], logs: &[u64], previous: u64) {
        // What was read before the log became another one: its name tells the target. In a batch, what is still there counts.
        let there = load.iter().zip(logs).filter(|(sequence, log)| self.is_in(**sequence, **log));
        let there: Vec<u64> = there.map(|(sequence, _)| *sequence).collect();
        if there.len() < load.len() {
            self.sent.retain(|_, sent| !load.contains(sent));
            self.target.after_crash = true;
        }
        let Some(first) = there.first().copied() else { return };
        let is_known = previous == self.target.last || self.target.before_lost.take() == Some(previous);
        let is_known = is_known || std::mem::replace(&mut self.target.after_crash, there.len() < load.len());
        if self.is_in_order() && !is_known && !self.target.applied.contains(&first) {
            let last = self.target.last;
            self.wrong(format!("{first} says that {previous} came before it, where the target took {last} last"));
        }
        self.target.was_put_back &= !self.is_in_order();
        for sequence in &there {
            self.sent.retain(|_, sent| sent != sequence);
            let of = self.type_of(*sequence);
            if !self.target.applied.insert(*sequence) {
                self.target.duplicates += 1;
            }
            if let Some(promise) = self.promises.get_mut(of) {
                // What an earlier session has under way belongs to the line of its own spec.
                let line = |spec: &Subscription| spec.entries.get(&pattern(of)).map(|entry| entry.line().to_owned());
                let is_of_line = self.session.as_ref().is_some_and(|session| line(session.spec()) == line(&self.spec));
                if is_of_line {
                    promise.had.insert(*sequence);
                }
            } else if !self.spec.entries.is_empty() && self.session.as_ref().is_some_and(|s| !s.is_leaving()) {
                self.wrong(format!("{sequence} of type {of} was delivered, and nobody asked for it"));
            }
            self.target.last = *sequence;
        }
    }
}

#[test]
fn of_a_batch_that_was_read_before_a_fork_the_target_has_what_is_still_there() {
    for (kept, applied) in [(0, vec![]), (1, vec![1]), (2, vec![1, 2])] {
        let mut world = World::new(0);
        world.log = (1..=2).map(|sequence| ("a", u64::from(sequence > kept))).collect();
        world.take(&[1, 2], &[0, 0], 0);
        assert_eq!(Vec::from_iter(world.target.applied.iter().copied()), applied, "{kept} are still there");
        assert_eq!(world.target.after_crash, kept < 2, "what comes next need not name the last of them");
    }
}
