//! What a session waits for: a table with one place for each, and one deadline.

use std::time::Instant;

/// Something that is to be done at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// What the target has had is acknowledged.
    Acknowledge,
    /// The position is written, while there is something to write.
    Checkpoint,
    /// It is looked whether the lane has caught up, while it has not: with the tail, or that with the log.
    Look,
    /// The consumer has to show where the lane is, while it is not read.
    Show,
    /// It has to be looked whether an entry's end is over, while one has an end.
    EndCheck,
    /// It is written that nothing was missed.
    Note,
    /// It is looked whether the newest event that the lane has had is in the log, while it does not follow the tail.
    Compare,
    /// The rate that was asked for, or a target that goes to and fro, lets the next request begin.
    Turn,
    /// Something in the window may be sent.
    Window,
    /// A dead letter is tried again.
    Burial,
}

const ALL: [Timer; 10] = [
    Timer::Acknowledge,
    Timer::Checkpoint,
    Timer::Look,
    Timer::Show,
    Timer::EndCheck,
    Timer::Note,
    Timer::Compare,
    Timer::Turn,
    Timer::Window,
    Timer::Burial,
];

/// When each is due, if it is.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.put(timer, Some(at));
    }

    pub(super) fn put(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    pub(super) fn set_if_idle(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize].get_or_insert(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.put(timer, None);
    }

    /// One that is due.
    pub(super) fn expired(&self, now: Instant) -> Option<Timer> {
        ALL.into_iter().find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))
    }

    /// The next moment at which one is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_due_first_comes_first_and_each_stands_once() {
        let now = Instant::now();
        let at = |secs| now + Duration::from_secs(secs);
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.expired(at(9))), (None, None));
        timers.set(Timer::Note, at(5));
        timers.set(Timer::Checkpoint, at(3));
        timers.set_if_idle(Timer::Checkpoint, at(1));
        assert_eq!(
            (timers.next(), timers.expired(at(2)), timers.expired(at(3))),
            (Some(at(3)), None, Some(Timer::Checkpoint))
        );
        timers.stop(Timer::Checkpoint);
        assert_eq!(timers.next(), Some(at(5)));
        // Each stands where its own name says.
        for (i, timer) in ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, i);
        }
    }
}
