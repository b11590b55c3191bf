//! Dead letters. One is decided before it is written: a name for it stands in the lane's failure first. From then on the letter
//! is written under that name, however often that must be tried, and the target is not tried any more.

use domain::delivery_settings::OnExhausted;
use domain::lane::Why;

use super::timers::Timer;
use super::window::Stage;
use super::{Action, Leave, Letter, Now, Session, fresh_name};

/// Where the dead letter of the first event of the window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burial {
    No,
    /// Its name is being written.
    Named {
        sequence: u64,
        was_named: bool,
    },
    /// It is being written.
    UnderWay {
        sequence: u64,
        tries: u32,
    },
    /// It could not be: it is tried again.
    Waits {
        sequence: u64,
        tries: u32,
    },
}

impl<D> Session<D> {
    /// Deals with what was tried as often as was asked for.
    pub(super) fn give_up_on_exhausted(&mut self) {
        if self.burial != Burial::No {
            return;
        }
        let Some(sequence) = self.window.exhausted().map(|slot| slot.sequence) else { return };
        let is_first = self.window.first().is_some_and(|slot| slot.sequence == sequence);
        // What is decided stays decided, whatever the settings say since.
        let failure = self.lane.failure().filter(|failure| failure.sequence == sequence);
        let is_decided = failure.is_some_and(|failure| failure.letter.is_some());
        let on_exhausted = if is_decided { OnExhausted::DeadLetter } else { self.spec.delivery.on_exhausted };
        match on_exhausted {
            OnExhausted::Disable => self.stop(Why::Exhausted, sequence),
            // Those before it come first: there is one position, and one letter at a time.
            OnExhausted::DeadLetter if is_first => self.name_letter(sequence),
            OnExhausted::DeadLetter => {}
            OnExhausted::Hold => self.hold(sequence),
        }
    }

    /// It is not tried any more until the subscription is resumed.
    fn hold(&mut self, sequence: u64) {
        let failure = self.lane.failure_mut().filter(|failure| failure.sequence == sequence);
        if let Some(failure) = failure.filter(|failure| failure.next_attempt.is_some()) {
            failure.next_attempt = None;
            self.window.failed(failure.clone());
            self.changed();
            self.write();
        }
    }

    pub(super) fn stop(&mut self, why: Why, sequence: u64) {
        let at = self.lane.last_attempt.as_ref().map_or(self.lane.updated, |attempt| attempt.at);
        let event = self.window.event(sequence);
        tracing::warn!(
            id = %self.id,
            sequence,
            event_id = event.map(domain::Event::id),
            trace_id = event.and_then(domain::Event::trace_id),
            ?why,
            "lane.stopped"
        );
        self.lane.stop(&self.spec, why, sequence, at);
        self.changed();
        self.write();
        self.leave(Leave::SetUp);
    }

    fn name_letter(&mut self, sequence: u64) {
        let Some(failure) = self.lane.failure_mut().filter(|failure| failure.sequence == sequence) else {
            self.leave(Leave::SetUp);
            return;
        };
        failure.next_attempt = None;
        let was_named = failure.letter.is_some();
        failure.letter.get_or_insert_with(fresh_name);
        self.window.failed(failure.clone());
        self.burial = Burial::Named { sequence, was_named };
        self.changed();
        self.ledger.gate_acknowledgements();
        self.write();
    }

    /// What was to be written is: where that was the letter's name, the letter comes next.
    pub(super) fn name_is_written(&mut self) {
        if let Burial::Named { sequence, was_named } = self.burial
            && !self.ledger.is_writing()
        {
            self.bury(sequence, 1, was_named);
        }
    }

    fn bury(&mut self, sequence: u64, tries: u32, may_be_there: bool) {
        let code = self.lane.last_attempt.as_ref().filter(|attempt| attempt.sequence == sequence);
        let code = code.and_then(|attempt| attempt.code);
        let event = self.window.get(sequence).and_then(|slot| slot.load.as_ref()).map(|load| load.event.clone());
        let (Some(event), Some(failure)) = (event, self.lane.failure()) else {
            self.burial = Burial::No;
            self.leave(Leave::SetUp);
            return;
        };
        let letter = Letter {
            event,
            name: failure.letter.clone().unwrap_or_default(),
            may_be_there,
            attempts: failure.attempts,
            code,
            error: failure.error.clone(),
        };
        self.burial = Burial::UnderWay { sequence, tries };
        self.actions.push_back(Action::Bury(Box::new(letter)));
    }

    pub(super) fn bury_again(&mut self) {
        if let Burial::Waits { sequence, tries } = self.burial {
            self.bury(sequence, tries + 1, true);
        }
    }

    pub(super) fn is_not_buried(&mut self, jitter: f64, now: Now) {
        if let Burial::UnderWay { sequence, tries } = self.burial {
            self.burial = Burial::Waits { sequence, tries };
            self.timers.set(Timer::Burial, now.at + self.backoff.wait(tries, jitter));
        }
    }

    pub(super) fn is_buried(&mut self, now: Now) {
        if let Burial::UnderWay { sequence, .. } = std::mem::replace(&mut self.burial, Burial::No) {
            self.window.set(sequence, Stage::Buried);
            self.settle(now);
        }
    }
}
