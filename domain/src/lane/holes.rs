//! What a lane does where the log has lost events that it may have wanted.

use super::{Gap, Lane, State};
use crate::delivery_settings::OnHole;
use crate::log_holes::{Hole, LogHoles};
use crate::subscription::Subscription;

impl Lane {
    /// The first loss behind `after`, and not beyond `to`, that an entry may have wanted something of.
    pub fn comes_to<'a>(&self, spec: &Subscription, holes: &'a LogHoles, after: u64, to: u64) -> Option<&'a Hole> {
        holes.lost_within(after, to).filter(|hole| self.concerned(spec, hole.to_sequence).next().is_some())
    }

    /// Remembers the hole that it has come to. Answers whether that is news.
    pub fn meets(&mut self, hole: &Hole) -> bool {
        let is_news = self.hole.as_deref() != Some(hole);
        if is_news {
            self.hole = Some(Box::new(hole.clone()));
        }
        is_news
    }

    /// Whether it is to wait at a hole, rather than go on.
    pub fn is_stopped_by_hole(&self, spec: &Subscription, hole: &Hole) -> bool {
        spec.delivery.on_hole == OnHole::Wait && self.is_stopped_by(spec, &gap_of(hole, hole.to_sequence))
    }

    /// Waits at a hole. All that it wants before the hole has been delivered, and there is nothing that it wants up to `to`.
    pub fn waits_at(&mut self, hole: &Hole, to: u64) {
        self.meets(hole);
        let gap = State::Gap(gap_of(hole, to));
        match &self.state {
            State::Active | State::Held(_) => self.state = gap,
            State::Paused(before) if before.is_at_work() => self.state = State::Paused(Box::new(gap)),
            _ => {}
        }
    }

    /// Takes in which holes there are, and where the log begins, by look-ups that began after the last skip: see
    /// [`Lane::is_whole_from`]. Where the skip was over a loss, the lane waits there. Answers whether anything is news.
    pub fn settle_doubt(&mut self, spec: &Subscription, holes: &LogHoles, first_sequence: u64) -> bool {
        let waits_elsewhere = self.waits_at_earlier(spec, holes) || self.waits_for_nothing(holes);
        let Some(unsure_from) = self.unsure_from else { return waits_elsewhere };
        let to = self.position.max(self.clear_to);
        let hole = self.comes_to(spec, holes, unsure_from.saturating_sub(1), to).cloned();
        if let Some(hole) = &hole {
            if self.is_stopped_by_hole(spec, hole) {
                self.waits_at(hole, to);
            }
            self.meets(hole);
        }
        self.is_whole_from(first_sequence) || hole.is_some() || waits_elsewhere
    }

    /// Where the log has again what it had lost where the lane waits, the lane goes on there: resuming it gives up nothing.
    fn waits_for_nothing(&mut self, holes: &LogHoles) -> bool {
        let Some(gap) = self.state.gap().filter(|_| self.waits_at_hole()) else { return false };
        let is_over = holes.leave_whole((gap.from_sequence, gap.to_sequence));
        if is_over {
            self.leave_hole();
        }
        is_over
    }

    /// Where a loss is known by now that lies before the hole at which it waits, it waits there: who resumes it passes one at a time.
    fn waits_at_earlier(&mut self, spec: &Subscription, holes: &LogHoles) -> bool {
        let Some(gap) = self.state.gap().filter(|_| self.waits_at_hole()) else { return false };
        let earlier = self.comes_to(spec, holes, self.accounted_to(), gap.to_sequence).cloned();
        let Some(hole) = earlier.filter(|hole| hole.from_sequence < gap.from_sequence) else { return false };
        self.leave_hole();
        self.waits_at(&hole, gap.to_sequence);
        true
    }

    /// Whether it waits because of a hole, paused or not.
    pub fn waits_at_hole(&self) -> bool {
        let (Some(gap), Some(hole)) = (self.state.gap(), &self.hole) else { return false };
        gap.from_sequence == hole.from_sequence && gap.noticed == hole.noticed
    }

    /// It waits at no hole any more, as it moves back.
    pub(super) fn leave_hole(&mut self) {
        if self.waits_at_hole() {
            let is_paused = matches!(self.state, State::Paused(_));
            self.state = if is_paused { State::Paused(Box::new(State::Active)) } else { State::Active };
        }
    }

    /// Whether it waits because of a hole, and is not to any more.
    pub(super) fn passes_hole(&self, spec: &Subscription) -> bool {
        spec.delivery.on_hole == OnHole::Continue && self.waits_at_hole()
    }

    /// Takes in which holes there are: the one that it has come to is remembered for as long as it is one, and otherwise the next
    /// one. Answers whether that is news.
    pub fn sees(&mut self, holes: &LogHoles) -> bool {
        let is_still_one = |met: &Hole| holes.all().iter().any(|hole| hole.to_sequence == met.to_sequence);
        if self.waits_at_hole() || self.hole.as_deref().is_some_and(is_still_one) {
            return false;
        }
        let next = holes.first_behind(self.accounted_to()).cloned().map(Box::new);
        let is_news = self.hole != next;
        self.hole = next;
        is_news
    }
}

/// As a gap: up to where nothing was given.
fn gap_of(hole: &Hole, to: u64) -> Gap {
    Gap { from_sequence: hole.from_sequence, to_sequence: hole.to_sequence.min(to), noticed: hole.noticed }
}
