//! What is remembered of a target between sessions.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What a target has said, and when it may be called again.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    /// Where it has said that it is, since it took an event last.
    resumed_after: Option<u64>,
    /// How far deliveries had come before it last said so, and how often it did without getting further.
    furthest: Option<u64>,
    times: u32,
    /// No request begins before this moment: because of that, or because of the rate that was asked for.
    not_before: Option<Instant>,
    next_turn: Option<Instant>,
    /// How much data it takes in one request, in bytes, as far as it has said, and until when that is heeded.
    takes_at_most: Option<(usize, Instant)>,
}

/// How long it is heeded that a request was too large.
const HEEDED: Duration = Duration::from_secs(600);

impl TargetState {
    /// When the next request may begin; where it may now, it is taken to begin.
    pub(super) fn takes_turn(&mut self, rate_per_second: Option<u32>, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Err(at);
        }
        let Some(rate) = rate_per_second.and_then(NonZeroU32::new) else { return Ok(()) };
        match self.next_turn.filter(|at| *at > now) {
            Some(at) => Err(at),
            None => {
                self.next_turn = Some(now + Duration::from_secs(1) / rate.get());
                Ok(())
            }
        }
    }

    /// It took an event.
    pub(super) fn took(&mut self) {
        self.resumed_after = None;
    }

    /// It says that a request with so much data was too large. Answers how much the next ones may have.
    pub(super) fn refuses(&mut self, bytes: usize, now: Instant) -> usize {
        let most = bytes / 2;
        self.takes_at_most = Some((most, now + HEEDED));
        most
    }

    /// How much data a request with several events may have, in bytes, where it has said so lately.
    pub(super) fn takes_at_most(&self, now: Instant) -> Option<usize> {
        self.takes_at_most.filter(|(_, until)| now < *until).map(|(most, _)| most)
    }

    /// Whether deliveries went on behind this sequence already, and it has taken nothing since.
    pub(super) fn is_known_to_be_at(&self, sequence: u64) -> bool {
        self.resumed_after == Some(sequence)
    }

    /// It says that it is at a sequence, when deliveries had come to `position`. Answers how often it has said so without
    /// getting further than before: one that goes to and fro is given time.
    pub(super) fn resumes_after(&mut self, sequence: u64, position: u64) -> u32 {
        let is_further = self.furthest.is_none_or(|furthest| position > furthest);
        self.times = if is_further { 0 } else { self.times.saturating_add(1) };
        self.furthest = self.furthest.max(Some(position));
        self.resumed_after = Some(sequence);
        self.times
    }

    pub(super) fn waits_until(&mut self, at: Instant) {
        self.not_before = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_the_rate_that_was_asked_for() {
        let (mut target, now) = (TargetState::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(target.takes_turn(None, now), Ok(()));
        assert_eq!(target.takes_turn(Some(10), now), Ok(()));
        assert_eq!(target.takes_turn(Some(10), at(99)), Err(at(100)));
        assert_eq!(target.takes_turn(Some(10), at(250)), Ok(()), "what was not used is not kept");
        assert_eq!(target.takes_turn(Some(10), at(300)), Err(at(350)));
        target.waits_until(at(900));
        assert_eq!(target.takes_turn(None, at(899)), Err(at(900)));
        assert_eq!(target.takes_turn(None, at(900)), Ok(()));
    }

    #[test]
    fn that_a_request_was_too_large_is_heeded_for_a_while() {
        let (mut target, now) = (TargetState::default(), Instant::now());
        assert_eq!(target.takes_at_most(now), None);
        assert_eq!((target.refuses(1_000, now), target.takes_at_most(now + HEEDED / 2)), (500, Some(500)));
        assert_eq!((target.refuses(500, now), target.takes_at_most(now)), (250, Some(250)));
        assert_eq!(target.takes_at_most(now + HEEDED), None);
    }

    #[test]
    fn who_goes_to_and_fro_is_told_from_who_goes_back_once() {
        let mut target = TargetState::default();
        assert_eq!(target.resumes_after(3, 9), 0);
        assert!(target.is_known_to_be_at(3));
        target.took();
        assert!(!target.is_known_to_be_at(3));
        assert_eq!(target.resumes_after(3, 4), 1, "it took one, and went back again");
        assert_eq!(target.resumes_after(3, 4), 2);
        assert_eq!(target.resumes_after(3, 10), 0, "it had got further");
    }
}
