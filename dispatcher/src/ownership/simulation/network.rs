//! How requests and answers travel in a simulated run.

use super::bucket::{Op, Reply};
use super::faults::Fault;
use super::participant::Purpose;
use super::world::{Event, FAULTS_FROM, World};

/// How long a request may go unanswered.
const DEADLINE: u64 = 2_000;

impl World {
    pub(super) fn faults(&self) -> Vec<Fault> {
        if self.now < FAULTS_FROM { Vec::new() } else { self.schedule.at(self.now).collect() }
    }

    pub(super) fn send(&mut self, of: usize, op: Op, purpose: Purpose) {
        self.requests += 1;
        let id = self.requests;
        self.participants[of].waits_for.insert(id, purpose);
        self.at(self.now + DEADLINE, Event::Expire { of, id });
        let latency = self.random.between(1, 30);
        let (mut is_lost, mut delay, mut copies) = (false, 0, 0);
        for fault in self.faults() {
            match fault {
                Fault::Loss { of: whom, percent } if whom.is_none_or(|whom| whom == of) => {
                    is_lost |= self.random.percent(percent);
                }
                Fault::Late { percent } if self.random.percent(percent) => delay = self.random.between(100, 8_000),
                Fault::Doubled { percent } if self.random.percent(percent) => copies = 1,
                _ => {}
            }
        }
        let arrives = self.now + latency + delay;
        if !is_lost {
            self.at(arrives, Event::Arrive { of, id, op: op.clone(), is_late: delay > 0 });
        }
        for _ in 0..copies {
            let later = arrives + self.random.between(1, 8_000);
            self.at(later, Event::Arrive { of, id, op: op.clone(), is_late: true });
        }
    }

    pub(super) fn arrive(&mut self, of: usize, id: u64, op: &Op, is_late: bool) {
        let (mut is_lost, mut is_old) = (false, false);
        for fault in self.faults() {
            match fault {
                Fault::Outage => is_lost |= !matches!(op, Op::List) || self.random.percent(50),
                Fault::Lag => is_old |= self.random.percent(60),
                _ => {}
            }
        }
        if is_lost {
            return;
        }
        if is_late {
            self.wrong_until = self.wrong_until.max(self.now);
        }
        let mut reply = self.bucket.apply(op, self.now);
        match (&mut reply, &self.old) {
            (Reply::Listed(records), Some((_, old))) if is_old => records.clone_from(old),
            _ => {}
        }
        let is_lost = self.faults().iter().any(|fault| match fault {
            Fault::Loss { of: whom, percent } if whom.is_none_or(|whom| whom == of) => self.random.percent(*percent),
            _ => false,
        });
        if !is_lost {
            let at = self.now + self.random.between(1, 30);
            self.at(at, Event::Answer { of, id, reply });
        }
    }

    /// What a replica answers that lags.
    pub(super) fn remember_old(&mut self) {
        let lag = self
            .schedule
            .faults
            .iter()
            .find(|(fault, from, to)| *fault == Fault::Lag && (*from..*to).contains(&self.now));
        match (lag, &self.old) {
            (Some((_, from, _)), Some((since, _))) if from == since => {}
            (Some((_, from, _)), _) => self.old = Some((*from, self.bucket.list())),
            (None, _) => self.old = None,
        }
    }
}
