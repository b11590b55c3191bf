//! What nats-server does for a lane: it takes writes and acknowledgements, and gives messages and answers.

use domain::log_epoch::Mark;
use domain::required_data::Found;

use super::super::*;
use super::world::{World, Write};

impl World {
    pub(super) fn acknowledge(&mut self, token: u64) {
        self.trace(|| format!("acknowledge {token} under {}", self.epoch));
        // Behind the confirmed write that it depends on: what is beyond the written position was delivered.
        let written = self.bucket.as_ref().map_or(0, |lane| lane.position);
        let is_claimed = self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&token));
        let is_of_other_log = self.undeclared.is_some() || !self.is_set_up_in_this_log();
        let is_covered = is_of_other_log
            || token <= written
            || self.target.applied.contains(&token)
            || self.target.was_put_back
            || is_claimed;
        if !is_covered {
            self.wrong(format!("{token} is acknowledged, and was neither written nor delivered"));
        }
        let (floor, _) = self.floors.entry(self.epoch.clone()).or_insert((0, 0));
        *floor = (*floor).max(token);
    }

    /// What was acknowledged is on disk.
    pub(super) fn flush(&mut self) {
        for (floor, kept) in self.floors.values_mut() {
            *kept = *floor;
        }
    }

    pub(super) fn answer_source(&mut self) {
        // The tail has read all of it, and so has seen what is missing.
        self.notice_holes();
        let Some(session) = &self.session else { return };
        // What was cut off before it was given lets the lane go.
        let is_whole = self.first <= self.reads_from + 1;
        let is_read = is_whole && session.reads() == Reads::Tail && self.backlog(session.lane(), self.reads_from) == 0;
        // The tail may have been read to anywhere behind what it gave.
        let end = self.end();
        let to = is_read.then(|| self.reads_from.max(end - self.dice.below(3).min(end)));
        self.tell(Input::Given { to, is_at_end: to == Some(end) });
    }

    /// The write that is on its way comes to the bucket.
    pub(super) fn land_write(&mut self) {
        let Some(Write { lane, revision, is_of_session }) = self.write.take() else { return };
        if !is_of_session {
            if revision == self.revision {
                self.bucket = Some(lane);
                self.revision += 1;
            }
        } else if self.put(&lane, revision) {
            self.tell(Input::Written);
        } else {
            // Somebody else has written: the worker reads it anew.
            self.target.after_crash = true;
            self.forget_session();
            self.memory = None;
        }
    }

    /// The source gives its next message. Answers whether there was one.
    pub(super) fn give(&mut self) -> bool {
        let Some(session) = self.session.as_ref().filter(|session| session.wants_message()) else { return false };
        let next = (self.reads_from + 1..=self.end())
            .find(|s| self.holds(*s) && Self::passes(session.lane(), self.type_of(*s)));
        let Some(sequence) = next else { return false };
        let is_tail = session.reads() == Reads::Tail;
        if is_tail && self.first > self.reads_from + 1 {
            // It says that it does not have everything.
            self.tell(Input::Unread(Unread::Interrupted));
            return true;
        }
        if is_tail {
            self.notice_holes();
        }
        self.reads_from = sequence;
        let backlog = self.backlog(self.session.as_ref().unwrap().lane(), sequence);
        let event = Some(self.event(sequence));
        self.tell(Input::Read(Message { sequence, event, backlog, token: sequence }));
        true
    }

    /// One of the other things that were begun comes to its end. Answers whether there was one.
    pub(super) fn finish_something(&mut self) -> bool {
        if let Some(sequence) = self.looks.pop_front() {
            self.tell(Input::Found { sequence, found: Found::new() });
        } else if std::mem::take(&mut self.bounds_wanted) {
            self.notice_holes();
            let (first_sequence, last_sequence) = (self.first, self.end());
            self.tell(Input::Bounds { first_sequence, last_sequence });
        } else if std::mem::take(&mut self.joins) {
            if self.first <= self.reads_from + 1 && !self.dice.one_in(3) {
                self.notice_holes();
                self.tell(Input::Joined);
                self.epoch = self.session.as_ref().unwrap().lane().epoch.to_string();
            } else {
                self.tell(Input::NotJoined);
            }
        } else if std::mem::take(&mut self.looks_for_end) {
            let is_read =
                self.session.as_ref().is_some_and(|session| self.backlog(session.lane(), self.reads_from) == 0);
            self.notice_holes();
            let to = ReadTo { sequence: self.end(), moment: self.now.utc };
            self.tell(Input::ReadToEnd(is_read.then_some(to)));
        } else if let Some(mark) = self.compares.take() {
            let is_cut = mark.sequence > self.end();
            let is_there = self.holds(mark.sequence);
            let is_in = !is_cut && (!is_there || Mark::of(&self.event(mark.sequence)) == mark);
            self.tell(Input::Compared { is_in });
        } else if let Some((sequence, of_log)) = self.letter.take() {
            if self.is_calm || self.dice.one_in(2) {
                if self.is_in(sequence, of_log) {
                    self.buried.insert(sequence);
                }
                self.sent.retain(|_, sent| *sent != sequence);
                self.tell(Input::Buried);
            } else {
                self.tell(Input::NotBuried { jitter: 0.5 });
            }
        } else {
            return false;
        }
        true
    }
}
