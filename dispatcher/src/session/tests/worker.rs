//! What the worker does for a lane: it sets up, opens a source, writes, and carries out what a session wants done.

use domain::TargetUrl;
use domain::delivery_settings::Mode;
use domain::lane::gap::{Beginning, Loss};
use domain::lane::{Epoch, Lane};
use domain::log_epoch::Mark;

use super::super::*;
use super::world::{World, Write, transaction_of};

impl World {
    /// As the worker does: what was written, how far it had come since, the spec, and where the log begins.
    pub(super) fn set_up(&mut self) {
        if self.session.is_some() || self.spec.entries.is_empty() {
            return;
        }
        let mut is_written = true;
        if self.memory.is_none() {
            self.known_revision = self.revision;
            self.memory = self.bucket.clone();
            let kept = self.first..=self.end();
            if let Some(lane) = &mut self.memory
                && let Some((floor, _)) = self.floors.get(&lane.epoch.to_string()).copied()
                && (!lane.epoch.has_consumer() || (kept.contains(&floor) && !self.lost.contains(&floor)))
            {
                let mark = self.holds(floor).then(|| Mark::of(&self.event(floor)));
                self.memory.as_mut().unwrap().adopt_floor(floor, mark);
            }
            if self.dice.one_in(3)
                && let Some(lane) = &mut self.memory
            {
                // A take-over with fencing.
                self.names += 1;
                lane.epoch = Epoch::WithoutConsumer(format!("f{}", self.names));
                is_written = false;
            }
        }
        self.follow_log();
        is_written &= !self.hears_of_holes();
        let fresh = Epoch::WithoutConsumer(self.name());
        let mut lane = Lane::reconcile(self.memory.as_ref(), &self.spec, fresh);
        let before = self.memory.as_ref();
        if before.is_some_and(|before| before.state.gap().is_some() && before.resumption != self.spec.resumption) {
            lane.go_on_at(self.first);
            // The user has said that what was removed is not waited for.
            self.gaps.push((1, self.first - 1));
        }
        let begins = Beginning {
            sequence: self.first,
            stored_at: (self.first <= self.end()).then(|| self.stored_at(self.first)),
        };
        self.trace(|| {
            format!(
                "set up at {} (clear to {}) in a log from {}, by {:?}",
                lane.position,
                lane.clear_to,
                self.first,
                self.spec.entries.keys()
            )
        });
        match lane.take_in_beginning(&self.spec, begins, self.now.utc) {
            Loss::None | Loss::Allowed(_) => {}
            Loss::Stops(gap) => {
                self.trace(|| format!("{gap:?}"));
                self.gaps.push((gap.from_sequence, gap.to_sequence));
            }
        }
        lane.sees(&self.holes);
        self.remember_position(&mut lane);
        if (!is_written || self.memory.as_ref() != Some(&lane) || self.bucket.as_ref() != Some(&lane))
            && !self.put(&lane, self.known_revision)
        {
            self.memory = None;
            return;
        }
        self.memory = Some(lane.clone());
        if !lane.state.is_at_work() {
            return;
        }
        self.begin(lane);
    }

    /// Has a lane hear of all holes, as the worker does, before it is set up. Where it waits at one, it has said so.
    fn hears_of_holes(&mut self) -> bool {
        self.account_for_holes();
        let Some(lane) = &mut self.memory else { return false };
        let is_news = lane.settle_doubt(&self.spec, &self.holes, self.first);
        if lane.waits_at_hole() {
            self.gaps.extend(lane.state.gap().map(|gap| (gap.from_sequence, gap.to_sequence)));
        }
        is_news
    }

    /// Has a lane remember what stands at its position, as the worker does.
    fn remember_position(&self, lane: &mut Lane) {
        lane.log_epoch = self.record.current().map(|epoch| epoch.epoch.clone());
        let is_known = lane.mark.as_ref().is_some_and(|mark| mark.sequence >= lane.position);
        if !is_known && self.holds(lane.position) {
            lane.is_marked_by(Some(Mark::of(&self.event(lane.position))));
        }
    }

    /// Opens a source, and begins a session.
    fn begin(&mut self, mut lane: Lane) {
        let reads = [Reads::Consumer, Reads::Past, Reads::Tail][usize::try_from(self.dice.below(3)).unwrap()];
        let has_consumer = reads == Reads::Consumer;
        if has_consumer != lane.epoch.has_consumer() {
            let name = self.name();
            lane.epoch = if has_consumer { Epoch::Consumer(name) } else { Epoch::WithoutConsumer(name) };
            if !self.put(&lane, self.known_revision) {
                self.memory = None;
                return;
            }
        }
        self.reads_from = lane.position.max(self.first - 1);
        let backlog = self.backlog(&lane, self.reads_from);
        self.memory = None;
        self.epoch = lane.epoch.to_string();
        let begin = Begin {
            id: TargetUrl::parse("http://target/").unwrap().subscription_id(),
            spec: Arc::new(self.spec.clone()),
            lane,
            reads,
            holes: self.holes.clone(),
            backlog,
            target: std::mem::take(&mut self.target_state),
            backoff: Backoff::default(),
            first_note: Duration::from_secs(60 + self.dice.below(600)),
        };
        self.session = Some(Session::new(begin, self.now));
    }

    pub(super) fn put(&mut self, lane: &Lane, revision: u64) -> bool {
        if revision != self.revision {
            return false;
        }
        // What is in the bucket is what is read back: looked at now and then, as it takes most of a run's time.
        let is_read_back = self.dice.one_in(16);
        self.bucket = Some(if is_read_back { read_back(lane) } else { lane.clone() });
        self.revision += 1;
        self.known_revision = self.revision;
        true
    }

    /// Carries out the next action. Answers whether there was one.
    pub(super) fn act(&mut self) -> bool {
        let Some(action) = self.session.as_mut().and_then(Session::next_action) else { return false };
        match action {
            Action::Write(lane) => {
                self.trace(|| format!("write {} {:?} clear to {}", lane.position, lane.state.word(), lane.clear_to));
                if self.write.as_ref().is_some_and(|write| write.is_of_session) {
                    self.wrong("two writes at a time".into());
                }
                self.write = Some(Write { lane: *lane, revision: self.known_revision, is_of_session: true });
            }
            Action::Acknowledge(token) => self.acknowledge(token),
            Action::Send(load) => {
                let session = self.session.as_ref().unwrap();
                let items = session.window().items(&load, session.lane().last_delivered);
                let previous = items.first().map_or(0, |(_, _, previous)| *previous);
                let logs: Vec<u64> = items.iter().map(|(event, ..)| Self::log_of(event)).collect();
                if logs.len() != load.len() {
                    self.wrong(format!("of {load:?} not all is sent"));
                }
                self.is_sent(&load);
                self.requests.push((load, logs, previous));
            }
            Action::Look { event, .. } => self.looks.push_back(event.sequence),
            Action::LookUpBounds => self.bounds_wanted = true,
            Action::Compare(mark) => self.compares = Some(mark),
            Action::AskSource => self.answer_source(),
            Action::JoinTail { .. } => self.joins = true,
            Action::Show => {}
            Action::LookForEnd => self.looks_for_end = true,
            Action::Bury(letter) => {
                if letter.name.is_empty() {
                    self.wrong("a letter without a name".into());
                }
                self.letter = Some((letter.event.sequence, Self::log_of(&letter.event)));
            }
            Action::End(_) => {
                let session = self.session.take().unwrap();
                if self.write.as_ref().is_some_and(|write| write.is_of_session) {
                    self.wrong("it ended while it wrote".into());
                }
                let (lane, target) = session.into_parts();
                (self.memory, self.target_state) = (Some(lane), target);
                self.forget_session();
            }
        }
        true
    }

    /// A transaction's events go one after the other in concurrent mode, too.
    fn is_sent(&mut self, load: &[u64]) {
        let is_concurrent = self.session.as_ref().is_some_and(|s| s.spec().delivery.mode == Mode::Concurrent);
        if !is_concurrent {
            return;
        }
        for sequence in load {
            let before = self.sent.insert(transaction_of(*sequence), *sequence);
            if let Some(before) = before.filter(|before| before != sequence) {
                self.wrong(format!("{sequence} overtakes {before} of its transaction"));
            }
        }
    }
}

fn read_back(lane: &Lane) -> Lane {
    serde_json::from_slice(&serde_json::to_vec(lane).unwrap()).unwrap()
}
